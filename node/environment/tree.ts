import { execFile } from 'node:child_process';
import { chmod, lstat, mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { findProgram } from '../sandbox/host.ts';

/**
 * Copies a tree that no process writes: by reflink where the file system can, else byte by byte, never by hard link, as one
 * could write through that. Times stay, because build tools tell old from new by them; links are copied as links. `to` must
 * not exist, its folder must.
 */
export async function copyTree(from: string, to: string, signal: AbortSignal): Promise<void> {
  const options = [
    '--recursive',
    '--no-dereference',
    '--preserve=mode,timestamps',
    '--reflink=auto',
    '--no-target-directory',
  ];
  await run('cp', [...options, '--', from, to], signal);
}

/** Makes lasting all that was written to the file system of a folder. */
export const syncFileSystem = (folder: string, signal: AbortSignal): Promise<void> =>
  run('sync', ['--file-system', '--', folder], signal);

/** A program of this machine's base system, with nothing of the environment. */
async function run(name: string, args: string[], signal: AbortSignal): Promise<void> {
  const program = findProgram(name);
  if (program === null)
    throw new SuperfleetError('SF_FOLDER', `\`${name}\` is not installed`, {
      hint: 'install the package `coreutils`',
    });
  await new Promise<void>((resolve, reject) => {
    execFile(program, args, { env: {}, signal, killSignal: 'SIGKILL' }, (error, _, stderr) => {
      if (error === null) return resolve();
      const full = /No space left|Disk quota exceeded/.test(stderr);
      reject(
        signal.aborted
          ? signal.reason
          : new SuperfleetError(
              full ? 'SF_DISK_FULL' : 'SF_FOLDER',
              `${name} failed: ${stderr.slice(0, 400).trim()}`,
              {
                hint: full ? 'free some space' : 'see to the owner and permissions of the folder',
                cause: error,
              },
            ),
      );
    });
  });
}

/**
 * The folder or file at a path below `root`, none of whose parts is a link; null where it is anything else. The answer holds as
 * long as no foreign process writes there.
 */
export async function plainPath(
  root: string,
  path: string,
): Promise<{ path: string; folder: boolean } | null> {
  let at = root;
  let facts = await lstat(root);
  for (const name of path.split('/')) {
    if (!facts.isDirectory()) return null;
    at = join(at, name);
    const found = await lstat(at).catch(() => null);
    if (found === null || !(found.isDirectory() || found.isFile())) return null;
    facts = found;
  }
  return { path: at, folder: facts.isDirectory() };
}

/** Makes the folders above a path below `root`; throws `SF_FOLDER` where one of them is a link or a file. */
export async function makeParents(root: string, path: string): Promise<void> {
  let at = root;
  for (const name of path.split('/').slice(0, -1)) {
    at = join(at, name);
    await mkdir(at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    if ((await lstat(at)).isDirectory()) continue;
    throw new SuperfleetError('SF_FOLDER', `${at} is in the way`, {
      expected: 'a folder, or nothing',
      got: 'a file or a link',
      hint: `leave ${path} out of the cache of .superfleet.yaml`,
    });
  }
}

/** Moves a folder or file that foreign code made to another folder on the same file system. */
export async function moveOut(from: string, to: string, folder: boolean): Promise<void> {
  // To move a folder, its own `..` is written.
  if (folder) await chmod(from, 0o755);
  await mkdir(dirname(to), { recursive: true, mode: 0o700 });
  await rename(from, to);
}
