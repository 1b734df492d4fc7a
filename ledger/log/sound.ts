import { LineFault } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import type { LogStorage, SegmentFile } from '../storage/storage.ts';
import { Chain, type ChainState } from './chain.ts';
import { LogDamagedError } from './damage.ts';

/** How much of a log holds, from its first line on. */
export interface Sound {
  /** Everything up to the last checkpoint that holds. */
  state: ChainState;
  /** Where that checkpoint's line ends; null where there is none. */
  end: { segment: number; offset: number } | null;
  /** The first thing after it that does not hold, a torn tail included; null where nothing stands there. */
  damage: LogDamagedError | null;
}

export interface SoundOptions {
  /** Of a log that begins at a snapshot: what is known there. @default it begins at entry 0 */
  begins?: ChainState | null;
  /** The reading ends at the first checkpoint of at least this size. @default all there is */
  upTo?: number;
  /** Awaited after a run of lines: reports progress, and may make the reading wait. */
  paced?: (at: { entries: number; bytes: number }) => Promise<void> | void;
  signal?: AbortSignal;
}

/** Lines that are looked at before others get a turn: a few milliseconds of signatures. */
const LINES_AT_ONCE = 64;

/**
 * Reads a log in bounded memory and checks every line, root and signature, up to the first that does not hold. Changes
 * nothing, and is for logs that are damaged or that others write to: `scanLog` is how a log is opened.
 */
export async function readSound(storage: LogStorage, options: SoundOptions = {}): Promise<Sound> {
  const chain = new Chain('all', options.begins ?? undefined);
  const begin = chain.next;
  const sound: Sound = { state: chain.settled, end: null, damage: null };
  const upTo = options.upTo ?? Number.MAX_SAFE_INTEGER;
  let bytesBefore = 0;
  for (const segment of await storage.list()) {
    if (segment < begin) continue;
    if (segment !== chain.next || chain.pending > 0) {
      const at = sound.end ?? { segment, offset: 0 };
      const place = { segment: storage.describe(at.segment), offset: at.offset, index: chain.next };
      sound.damage = new LogDamagedError(place, `a segment that begins with entry ${segment}`);
      return sound;
    }
    const file = await storage.open(segment, 'read');
    try {
      const read = await readSegment(storage, segment, file, { chain, sound, upTo, bytesBefore, options });
      if (read === null) return sound;
      bytesBefore += read;
    } finally {
      await file.close();
    }
  }
  if (chain.pending > 0 && sound.damage === null) {
    const { segment, offset } = sound.end ?? { segment: 0, offset: 0 };
    const place = { segment: storage.describe(segment), offset, index: sound.state.frontier.size };
    sound.damage = new LogDamagedError(place, 'entries without a checkpoint');
  }
  return sound;
}

/** Bytes of the segment; null: the reading ends here. */
async function readSegment(
  storage: LogStorage,
  segment: number,
  file: SegmentFile,
  {
    chain,
    sound,
    upTo,
    bytesBefore,
    options,
  }: { chain: Chain; sound: Sound; upTo: number; bytesBefore: number; options: SoundOptions },
): Promise<number | null> {
  let end = 0;
  const damaged = (offset: number, why: string, cause?: unknown): null => {
    const place = { segment: storage.describe(segment), offset, index: chain.next };
    sound.damage = new LogDamagedError(place, why, cause);
    return null;
  };
  for await (const { lines, rest } of lineRuns(file, 0)) {
    for (const [at, { line, offset }] of lines.entries()) {
      try {
        chain.push(line);
      } catch (error) {
        if (!(error instanceof LineFault)) throw error;
        return damaged(offset, error.message, error);
      }
      end = offset + line.length + 1;
      if (chain.pending === 0) {
        sound.state = chain.settled;
        sound.end = { segment, offset: end };
        if (chain.next >= upTo) return null;
      }
      if ((at + 1) % LINES_AT_ONCE === 0) await paced();
    }
    await paced();
    if (rest !== null) return damaged(rest.offset, 'an unterminated line');
  }
  return end;

  async function paced(): Promise<void> {
    options.signal?.throwIfAborted();
    await options.paced?.({ entries: chain.next, bytes: bytesBefore + end });
  }
}
