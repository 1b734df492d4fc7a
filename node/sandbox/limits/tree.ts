import { existsSync, readdirSync, readFileSync, statfsSync } from 'node:fs';

/** A tree larger than this is past every limit of processes there is. */
const TREE_MAX = 70_000;

const read = (path: string): string => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // The process ended while it was looked at.
  }
};

/** Facts of one process; null when there is none with this pid. */
export function processStat(pid: number): { state: string; parent: number; started: string } | null {
  const text = read(`/proc/${pid}/stat`);
  // The second field is the program's name in parentheses, which may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, parent] = fields;
  if (state === undefined || state === '' || parent === undefined) return null;
  return { state, parent: Number(parent), started: fields[19] ?? '' };
}

/** `root` and all its descendants. In a pid namespace leftovers belong to its init, so they are descendants too. */
export function processTree(root: number): number[] {
  const childrenOf = existsSync('/proc/thread-self/children') ? listedChildren : scannedChildren();
  const tree = [root];
  for (let at = 0; at < tree.length && tree.length < TREE_MAX; at += 1) {
    for (const child of childrenOf(tree[at] as number)) tree.push(child);
  }
  return tree;
}

/** Children as the kernel lists them: only the tree is looked at. */
function listedChildren(pid: number): number[] {
  return numbers(`/proc/${pid}/task`).flatMap((thread) =>
    read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  );
}

/** Where the kernel keeps no such lists (CONFIG_PROC_CHILDREN), every process is asked for its parent. */
function scannedChildren(): (pid: number) => number[] {
  const children = new Map<number, number[]>();
  for (const pid of numbers('/proc')) {
    const parent = processStat(pid)?.parent;
    if (parent === undefined) continue;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [pid]);
    else siblings.push(pid);
  }
  return (pid) => children.get(pid) ?? [];
}

function numbers(folder: string): number[] {
  try {
    return readdirSync(folder)
      .map(Number)
      .filter((number) => number > 0);
  } catch {
    return [];
  }
}

const KiB = 1024;
const field = (text: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * KiB;

export interface TreeUse {
  /** Pages of the processes and folders in memory. */
  memoryBytes: number;
  /** What RLIMIT_NPROC and pids.max count. */
  threads: number;
}

/**
 * What a tree uses now. Cheap while far from `limitBytes`: resident sizes count shared pages once a process; only when
 * their sum passes the limit are the shares looked up.
 */
export function treeUse(tree: number[], folders: string[], limitBytes: number): TreeUse {
  const tmpfs = memoryFolders(tree, folders);
  let resident = 0;
  let threads = 0;
  for (const pid of tree) {
    const status = read(`/proc/${pid}/status`);
    resident += field(status, 'VmRSS');
    threads += Number(/^Threads:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  if (resident + tmpfs <= limitBytes) return { memoryBytes: resident + tmpfs, threads };
  let own = 0;
  let shared = 0;
  for (const pid of tree) {
    const rollup = read(`/proc/${pid}/smaps_rollup`);
    if (rollup === '') own += field(read(`/proc/${pid}/status`), 'VmRSS');
    else {
      const shmem = field(rollup, 'Pss_Shmem');
      own += field(rollup, 'Pss') - shmem;
      shared += shmem;
    }
  }
  // Mapped files of the folders are in both figures.
  return { memoryBytes: own + Math.max(shared, tmpfs), threads };
}

/** `f_type` of a tmpfs (linux/magic.h). */
const TMPFS_MAGIC = 0x01021994;

/** Bytes held by the sandbox's folders in memory, seen through any of its processes that lets itself be looked at. */
function memoryFolders(tree: number[], folders: string[]): number {
  for (const pid of tree.slice(1).reverse()) {
    try {
      return (
        folders
          .map((folder) => statfsSync(`/proc/${pid}/root${folder}`))
          // A run may be given a folder on the disk as its home.
          .filter(({ type }) => type === TMPFS_MAGIC)
          .reduce((sum, stat) => sum + (stat.blocks - stat.bfree) * stat.bsize, 0)
      );
    } catch {
      // Gone, or not yet in its own root; ask the next.
    }
  }
  return 0;
}

/** Bytes the kernel could still give out; infinite where it does not say. */
export function memoryAvailable(): number {
  const text = read('/proc/meminfo');
  return text === '' ? Number.POSITIVE_INFINITY : field(text, 'MemAvailable');
}
