import { type FileHandle, mkdir, open, rename, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileFailure, syncFolder, writeFileAtomic } from '../../node/atomic-file.ts';
import type { FolderPaths } from '../../node/folder.ts';
import { clearRepair } from '../../node/log-switch.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Restore } from '../cli/options.ts';
import { unpack, verifyBackup } from './backup-file.ts';
import { requireNoLog } from './import-log.ts';
import { openOffline } from './offline.ts';
import { secretsFile, secretsFolder } from './secrets.ts';

const smallBytesMax = 16 * 1024 * 1024;

/**
 * `mesh-hub restore`: a data folder from a backup, all of it verified before the first file is written. The config comes
 * last: a folder that a crash left half restored is none, and is restored again.
 */
export const restore: Restore = async ({ dir, user, file: path }) => {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    const gone = cause.code === 'ENOENT';
    throw new SuperfleetError(gone ? 'SF_NOT_FOUND' : 'SF_FOLDER', `${path} cannot be read`, {
      got: cause.code ?? null,
      cause,
    });
  });
  try {
    const { mesh, size, root, files, secrets } = await verifyBackup(file, path);
    await requireNoLog(dir);
    const folder = await openOffline({
      dir,
      create: true,
      user,
      beside: secrets ? [secretsFolder(dir)] : [],
    });
    try {
      await write(folder.paths, file);
    } catch (error) {
      throw error instanceof SuperfleetError ? error : fileFailure(error, dir);
    } finally {
      await folder.release();
    }
    const blobs = files.filter(({ name }) => name.startsWith('blobs/')).length;
    return { dir, mesh, size, root, blobs, secrets };
  } finally {
    await file.close();
  }
};

async function write(paths: FolderPaths, file: FileHandle): Promise<void> {
  await clearRepair(paths);
  const blobs = join(paths.blobs, 'blobs');
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  await mkdir(paths.repairingLog, { mode: 0o700 });
  let config: Uint8Array | null = null;
  const small = (bytes: AsyncIterable<Uint8Array>): Promise<Uint8Array> =>
    collectBytes(bytes, smallBytesMax, () => new SuperfleetError('SF_NOT_PROVED', 'a file is too large'));
  await unpack(file, async (name, bytes) => {
    if (name === 'config.json') config = await small(bytes);
    else if (name === 'identity.key') await writeFileAtomic(paths.identityKey, await small(bytes));
    else if (name === 'log.key') await writeFileAtomic(paths.logKey, await small(bytes));
    else if (name === 'secrets.json') await writeSecrets(paths.root, await small(bytes));
    else if (name.startsWith('log/')) await writeFile(join(paths.repairingLog, name.slice(4)), bytes);
    else await writeFile(join(blobs, name.slice('blobs/'.length)), bytes);
  });
  await syncFolder(blobs);
  await syncFolder(paths.repairingLog);
  await rmdir(paths.log);
  await rename(paths.repairingLog, paths.log);
  await syncFolder(paths.root);
  await writeFileAtomic(paths.config, config!);
}

async function writeSecrets(root: string, bytes: Uint8Array): Promise<void> {
  const path = secretsFile(root);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, bytes);
}

/** A long file, synced; the folder is synced by who wrote the last one. */
async function writeFile(path: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    for await (const chunk of bytes) await file.writeFile(chunk);
    await file.sync();
  } finally {
    await file.close();
  }
}
