import { existsSync, lstatSync, type Stats, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type CopySource, exportSource, storageSource } from '../../ledger/log/log-source.ts';
import { HeldStorage } from '../../ledger/storage/storage-held.ts';
import { type Folder, handOverFolder, openFolder } from '../../node/folder.ts';
import { dropPrivileges, resolveAccount } from '../../node/privileges.ts';
import { SuperfleetError } from '../../protocol/errors.ts';

export interface OfflineOptions {
  dir: string;
  /** Make the data folder where there is none. */
  create: boolean;
  /** Account that root becomes; null: the folder's, else as `start` chooses. */
  user: string | null;
  /** Folders outside the data folder that belong to it. */
  beside?: string[];
}

/** A data folder for a command that needs no daemon: root is given up as `start` does, and the lock is taken. */
export async function openOffline({ dir, create, user, beside = [] }: OfflineOptions): Promise<Folder> {
  if (!create && !existsSync(dir)) {
    throw new SuperfleetError('SF_NOT_FOUND', `there is no data folder at ${dir}`, {
      hint: 'name another with --dir',
    });
  }
  if (process.getuid?.() === 0) {
    const owner = existsSync(dir) ? lstatSync(dir).uid : 0;
    const account = user ?? (owner === 0 ? null : String(owner));
    await handOverFolder(dir, resolveAccount(account));
    await dropPrivileges({ user: account, own: [dir, ...beside] });
  }
  return openFolder(dir, { create });
}

/** A log that a person names: the file of an export, a folder of segments, or a data folder. */
export interface OpenedSource {
  source: CopySource;
  close(): Promise<void>;
}

/** Opened before root is given up, so that a file only root can read serves too. `SF_NOT_FOUND` where nothing is there. */
export async function openLogSource(path: string): Promise<OpenedSource> {
  const found = statOf(path);
  if (found.isDirectory()) {
    const inner = join(path, 'log');
    const storage = await HeldStorage.open(existsSync(inner) ? inner : path).catch(unreadable(path));
    return { source: storageSource(storage), close: () => storage.close() };
  }
  const file = await open(path, 'r').catch(unreadable(path));
  return {
    source: exportSource(path, () => file.createReadStream({ start: 0, autoClose: false })),
    close: () => file.close(),
  };
}

const unreadable =
  (path: string) =>
  (cause: NodeJS.ErrnoException): never => {
    throw new SuperfleetError('SF_FOLDER', `${path} cannot be read`, {
      got: cause.code ?? cause.message,
      hint: 'see to its owner and its permissions',
      cause,
    });
  };

function statOf(path: string): Stats {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found !== undefined) return found;
  throw new SuperfleetError('SF_NOT_FOUND', `there is no file ${path}`, {
    expected: 'the file of a `mesh-hub ledger export`, or the data folder of another copy',
  });
}
