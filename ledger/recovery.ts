import { SuperfleetError } from '../protocol/errors.ts';
import type { Scan } from './scan.ts';
import type { LogStorage } from './storage.ts';

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

/** Cuts the torn tail, a copy kept, and syncs what recovery will speak of: it may still be in memory only. */
export async function settle(storage: LogStorage, scan: Scan): Promise<CutTail | null> {
  const last = scan.last!;
  const file = await storage.open(last, 'write');
  try {
    const copy = scan.tornBytes > 0 ? await storage.keepCut(last, scan.end) : null;
    if (copy !== null) await file.truncate(scan.end);
    await file.sync();
    await storage.syncDirectory();
    return copy === null ? null : { bytes: scan.tornBytes, copy };
  } finally {
    await file.close();
  }
}
