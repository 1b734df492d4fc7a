import { lchown, lstat, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../protocol/errors.ts';
import { fileFailure, readTextOrNull, syncFolder, writeFileAtomic } from './atomic-file.ts';
import { takeLock } from './lock.ts';
import { settleLog } from './log-switch.ts';

/** The format this program writes. A folder of an older one is upgraded on open, of a newer one refused. */
export const folderFormat = 1;
const FORMAT_LINE = /^superfleet-folder (0|[1-9][0-9]{0,8})\n$/;

/**
 * What brings a folder from the format of its key to the next one. Each must be safe to do again after a crash:
 * the format file is written after it. None yet; format 0 was never released.
 */
export type Upgrades = Readonly<Record<number, (paths: FolderPaths) => Promise<void>>>;
const upgrades: Upgrades = {};

/** Where everything in a data folder lies. Nothing else makes up a path in it. */
export interface FolderPaths {
  root: string;
  format: string;
  config: string;
  /** LevelDB whose file lock is the folder's lock, and who has it. */
  lock: string;
  pid: string;
  /** libp2p identity and log key: raw 32-byte seeds in base64, 0600. */
  identityKey: string;
  logKey: string;
  /** A founder's: where its replicas listen. */
  places: string;
  /** A replica's: what signs the log from the day on which it is made the founder. */
  nextLogKey: string;
  /** Segments of the log, and copies of what recovery cut. */
  log: string;
  /** The log of a replica, fetched to repair this one. */
  fetchedLog: string;
  /** A log under repair; the same when it is whole; and the name of the log that it took the place of, without its number. */
  repairingLog: string;
  repairedLog: string;
  damagedLog: string;
  /** When the running founder last read its whole log anew. */
  scrubbed: string;
  /** What can be rebuilt from the log. */
  index: string;
  /** Hashes of the log's tree, for proofs; made again where they are missing. */
  tiles: string;
  /** States of the mesh at some checkpoints of the log. */
  snapshots: string;
  blobs: string;
  /** Sockets; nothing in it outlives the process. */
  run: string;
  /** Socket of `/v1`. */
  apiSocket: string;
  /** One folder for each attempt. */
  attempts: string;
  /** Results that wait to be accepted. */
  results: string;
  /** Bare caches of repositories. */
  repositories: string;
  /** What repositories depend on, prepared; made when it is first needed. */
  environments: string;
  /** Membership certificate, newest roster and newest checkpoint of a member. */
  membership: string;
  roster: string;
  checkpoint: string;
}

/** A data folder that this process has for itself. */
export interface Folder {
  paths: FolderPaths;
  /** Lets another process have it. */
  release(): Promise<void>;
}

export interface OpenFolderOptions {
  /** Make it where there is none (`init`, `join`). @default false: `SF_NOT_FOUND` */
  create?: boolean;
}

export function folderPaths(root: string): FolderPaths {
  const run = join(root, 'run');
  return {
    root,
    format: join(root, 'format'),
    config: join(root, 'config.json'),
    lock: join(root, 'lock'),
    pid: join(root, 'pid'),
    identityKey: join(root, 'identity.key'),
    logKey: join(root, 'log.key'),
    nextLogKey: join(root, 'next.key'),
    places: join(root, 'replicas.json'),
    log: join(root, 'log'),
    fetchedLog: join(root, 'log.fetched'),
    repairingLog: join(root, 'log.repairing'),
    repairedLog: join(root, 'log.repaired'),
    damagedLog: join(root, 'log.damaged'),
    scrubbed: join(root, 'scrubbed.json'),
    index: join(root, 'index'),
    tiles: join(root, 'tiles'),
    snapshots: join(root, 'snapshots'),
    blobs: join(root, 'blobs'),
    run,
    apiSocket: join(run, 'api.sock'),
    attempts: join(root, 'attempts'),
    results: join(root, 'results'),
    repositories: join(root, 'repos'),
    environments: join(root, 'environments'),
    membership: join(root, 'membership.json'),
    roster: join(root, 'roster.json'),
    checkpoint: join(root, 'checkpoint'),
  };
}

/**
 * Opens a data folder for this process alone: mode 0700, lock taken, format known, every sub-folder there. Throws
 * `SF_NOT_FOUND`, `SF_FOLDER` (not a data folder, or not ours), `SF_FORMAT`, `SF_LOCKED` or `SF_DISK_FULL`.
 */
export async function openFolder(root: string, options: OpenFolderOptions = {}): Promise<Folder> {
  const paths = folderPaths(root);
  try {
    await assertFolder(paths, options.create === true);
    const lock = await takeLock(paths.lock, paths.pid);
    try {
      await settleFormat(paths);
      await settleLog(paths);
      for (const folder of [
        paths.log,
        paths.index,
        paths.snapshots,
        paths.blobs,
        paths.run,
        paths.attempts,
        paths.results,
        paths.repositories,
      ]) {
        await mkdir(folder, { recursive: true, mode: 0o700 });
      }
      await syncFolder(root);
    } catch (error) {
      await lock.release();
      throw error;
    }
    return { paths, release: () => lock.release() };
  } catch (error) {
    throw fileFailure(error, root);
  }
}

/**
 * What root does before it drops to the account that will open the folder: makes it (0700) and hands it over, with
 * what root put into it. A folder that is the account's already is left alone, because root writes nothing where
 * another can plant links. Throws `SF_FOLDER` where it is neither root's nor the account's.
 */
export async function handOverFolder(root: string, owner: { uid: number; gid: number }): Promise<void> {
  try {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const found = await lstat(root);
    if (found.uid === owner.uid) return;
    const foreign = !found.isDirectory() || found.uid !== 0 || (found.mode & 0o077) !== 0;
    if (foreign)
      throw notAFolder(folderPaths(root), `uid ${found.uid}, mode 0${(found.mode & 0o777).toString(8)}`);
    const paths = folderPaths(root);
    if ((await readFormat(paths)) === null) await assertEmpty(paths);
    await giveAway(root, owner);
  } catch (error) {
    throw fileFailure(error, root);
  }
}

/** Format number of a folder; null where there is no format file. Throws `SF_FORMAT` where the file is no such. */
export async function readFormat(paths: FolderPaths): Promise<number | null> {
  const text = await readTextOrNull(paths.format);
  if (text === null) return null;
  const match = FORMAT_LINE.exec(text);
  if (match !== null) return Number(match[1]);
  throw new SuperfleetError('SF_FORMAT', `${paths.format} is not of the form`, {
    expected: `superfleet-folder ${folderFormat}`,
    got: text.slice(0, 64).trimEnd(),
    hint: 'put the data folder back from a backup, or name another with --dir',
  });
}

/** The one rule: the same format opens, an older one is upgraded step by step, anything else is refused. */
export async function upgradeFolder(
  paths: FolderPaths,
  found: number,
  steps: Upgrades = upgrades,
  target = folderFormat,
): Promise<void> {
  const missing = Array.from({ length: Math.max(0, target - found) }, (_, at) => found + at).find(
    (n) => !steps[n],
  );
  if (found > target || missing !== undefined) {
    throw new SuperfleetError(
      'SF_FORMAT',
      `the data folder ${paths.root} has format ${found}, this program knows format ${target}`,
      {
        expected: `superfleet-folder ${target}`,
        got: `superfleet-folder ${found}`,
        hint:
          found > target
            ? 'use the newer Superfleet that made the folder; nothing was changed'
            : `open it once with a Superfleet that still upgrades format ${missing}; nothing was changed`,
      },
    );
  }
  for (let at = found; at < target; at += 1) {
    await steps[at]!(paths);
    await writeFileAtomic(paths.format, `superfleet-folder ${at + 1}\n`);
  }
}

async function settleFormat(paths: FolderPaths): Promise<void> {
  const found = await readFormat(paths);
  if (found === null) await writeFileAtomic(paths.format, `superfleet-folder ${folderFormat}\n`);
  else await upgradeFolder(paths, found);
}

/** Refuses what is no data folder before anything is written into it, the lock included. */
async function assertFolder(paths: FolderPaths, create: boolean): Promise<void> {
  if (create) await mkdir(paths.root, { recursive: true, mode: 0o700 });
  const found = await lstat(paths.root).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    throw new SuperfleetError('SF_NOT_FOUND', `there is no data folder at ${paths.root}`, {
      hint: 'make one with `mesh-hub init` or `mesh-node join`, or name another with --dir',
    });
  });
  if (!found.isDirectory()) throw notAFolder(paths, 'a file or a link');
  const uid = process.getuid?.() ?? found.uid;
  if (uid !== 0 && found.uid !== uid) throw notAFolder(paths, `a folder of uid ${found.uid}`);
  if ((found.mode & 0o077) !== 0) {
    throw new SuperfleetError('SF_FOLDER', `others can reach the data folder ${paths.root}`, {
      expected: 'mode 0700',
      got: `mode 0${(found.mode & 0o777).toString(8)}`,
      hint: `chmod 700 ${paths.root}`,
    });
  }
  if ((await readFormat(paths)) !== null) return;
  await assertEmpty(paths);
  if (!create) {
    throw new SuperfleetError('SF_NOT_FOUND', `the folder ${paths.root} is empty`, {
      hint: 'make a data folder with `mesh-hub init` or `mesh-node join`, or name another with --dir',
    });
  }
}

async function assertEmpty(paths: FolderPaths): Promise<void> {
  // What an open cut short may have left, and nothing else.
  const ours = new Set(['lock', 'pid']);
  const foreign = (await readdir(paths.root)).find((name) => !ours.has(name) && !name.startsWith('.new-'));
  if (foreign !== undefined) throw notAFolder(paths, `a folder with ${foreign} in it and no format file`);
}

function notAFolder(paths: FolderPaths, got: string): SuperfleetError {
  return new SuperfleetError('SF_FOLDER', `${paths.root} cannot be used as a data folder`, {
    expected: 'a data folder of this user, or an empty folder',
    got,
    hint: 'name another folder with --dir',
  });
}

/** Links are not followed, and the folder itself goes last: until then nobody else can reach into it. */
async function giveAway(folder: string, owner: { uid: number; gid: number }): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await giveAway(path, owner);
    else await lchown(path, owner.uid, owner.gid);
  }
  await lchown(folder, owner.uid, owner.gid);
}
