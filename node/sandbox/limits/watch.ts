import { statfsSync } from 'node:fs';
import type { SandboxEnd, SandboxRun } from '../types.ts';
import type { RunCgroup } from './cgroup.ts';
import { diskUse, unnamedBytes, workspaceEntriesMax } from './disk.ts';
import { memoryAvailable, processTree, treeUse } from './tree.ts';

export type Bound = NonNullable<SandboxEnd['killedBy']>;

/** How often a tree is looked at. A task that takes 2 GiB/s is 200 MiB past a watched limit when it is seen. */
const LOOK_MS = 100;
/** Looks in a row at the process limit before the tree is ended: a burst is let pass, a fork bomb is not. */
const FULL_LOOKS = 5;
/** The workspace is walked this often at most, and never more than this share of the time. */
const WALK_MS_MIN = 250;
const WALK_SHARE = 0.1;
/** Without a sign that the disk fills up, it is walked after this long. */
const WALK_MS_MAX = 5_000;
/** What a watched task may hide from the watcher (memory no process maps) never takes the machine's last bytes. */
const MEMORY_FLOOR_BYTES = 128 * 1024 * 1024;
const DISK_FLOOR_BYTES = 256 * 1024 * 1024;
/** A longer time does not fit the timer, which would then fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** Folders of the sandbox that are in memory, as it sees them. */
const MEMORY_FOLDERS = ['/tmp', '/home/sandbox', '/dev/shm'];

export interface RunWatch {
  stop(): void;
  /** The wall time stands still from here on, until `resume`. */
  suspend(): void;
  resume(): void;
}

/**
 * Watches one run and calls `exceeded` once, with the first bound that is passed. What a cgroup holds is only read
 * from it; what it does not is measured. `stop` ends all of it.
 */
export function watchRun(
  root: number,
  limits: SandboxRun['limits'],
  cgroup: { run: RunCgroup; memory: boolean; processes: boolean } | null,
  exceeded: (bound: Bound) => void,
): RunWatch {
  const stopped = new AbortController();
  let full = 0;
  const tell = (bound: Bound): void => {
    if (stopped.signal.aborted) return;
    stopped.abort();
    exceeded(bound);
  };
  const look = (): void => {
    const use =
      cgroup?.memory && cgroup.processes
        ? null
        : treeUse(processTree(root), MEMORY_FOLDERS, limits.memoryBytes);
    const tooMuch = cgroup?.memory
      ? cgroup.run.outOfMemory()
      : use !== null && (use.memoryBytes > limits.memoryBytes || memoryAvailable() < MEMORY_FLOOR_BYTES);
    if (tooMuch) tell('memory');
    const atLimit = cgroup?.processes
      ? cgroup.run.atProcessLimit(limits.processes)
      : // bwrap's monitor is outside of what nproc counts.
        use !== null && use.threads - 1 >= limits.processes;
    full = atLimit ? full + 1 : 0;
    if (full >= FULL_LOOKS) tell('processes');
  };
  const looking = setInterval(look, LOOK_MS);
  const wall = wallTimer(limits.wallMs, () => tell('timeout'));
  const { diskBytes, watchBytesIn } = limits;
  const walking =
    diskBytes === null || watchBytesIn === null
      ? null
      : watchDisk(root, watchBytesIn, diskBytes, () => tell('disk'), stopped.signal);
  stopped.signal.addEventListener('abort', () => {
    clearInterval(looking);
    wall.stop();
    walking?.stop();
  });
  return { stop: () => stopped.abort(), suspend: () => wall.suspend(), resume: () => wall.resume() };
}

/** Tells once when so much time has passed, that while it is suspended apart. */
function wallTimer(wallMs: number, passed: () => void): RunWatch {
  let left = wallMs;
  let timer: NodeJS.Timeout | null = null;
  let began = 0;
  let over = false;
  const run = (): void => {
    if (over || timer !== null) return;
    began = performance.now();
    timer = setTimeout(passed, Math.min(left, TIMER_MS_MAX));
  };
  const halt = (): void => {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    left = Math.max(0, left - (performance.now() - began));
  };
  run();
  return {
    stop: () => {
      over = true;
      halt();
    },
    suspend: halt,
    resume: run,
  };
}

const free = (folder: string): number => {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return Number.POSITIVE_INFINITY; // The folder is gone: nothing is in it.
  }
};

/**
 * Walks the workspace when the disk's free bytes say that it may have passed its limit, and now and then. A quiet
 * task in a large repository is therefore almost never walked, and a flood is seen within a look.
 */
function watchDisk(
  root: number,
  folder: string,
  limit: number,
  exceeded: () => void,
  signal: AbortSignal,
): { stop: () => void } {
  let walking = false;
  let measured = 0;
  let first: { free: number; measured: number } | null = null;
  let freeThen = free(folder);
  let nextWalk = performance.now();
  let quietUntil = nextWalk;
  const walk = async (): Promise<void> => {
    walking = true;
    const began = performance.now();
    freeThen = free(folder);
    const use = await diskUse(folder, limit, signal).catch(() => ({ bytes: 0, entries: 0, closed: 0 }));
    if (signal.aborted) return;
    measured = use.bytes + unnamed(root, folder);
    first ??= { free: freeThen, measured };
    // What a task has put behind a folder without rights shows only on the disk as a whole.
    const hidden = use.closed === 0 ? 0 : first.free - freeThen - (measured - first.measured);
    if (measured + Math.max(0, hidden) > limit || use.entries >= workspaceEntriesMax) return exceeded();
    const took = performance.now() - began;
    nextWalk = performance.now() + Math.max(WALK_MS_MIN, took / WALK_SHARE);
    quietUntil = Math.max(nextWalk, performance.now() + WALK_MS_MAX);
    walking = false;
  };
  const timer = setInterval(() => {
    const now = performance.now();
    const freeNow = free(folder);
    if (freeNow < DISK_FLOOR_BYTES && freeThen - freeNow > 0) return exceeded();
    if (walking || now < nextWalk) return;
    const mayBePast = freeThen - freeNow >= (limit - measured) / 2;
    if (mayBePast || now >= quietUntil) void walk();
  }, LOOK_MS);
  return { stop: () => clearInterval(timer) };
}

function unnamed(root: number, folder: string): number {
  try {
    return unnamedBytes(processTree(root), folder);
  } catch {
    return 0;
  }
}
