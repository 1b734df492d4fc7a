import { entryLineBytesMax } from '../../protocol/limits.ts';
import { type Line, LineFault, parseLine } from '../lines/line.ts';
import type { Chain } from './chain.ts';

/**
 * Which bytes after the last valid checkpoint are a write that a crash cut short, and which are damage (promise 3).
 * A batch is one write and one sync, and the next begins only when that returned. So a crash leaves either a
 * beginning of one batch, or one batch with whole sectors of zeros in it. Nothing else is torn. A replica writes the
 * batches of one piece together; what is said of a batch holds of its piece.
 */

/** File systems lose whole sectors; nothing smaller is a crash's doing. */
const SECTOR_BYTES = 512;
const NEWLINE = 0x0a;

/** Why a tail is not torn but damaged. `at` counts from the beginning of the tail. */
export interface TailFault {
  at: number;
  index: number;
  why: string;
}

/**
 * Null where the tail is torn and may be cut, otherwise the first thing that no crash explains. `offset` is where the
 * tail begins in its file, `chain` the chain up to the last valid checkpoint; it is read on.
 */
export function tailFault(
  tail: Buffer,
  offset: number,
  chain: Chain,
  writes: 'batch' | 'piece' = 'batch',
): TailFault | null {
  return isZeroFilled(tail, offset) ? sparseFault(tail, chain, writes) : prefixFault(tail, chain);
}

/** Without zeros: complete entries that follow each other, no complete checkpoint, then the beginning of a line. */
function prefixFault(tail: Buffer, chain: Chain): TailFault | null {
  let begin = 0;
  for (let end = tail.indexOf(NEWLINE); end !== -1; end = tail.indexOf(NEWLINE, begin)) {
    try {
      // A checkpoint that can follow is no part of a tail: the scan has taken it.
      const { kind } = chain.push(tail.subarray(begin, end));
      if (kind === 'checkpoint') throw new Error('a valid checkpoint was left in the tail');
    } catch (error) {
      if (!(error instanceof LineFault)) throw error;
      return { at: begin, index: chain.next, why: error.message };
    }
    begin = end + 1;
  }
  const why = beginningFault(tail.subarray(begin), chain);
  return why === null ? null : { at: begin, index: chain.next, why };
}

/** With zeros: every line that has none must be sound, and a checkpoint can only be the very end. */
function sparseFault(tail: Buffer, chain: Chain, writes: 'batch' | 'piece'): TailFault | null {
  let begin = 0;
  let least = chain.next;
  let unbroken = true;
  for (let end = tail.indexOf(NEWLINE); end !== -1; end = tail.indexOf(NEWLINE, begin)) {
    const line = tail.subarray(begin, end);
    if (line.includes(0)) {
      unbroken = false;
    } else {
      const parsed = soundLine(line);
      if (typeof parsed === 'string') return { at: begin, index: least, why: parsed };
      const ends = end + 1 === tail.length;
      if (parsed.kind === 'checkpoint' && !ends && writes === 'batch') {
        return { at: begin, index: least, why: 'zeros in a batch that others follow' };
      }
      const index = parsed.kind === 'entry' ? parsed.entry.index : parsed.checkpoint.size;
      if (index < least || (unbroken && index !== least)) {
        return { at: begin, index: least, why: `index ${index} where ${least} must come` };
      }
      least = parsed.kind === 'entry' ? index + 1 : index;
    }
    begin = end + 1;
  }
  return null;
}

function soundLine(line: Buffer): Line | string {
  try {
    return parseLine(line);
  } catch (error) {
    if (error instanceof LineFault) return error.message;
    throw error;
  }
}

/** True where there are zeros, and all of them are whole sectors (or reach from where the write began, or to its end). */
function isZeroFilled(tail: Buffer, offset: number): boolean {
  let zeros = false;
  for (let begin = tail.indexOf(0); begin !== -1; ) {
    let end = begin;
    while (end < tail.length && tail[end] === 0) end += 1;
    const beginsWhole = begin === 0 || (offset + begin) % SECTOR_BYTES === 0;
    const endsWhole = end === tail.length || (offset + end) % SECTOR_BYTES === 0;
    if (!beginsWhole || !endsWhole) return false;
    zeros = true;
    begin = tail.indexOf(0, end);
  }
  return zeros;
}

/** Why these bytes cannot be the beginning of the line that would come next; null where they can. */
function beginningFault(rest: Buffer, chain: Chain): string | null {
  if (rest.length === 0) return null;
  if (rest.length >= entryLineBytesMax) return `a line of more than ${entryLineBytesMax} bytes`;
  const text = rest.toString('latin1');
  const starts = [`{"index":${chain.next},"epoch":`, ...(chain.pending > 0 ? ['{"checkpoint":"'] : [])];
  const fits = starts.some((start) => start.startsWith(text.slice(0, start.length)));
  if (!fits) return 'an unterminated line that is not the beginning of the next one';
  return staysOneObject(text) ? null : 'an unterminated line with bytes after its end';
}

/** JSON text, whole or cut, in which the outermost object closes at the very end or not at all. */
function staysOneObject(text: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at]!;
    if (char < ' ' || (at > 0 && depth === 0)) return false;
    if (quoted) {
      if (char === '\\') at += 1;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === '{' || char === '[') depth += 1;
    else if (char === '}' || char === ']') depth -= 1;
  }
  return true;
}
