import { SuperfleetError } from '../../protocol/errors.ts';
import type { LogStorage, SegmentFile } from '../storage/storage.ts';
import { type Scan, tailBytesMax } from './scan.ts';

const COPY_BYTES = 1024 * 1024;

/** What recovery took off the end, and where its copy lies. */
export interface CutTail {
  bytes: number;
  copy: string;
}

/** The segment a new log may begin in: null (none yet), or an empty one that an earlier failure left. */
export async function emptySegment(storage: LogStorage): Promise<number | null> {
  const segments = await storage.list();
  if (segments.length === 0) return null;
  const file = await storage.open(segments[0]!, 'read');
  const size = await file.size().finally(() => file.close());
  if (segments.length > 1 || segments[0] !== 0 || size > 0) {
    throw new SuperfleetError('SF_EXISTS', `there is a log already at ${storage.describe(segments[0]!)}`);
  }
  return 0;
}

/**
 * Cuts the torn tail, a copy kept, and makes durable what recovery will speak of. What was written last may be in memory
 * only, and where its sync failed the system takes it for written: a sync alone would do nothing. So as much as one write
 * can be is written once more.
 */
export async function settle(storage: LogStorage, scan: Scan): Promise<CutTail | null> {
  const { last } = scan;
  if (last === null) return null;
  const file = await storage.open(last, 'write');
  try {
    const copy = scan.tornBytes > 0 ? await storage.keepCut(last, scan.end) : null;
    if (copy !== null) await file.truncate(scan.end);
    await rewrite(file, Math.max(0, scan.end - tailBytesMax.piece), scan.end);
    await file.sync();
    await storage.syncDirectory();
    return copy === null ? null : { bytes: scan.tornBytes, copy };
  } finally {
    await file.close();
  }
}

/** Puts the same bytes where they stand already. */
async function rewrite(file: SegmentFile, from: number, to: number): Promise<void> {
  for (let at = from; at < to; ) {
    const chunk = Buffer.allocUnsafe(Math.min(COPY_BYTES, to - at));
    const read = await file.read(chunk, at);
    if (read === 0) return;
    for (let done = 0; done < read; ) {
      const taken = await file.write(chunk.subarray(done, read), at + done);
      if (taken <= 0) throw Object.assign(new Error('the disk took no bytes'), { code: 'EIO' });
      done += taken;
    }
    at += read;
  }
}
