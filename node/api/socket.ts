import {
  chmodSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { markOf, type ProcessMark } from '../process-mark.ts';

/** Bytes of a Unix socket's path the kernel takes (`sun_path` is 108 with its zero). */
export const socketPathBytesMax = 107;

/** Answers that are on their way when the socket closes, the one to `leave` among them, get out within this. */
const lastAnswersMs = 250;

/** Folder of what lives only while the process does: the socket and its process's mark. Mode 0700. */
export const runFolder = (dir: string): string => join(dir, 'run');
export const socketPath = (dir: string): string => join(runFolder(dir), 'api.sock');
/** Mark of the process that listens (not the lock's pid file: this one tells a reused pid from the process). */
export const markPath = (dir: string): string => join(runFolder(dir), 'process.json');
/**
 * Log of a `--detach`ed process: beside the data folder, which may not be there yet, and into which root writes nothing
 * once it is another account's.
 */
export const detachedLogPath = (dir: string): string => `${dir}.log`;

/** Makes the run folder, or takes it if it is this user's, a real folder and closed to others. */
export function prepareRunFolder(dir: string): void {
  const folder = runFolder(dir);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new SuperfleetError('SF_FOLDER', `the folder ${folder} cannot be made`, {
        cause: thrown,
        got: String(thrown),
      });
    }
  }
  const found = lstatSync(folder);
  if (!found.isDirectory() || (process.getuid !== undefined && found.uid !== process.getuid())) {
    throw new SuperfleetError('SF_FOLDER', `${folder} is not a folder of this user`, {
      expected: `a folder owned by uid ${process.getuid?.()}`,
      got: found.isDirectory() ? `owned by uid ${found.uid}` : 'something else than a folder',
      hint: `remove ${folder} and start again`,
    });
  }
  chmodSync(folder, 0o700);
}

/** A path the kernel takes, good until `release`. Linux reaches long ones through the folder's file descriptor. */
export function reachablePath(path: string): { path: string; release(): void } {
  const bytes = Buffer.byteLength(path);
  if (bytes <= socketPathBytesMax) return { path, release: () => {} };
  if (process.platform !== 'linux') {
    throw new SuperfleetError('SF_FOLDER', 'the path of the data folder is too long for a socket in it', {
      expected: `at most ${socketPathBytesMax} bytes`,
      got: `${bytes} bytes: ${path}`,
      hint: 'choose a shorter --dir',
    });
  }
  const slash = path.lastIndexOf('/');
  const descriptor = openSync(path.slice(0, slash), constants.O_RDONLY | constants.O_DIRECTORY);
  return {
    path: `/proc/self/fd/${descriptor}${path.slice(slash)}`,
    release: () => closeSync(descriptor),
  };
}

/**
 * The mark a process left in the run folder; null where there is none to be believed. A mark is believed about processes
 * of the account that wrote it: else it could have root end any other.
 */
export function readMark(dir: string): ProcessMark | null {
  try {
    const writer = lstatSync(markPath(dir));
    const value = JSON.parse(readFileSync(markPath(dir), 'utf8')) as Partial<ProcessMark>;
    if (!writer.isFile() || !Number.isSafeInteger(value.pid) || (value.pid ?? 0) < 2) return null;
    const mark = {
      pid: value.pid as number,
      started: typeof value.started === 'string' ? value.started : null,
    };
    const account = accountOf(mark.pid);
    return account === null || account === writer.uid ? mark : null;
  } catch {
    return null;
  }
}

/** Effective uid of a process; null where it can't be known. */
function accountOf(pid: number): number | null {
  try {
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return uid === undefined ? null : Number(uid);
  } catch {
    return null;
  }
}

export interface ApiSocket {
  readonly path: string;
  close(): Promise<void>;
}

/**
 * Listens on the data folder's socket and leaves the process's mark beside it. The caller holds the folder's lock: only
 * then is a socket found there known to be stale, and removed.
 */
export async function listenOn(server: Server, dir: string): Promise<ApiSocket> {
  prepareRunFolder(dir);
  const path = socketPath(dir);
  removeStale(path);
  const reachable = reachablePath(path);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(reachable.path, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (cause) {
    reachable.release();
    throw new SuperfleetError('SF_FOLDER', `the socket ${path} cannot be opened`, {
      got: String(cause),
      cause,
    });
  }
  chmodSync(path, 0o600);
  writeFileSync(markPath(dir), JSON.stringify(markOf(process.pid)), { mode: 0o600 });
  return {
    path,
    close: async () => {
      await new Promise<void>((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), lastAnswersMs);
        server.close(() => {
          clearTimeout(cut);
          resolve();
        });
        server.closeIdleConnections();
      });
      reachable.release();
      rmSync(path, { force: true });
      rmSync(markPath(dir), { force: true });
    },
  };
}

function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new SuperfleetError('SF_FOLDER', `${path} is in the way`, {
      expected: 'a socket or nothing',
      got: 'something else',
      hint: `move ${path} away`,
    });
  }
  rmSync(path);
}
