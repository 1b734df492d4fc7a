import { batchBytesMax, entryLineBytesMax } from '../../protocol/limits.ts';
import type { Checkpoint } from '../lines/checkpoint.ts';
import type { Entry } from '../lines/entry.ts';
import { LineFault } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import type { LinePlace, LogStorage, SegmentFile } from '../storage/storage.ts';
import { Chain, type ChainState, checkSignature, checkSignatureAside } from './chain.ts';
import { LogDamagedError } from './damage.ts';
import { Offsets } from './offsets.ts';
import { tailFault } from './tail.ts';
import { NewestUnchecked, type Unchecked } from './unchecked.ts';

/** A torn write is at most this long: of the founder one batch, of a replica as many as come in one piece. */
export const tailBytesMax = { batch: batchBytesMax + entryLineBytesMax, piece: 2 * batchBytesMax };

/** Signatures that `recent` checks: about a quarter of a second of one processor. */
const recentSignatures = 2048;
/** So many of them are checked in the thread pool: of fewer the way there and back takes as long. */
const asideFrom = 512;

/** Where the log ends and how. */
export interface Scan {
  chain: Chain;
  offsets: Offsets;
  /** First index of the last segment; null where there is none. */
  last: number | null;
  /** Length of the last segment up to and with its last valid checkpoint. */
  end: number;
  /** Bytes after it, left by a write that a crash cut short. */
  tornBytes: number;
  /** Index of the first entry that was read. */
  from: number;
  /** Bytes up to there from where the scan began. */
  bytes: number;
}

/** How far a scan has come. */
export interface ScanProgress {
  entries: number;
  bytes: number;
}

/** Where a scan may begin: right after a checkpoint that is known to hold. */
export interface ScanStart {
  /** The log up to that checkpoint. */
  chain: ChainState;
  /** Of the line after it. */
  place: LinePlace;
  /** Where entries before it lie. */
  offsets: Offsets;
}

export interface ScanOptions {
  /** What is before is neither read nor checked. @default the beginning of the log */
  from?: ScanStart | null;
  /**
   * `all`: every checkpoint's signature. `recent`: the newest of them and the last of each segment, so that a start does
   * not wait for all; the entries under the others are under those too.
   */
  signatures: 'all' | 'recent';
  /** What one write of this log holds: one batch of the founder's, or a replica's piece of several. @default 'batch' */
  writes?: 'batch' | 'piece';
  /** Called after each chunk. */
  onProgress?: (progress: ScanProgress) => void;
  signal?: AbortSignal | undefined;
  /**
   * Called with the entries of each batch in order once its root is right, so that whoever replays them reads the log
   * once. Entries of a torn tail never come. What was made of them counts only when the scan resolves: the signatures
   * come last.
   */
  onBatch?: (entries: Entry[], checkpoint: Checkpoint) => void;
}

/**
 * Reads all segments in bounded memory and checks every line against the ones before it. Changes nothing. Throws
 * `LogDamagedError` at the first thing that neither follows nor is a torn tail.
 */
export async function scanLog(storage: LogStorage, options: ScanOptions): Promise<Scan> {
  const { from = null } = options;
  const segments = (await storage.list()).filter((first) => first >= (from?.place.segment ?? 0));
  const chain = new Chain(options.signatures === 'all' ? 'all' : 'deferred', from?.chain);
  const offsets = from?.offsets ?? new Offsets();
  const last = segments.at(-1) ?? null;
  const begun = { from: chain.next, end: 0, tornBytes: 0, bytes: 0 };
  const scan: Scan = { chain, offsets, last, ...begun };
  const unchecked = new NewestUnchecked(recentSignatures);
  for (const segment of segments) {
    const begin = segment === from?.place.segment ? from.place.offset : 0;
    const report = (bytes: number): void =>
      options.onProgress?.({ entries: scan.chain.next, bytes: scan.bytes + bytes - begin });
    const file = await storage.open(segment, 'read');
    try {
      await scanSegment(storage, segment, begin, file, scan, unchecked, options, report);
      scan.bytes += scan.end - begin;
    } finally {
      await file.close();
    }
  }
  if (options.signatures === 'recent') await checkNewest(storage, [...unchecked.newest()]);
  return scan;
}

