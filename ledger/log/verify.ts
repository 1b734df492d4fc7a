import { entryLineBytesMax } from '../../protocol/limits.ts';
import { LineFault } from '../lines/line.ts';
import type { LogStorage } from '../storage/storage.ts';
import { startAt } from './beginning.ts';
import { Chain, type ChainState } from './chain.ts';
import { LogDamagedError } from './damage.ts';
import { type ScanProgress, scanLog } from './scan.ts';

/** What was checked: every line, every root, every signature. */
export interface VerifyReport {
  mesh: string;
  /** Lowest entry that was checked: above 0 where the log begins at a snapshot. */
  from: number;
  /** Entries under the last checkpoint. */
  size: number;
  /** Its root, in hex. */
  root: string;
  checkpoints: number;
  segments: number;
  /** Bytes after it that are a batch under way, or one that a crash cut short. */
  tornBytes: number;
}

export interface VerifyOptions {
  /** Of a log that begins at a snapshot: what the snapshot says, which was checked. @default it begins at entry 0 */
  begins?: ChainState | null;
  onProgress?: (progress: ScanProgress) => void;
  signal?: AbortSignal;
}

const NEWLINE = 0x0a;

/**
 * Checks a whole log, also one that is being written. Changes nothing. Throws `LogDamagedError` naming the first place
 * that does not hold, or where there is no checkpoint at all.
 */
export async function verifyLog(storage: LogStorage, options: VerifyOptions = {}): Promise<VerifyReport> {
  const scan = await scanLog(storage, {
    signatures: 'all',
    from: options.begins ? startAt(options.begins) : null,
    ...(options.onProgress && { onProgress: options.onProgress }),
    signal: options.signal,
  });
  const isPart = (first: number): boolean => first >= scan.from && first <= (scan.last ?? -1);
  const segments = (await storage.list()).filter(isPart).length;
  return reportOf(scan.chain, storage.describe(0), { from: scan.from, segments, tornBytes: scan.tornBytes });
}

/** The same for exported bytes: entry and checkpoint lines as they stand in the segments, nothing torn. */
export async function verifyExport(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const chain = new Chain('all');
  let held: Buffer = Buffer.alloc(0);
  let offset = 0;
  const damaged = (why: string): LogDamagedError =>
    new LogDamagedError({ segment: name, offset, index: chain.next }, why);
  for await (const chunk of chunks) {
    options.signal?.throwIfAborted();
    held = Buffer.concat([held, chunk]);
    let begin = 0;
    for (let end = held.indexOf(NEWLINE); end !== -1; end = held.indexOf(NEWLINE, begin)) {
      try {
        chain.push(held.subarray(begin, end));
      } catch (error) {
        throw error instanceof LineFault ? damaged(error.message) : error;
      }
      offset += end + 1 - begin;
      begin = end + 1;
    }
    held = Buffer.from(held.subarray(begin));
    if (held.length >= entryLineBytesMax) throw damaged(`a line of more than ${entryLineBytesMax} bytes`);
    options.onProgress?.({ entries: chain.next, bytes: offset });
  }
  if (held.length > 0) throw damaged('an unterminated line');
  if (chain.pending > 0) throw damaged('entries without a checkpoint');
  return reportOf(chain, name, { from: 0, segments: 1, tornBytes: 0 });
}

function reportOf(
  chain: Chain,
  name: string,
  found: Pick<VerifyReport, 'from' | 'segments' | 'tornBytes'>,
): VerifyReport {
  const { meshId, checkpoint, checkpoints } = chain.settled;
  if (meshId === null || checkpoint === null) {
    throw new LogDamagedError({ segment: name, offset: 0, index: 0 }, 'not one checkpoint');
  }
  return { mesh: meshId, size: checkpoint.size, root: checkpoint.root, checkpoints, ...found };
}
