import { Log } from '../../ledger/log.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import { verifyLog } from '../../ledger/verify.ts';
import { folderPaths } from '../../node/folder.ts';
import type { OpenStoppedLog } from '../cli/options.ts';

/**
 * The log of a folder in which no founder runs. It is only read: no lock is taken and a torn tail is passed over, so a
 * founder may start meanwhile.
 */
export const openStoppedLog: OpenStoppedLog = async (dir) => {
  const storage = new FileStorage(folderPaths(dir).log);
  const segments = await storage.list().catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR' || error.code === 'EACCES') return [];
    throw error;
  });
  if (segments.length === 0) return null;
  let opened: Promise<Log> | null = null;
  const log = (): Promise<Log> => {
    opened ??= Log.open({ storage, key: null });
    return opened;
  };
  return {
    async *verify(signal) {
      const { tornBytes: _, ...report } = await verifyLog(storage, { signal });
      yield { report };
    },
    size: async () => (await log()).size,
    async *entries(from) {
      yield* (await log()).entries(from);
    },
    async *export(signal) {
      yield* (await log()).export(signal);
    },
  };
};
