import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SuperfleetError } from '../protocol/errors.ts';

/**
 * Replaces a small file whole: after a crash there is the old content or the new, never part of one. Mode 0600
 * unless said otherwise. Throws `SF_DISK_FULL` or `SF_FOLDER`; the old content then stands.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: { mode?: number } = {},
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.new-${randomBytes(8).toString('hex')}`);
  try {
    await withFile(await open(temporary, 'wx', options.mode ?? 0o600), async (file) => {
      await file.writeFile(data);
      await file.sync();
    });
    await rename(temporary, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw fileFailure(error, path);
  }
}

/** The text of a small file; null where there is none. */
export async function readTextOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Makes lasting which names a folder holds. */
export async function syncFolder(folder: string): Promise<void> {
  await withFile(await open(folder, 'r'), (handle) => handle.sync());
}

/** A file system's refusal as the error people see. */
export function fileFailure(error: unknown, path: string): SuperfleetError {
  if (error instanceof SuperfleetError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new SuperfleetError(
    full ? 'SF_DISK_FULL' : 'SF_FOLDER',
    full ? `no room to write ${path}` : `cannot write ${path}: ${message}`,
    {
      got: code ?? null,
      hint: full ? 'free some space, then start again' : 'see to its owner and its permissions',
      cause: error,
    },
  );
}

async function withFile<T>(file: FileHandle, use: (file: FileHandle) => Promise<T>): Promise<T> {
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
