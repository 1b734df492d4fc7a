import { SuperfleetError } from '../../protocol/errors.ts';
import type { Checkpoint } from '../lines/checkpoint.ts';
import type { Entry } from '../lines/entry.ts';
import { formatCheckpoint, LineFault } from '../lines/line.ts';
import type { Digest } from '../proofs/merkle.ts';
import { type Chain, checkSignature } from './chain.ts';
import type { CommittedBatch } from './durable-log.ts';

const NEWLINE = 0x0a;

/** Lines of one batch and its checkpoint, as they are written. */
export function batchOf(lines: readonly string[], checkpoint: Checkpoint): Buffer {
  // Two texts: the dash of a checkpoint would make one of both take two bytes a character.
  const entries = `${lines.join('\n')}\n`;
  const last = `${formatCheckpoint(checkpoint)}\n`;
  const length = Buffer.byteLength(entries);
  const bytes = Buffer.allocUnsafe(length + Buffer.byteLength(last));
  bytes.write(entries);
  bytes.write(last, length);
  return bytes;
}

/**
 * Pushes every line of one or more whole batches that came from elsewhere; the answer stands for all of them. A chain that
 * defers signatures has that of the last checkpoint checked. Throws
 * `SF_NOT_PROVED` where one does not follow the chain, which is then of no use any more.
 */
export function takeBatches(chain: Chain, bytes: Buffer): CommittedBatch {
  const entries: Entry[] = [];
  const leaves: Digest[] = [];
  const bad = (why: string): SuperfleetError =>
    new SuperfleetError('SF_NOT_PROVED', `batches do not follow this log at entry ${chain.next}: ${why}`);
  let begin = 0;
  for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, begin)) {
    const line = bytes.subarray(begin, end);
    try {
      const parsed = chain.push(line);
      if (parsed.kind === 'entry') {
        entries.push(parsed.entry);
        leaves.push(chain.leaf);
      }
    } catch (error) {
      throw error instanceof LineFault ? bad(error.message) : error;
    }
    begin = end + 1;
  }
  if (begin < bytes.length || chain.pending > 0 || entries.length === 0) {
    throw bad('the bytes are no whole batches');
  }
  const { settled } = chain;
  if (chain.signatures === 'deferred') {
    try {
      checkSignature(settled);
    } catch (error) {
      throw error instanceof LineFault ? bad(error.message) : error;
    }
  }
  const checkpoint = settled.checkpoint!;
  return { first: entries[0]!.index, last: checkpoint.size - 1, checkpoint, entries, leaves, bytes };
}
