import type { DurableLog } from '../../ledger/log/durable-log.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import type { LedgerProgress, LedgerReport } from '../api/port.ts';

/** Recomputes every hash and signature of the log from its files, whatever this process believes of them. */
export async function verifyLogFiles(
  storage: LogStorage,
  { size, begins }: Pick<DurableLog, 'size' | 'begins'>,
  progress: (at: LedgerProgress) => void,
  signal: AbortSignal,
): Promise<LedgerReport> {
  const { mesh, from, root, checkpoints, segments, ...report } = await verifyLog(storage, {
    onProgress: ({ entries }) => progress({ checked: entries, size }),
    signal,
    begins,
  });
  return { mesh, from, size: report.size, root, checkpoints, segments };
}
