import { openBase } from '../../ledger/log/beginning.ts';
import { fileBeginning } from '../../ledger/log/beginning-file.ts';
import { Log } from '../../ledger/log/log.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
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
  const { base } = fileBeginning(folderPaths(dir).log);
  const begun = segments.length > 0 || (await base.list()).length > 0;
  if (!begun) return null;
  const begins = async () => (await openBase(base))?.chain ?? null;
  let opened: Promise<Log> | null = null;
  const log = (): Promise<Log> => {
    opened ??= begins().then((chain) => Log.open({ storage, key: null, begins: chain }));
    return opened;
  };
  return {
    async *verify(signal) {
      const { tornBytes: _, ...report } = await verifyLog(storage, { signal, begins: await begins() });
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
