import { existsSync } from 'node:fs';
import { rename, rmdir } from 'node:fs/promises';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import type { CopySource } from '../../ledger/log/log-source.ts';
import { diskFailure } from '../../ledger/log/writer.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { syncFolder } from '../../node/atomic-file.ts';
import { readConfig, writeConfig } from '../../node/config.ts';
import { type FolderPaths, folderPaths } from '../../node/folder.ts';
import { clearRepair } from '../../node/log-switch.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import type { ImportedObject, ImportLedger } from '../cli/options.ts';
import { openLogSource, openOffline } from './offline.ts';

/**
 * `mesh-hub ledger import`: a new data folder that holds the log of an export and nothing else of its mesh. All of it is
 * verified, and the folder has a log only when it is whole and synced.
 */
export const importLedger: ImportLedger = async ({ dir, user, file, mesh }) => {
  const { source, close } = await openLogSource(file);
  try {
    await requireNoLog(dir);
    const folder = await openOffline({ dir, create: true, user });
    try {
      return await importInto(folder.paths, source, mesh);
    } finally {
      await folder.release();
    }
  } finally {
    await close();
  }
};

/** Also what `restore` and `fork` ask: a folder that is absent, empty, or that such a command left half made. */
export async function requireNoLog(dir: string): Promise<void> {
  const paths = folderPaths(dir);
  const { kind } = await readConfig(paths.config);
  const logged = existsSync(paths.log) && (await new FileStorage(paths.log).list()).length > 0;
  if (kind === null && !logged && !existsSync(paths.membership)) return;
  throw new SuperfleetError('SF_EXISTS', `there is a mesh or a membership in ${dir} already`, {
    expected: 'a folder that is absent or empty',
    hint: 'name another folder with --dir',
  });
}

async function importInto(
  paths: FolderPaths,
  source: CopySource,
  wanted: string | null,
): Promise<ImportedObject> {
  await clearRepair(paths);
  const storage = new FileStorage(paths.repairingLog);
  let copy: LogCopy | null = null;
  try {
    for await (const piece of source.batches(null)) {
      const mesh = wanted ?? meshIdOfLine(piece.subarray(0, piece.indexOf(0x0a)).toString());
      if (copy === null) copy = await LogCopy.create({ storage, mesh }, piece);
      else await copy.take(piece);
    }
    const { meshId: mesh, size, checkpoint, epoch, genesis } = copy!;
    await copy!.close();
    await rmdir(paths.log);
    await rename(paths.repairingLog, paths.log);
    await syncFolder(paths.root);
    await writeConfig(paths.config, { kind: 'hub', name: genesis.name });
    return { mesh, name: genesis.name, size, root: checkpoint.root, epoch, dir: paths.root };
  } catch (error) {
    await copy?.close();
    await clearRepair(paths);
    throw error instanceof SuperfleetError ? error : diskFailure(error, paths.repairingLog);
  }
}
