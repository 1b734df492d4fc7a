import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { SuperfleetError } from '../protocol/errors.ts';
import { fileFailure, writeFileAtomic } from './atomic-file.ts';

/**
 * One process per data folder. The lock is the one LevelDB takes on its `LOCK` file when it opens: `fcntl` on Linux and
 * macOS, an exclusive handle on Windows. The kernel holds it, so it dies with the process however that ends, and it
 * holds across network and pid namespaces and containers that share the folder. Node has no `flock` of its own; a
 * Unix socket in the folder would stay behind after SIGKILL and could only be replaced in a race, an abstract one is
 * blind to other network namespaces, and a pid file alone is a guess. The database itself stays empty.
 */
export interface FolderLock {
  release(): Promise<void>;
}

/**
 * Takes the lock in `folder` (made if absent). Throws `SF_LOCKED` naming the process that has it. `pidFile` is only
 * for that message.
 */
export async function takeLock(folder: string, pidFile: string): Promise<FolderLock> {
  const db = await openLocked(folder, pidFile).catch(async (error: unknown) => {
    if (error instanceof SuperfleetError) throw error;
    // The database is damaged, the lock is not: it is another file, and stays, so that whoever has it keeps it.
    await clearDatabase(folder);
    return openLocked(folder, pidFile);
  });
  try {
    await writeFileAtomic(pidFile, `${process.pid}\n`);
  } catch (error) {
    await db.close();
    throw error;
  }
  return {
    release: async () => {
      await rm(pidFile, { force: true });
      await db.close();
    },
  };
}

async function openLocked(folder: string, pidFile: string): Promise<Level> {
  const db = new Level(folder);
  try {
    await db.open();
    return db;
  } catch (error) {
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    if (cause?.code === 'LEVEL_LOCKED') {
      const pid = (await readFile(pidFile, 'utf8').catch(() => '')).trim();
      throw new SuperfleetError('SF_LOCKED', 'the data folder is in use by another process', {
        expected: 'a folder that no other process uses',
        got: /^\d{1,10}$/.test(pid)
          ? `in use by process ${pid}`
          : 'in use by a process that has not yet said which',
        hint: 'a machine at work needs no second start: `status` shows it, `stop` ends it; another one needs a folder of its own, --dir',
        cause: error,
      });
    }
    if (/no space left|disk quota/i.test(cause?.message ?? '')) {
      throw fileFailure(Object.assign(new Error(cause?.message), { code: 'ENOSPC' }), folder);
    }
    if (/permission denied|read-only file system/i.test(cause?.message ?? '')) {
      throw fileFailure(new Error(cause?.message), folder);
    }
    throw error;
  }
}

async function clearDatabase(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (name !== 'LOCK') await rm(join(folder, name));
}