/** Throws for the oldest that does not hold. */
async function checkNewest(storage: LogStorage, newest: readonly Unchecked[]): Promise<void> {
  if (newest.length < asideFrom) {
    for (const each of newest) check(storage, each);
    return;
  }
  const checked = await Promise.allSettled(newest.map((each) => checkSignatureAside(signed(each))));
  for (const [at, one] of checked.entries())
    if (one.status === 'rejected') throw damagedAt(storage, newest[at]!, one.reason);
}

function check(storage: LogStorage, each: Unchecked): void {
  try {
    checkSignature(signed(each));
  } catch (error) {
    throw damagedAt(storage, each, error);
  }
}

/** That every checkpoint speaks of this mesh was checked when it was read. */
const signed = ({ checkpoint, signedBy }: Unchecked) => ({ meshId: checkpoint.origin, signedBy, checkpoint });

function damagedAt(
  storage: LogStorage,
  { checkpoint, segment, offset }: Unchecked,
  error: unknown,
): LogDamagedError {
  const place = { segment: storage.describe(segment), offset, index: checkpoint.size };
  return new LogDamagedError(place, (error as Error).message, error);
}

async function scanSegment(
  storage: LogStorage,
  segment: number,
  begin: number,
  file: SegmentFile,
  scan: Scan,
  unchecked: NewestUnchecked,
  options: ScanOptions,
  report: (bytes: number) => void,
): Promise<void> {
  const { chain } = scan;
  const writes = options.writes ?? 'batch';
  const damaged = (offset: number, index: number, why: string, cause?: unknown): LogDamagedError =>
    new LogDamagedError({ segment: storage.describe(segment), offset, index }, why, cause);
  if (begin === 0 && segment !== chain.next)
    throw damaged(0, chain.next, `a segment that begins with entry ${segment}`);

  let end = begin;
  let pending: Entry[] = [];
  let fault: { offset: number; index: number; why: string } | null = null;
  // What is appended while this reads is not looked at: it belongs to a batch under way.
  const size = await file.size();
  for await (const { lines, rest } of lineRuns(file, begin, size)) {
    options.signal?.throwIfAborted();
    for (const { line, offset } of lines) {
      const index = chain.next;
      const batch = index - chain.pending;
      try {
        const parsed = chain.push(line);
        if (parsed.kind === 'entry') {
          if (options.onBatch !== undefined) pending.push(parsed.entry);
          // No batch is longer, so no checkpoint will come that may cover this.
          if (offset - end > tailBytesMax.batch) throw new LineFault('no checkpoint for longer than a batch');
        } else {
          scan.offsets.add({ index: batch, segment, offset: end });
          unchecked.add(line, chain.settled.signedBy!, segment, offset);
          options.onBatch?.(pending, parsed.checkpoint);
          pending = [];
          end = offset + line.length + 1;
        }
      } catch (error) {
        if (!(error instanceof LineFault)) throw error;
        fault = { offset, index, why: error.message };
        break;
      }
    }
    fault ??= rest && { offset: rest.offset, index: chain.next, why: 'an unterminated line' };
    report(end);
    if (fault !== null) break;
  }
  // Before what follows is judged: a tail hangs on the checkpoint before it.
  if (end > begin) for (const last of unchecked.newest(1)) check(storage, last);
  scan.end = end;
  if (segment !== scan.last) {
    fault ??=
      chain.pending > 0 || end === 0 ? { offset: end, index: chain.next, why: 'no checkpoint' } : null;
    if (fault !== null) throw damaged(fault.offset, fault.index, fault.why);
    return;
  }
  if (size === end) return;
  if (size - end > tailBytesMax[writes]) {
    const { offset, index, why } = fault ?? { offset: end, index: chain.next, why: 'no checkpoint' };
    throw damaged(offset, index, why);
  }
  const tail = await readTail(file, end, size);
  scan.chain = chain.fromSettled();
  const found = tailFault(tail, end, chain.fromSettled(), writes);
  if (found !== null) throw damaged(end + found.at, found.index, found.why);
  scan.tornBytes = tail.length;
}

async function readTail(file: SegmentFile, from: number, to: number): Promise<Buffer> {
  const tail = Buffer.alloc(to - from);
  for (let read = 0; read < tail.length; ) {
    const got = await file.read(tail.subarray(read), from + read);
    if (got === 0) return tail.subarray(0, read);
    read += got;
  }
  return tail;
}
