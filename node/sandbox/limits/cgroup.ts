import { randomBytes } from 'node:crypto';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { startOf } from '../../process-mark.ts';

/**
 * Folders of the cgroup file system in which this process may make children, one a hierarchy. On a machine with
 * cgroup v2 all three are the same folder; with v1 they are three; null where there is none.
 */
export interface CgroupSlots {
  memory: CgroupSlot | null;
  pids: CgroupSlot | null;
  /** A v2 folder, with or without controllers: `cgroup.kill`, and the proof that nobody is left. */
  unified: CgroupSlot | null;
  /** Where all that runs can be given a weight; with v1 runs have a folder in it. @default null */
  cpu?: CgroupSlot | null;
}
export interface CgroupSlot {
  version: 1 | 2;
  folder: string;
}

const PREFIX = 'superfleet-';
const RUN = 'run-';
/** In a v2 folder: holds the runs where they are bound together (`share.ts`). */
export const WORK = 'work';
/** What the node may set of its folder when it is root no more; of one hierarchy some are there. */
const SETTABLE = ['cpu.shares', 'cpu.weight', 'memory.limit_in_bytes'];

/** A process by pid and start time: the kernel gives the pid to others later, and to threads. */
const markOf = (pid: number): string => `${pid}-${startOf(pid) ?? 0}`;

/** The process that `markOf` named lives. */
const markLives = (mark: string): boolean => {
  const pid = Number(mark.split('-', 1)[0]);
  return Number.isInteger(pid) && startOf(pid) !== null && markOf(pid) === mark;
};

/** Name of the folder that a node with this pid makes in each hierarchy. */
export const cgroupName = (pid: number): string => `${PREFIX}${markOf(pid)}`;

interface Hierarchy {
  version: 1 | 2;
  /** Controllers of a v1 hierarchy; those of v2 are read from its files. */
  controllers: string[];
  /** Folder of this process in it. */
  own: string;
}

/** Pure: which hierarchies there are, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`. */
export function hierarchies(mountinfo: string, membership: string): Hierarchy[] {
  const paths = membership.split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    return controllers === undefined || path === undefined ? [] : [{ controllers, path }];
  });
  return mountinfo.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ');
    const [type, , options] = after?.split(' ') ?? [];
    const [, , , root, point] = before?.split(' ') ?? [];
    if (root === undefined || point === undefined || (type !== 'cgroup' && type !== 'cgroup2')) return [];
    const version = type === 'cgroup2' ? 2 : 1;
    const flags = options?.split(',') ?? [];
    const member = paths.find(({ controllers }) =>
      version === 2
        ? controllers === ''
        : controllers !== '' && controllers.split(',').every((c) => flags.includes(c)),
    );
    if (member === undefined) return [];
    // In a container the mount shows a part of the hierarchy: paths count from its root.
    const path = root !== '/' && member.path.startsWith(root) ? member.path.slice(root.length) : member.path;
    return [
      {
        version,
        controllers: version === 2 ? [] : member.controllers.split(','),
        own: resolve(join(point, path)),
      },
    ];
  });
}

const ownHierarchies = (): Hierarchy[] => {
  try {
    return hierarchies(
      readFileSync('/proc/self/mountinfo', 'utf8'),
      readFileSync('/proc/self/cgroup', 'utf8'),
    );
  } catch {
    return [];
  }
};

/**
 * For a process that is still root: makes a folder in each hierarchy under its own, gives it to `uid`, and removes
 * what processes before it left. `weight`: what runs is to be given one. A machine that refuses has no slot there; this never
 * throws.
 */
export function prepareCgroups(uid: number, gid: number, weight = false): CgroupSlots {
  const slots: CgroupSlots = { memory: null, pids: null, unified: null };
  for (const { version, controllers, own } of ownHierarchies()) {
    try {
      if (version === 1) {
        for (const controller of ['memory', 'pids', 'cpu'] as const) {
          if (!controllers.includes(controller) || (controller === 'cpu' && !weight)) continue;
          sweep(own);
          slots[controller] ??= {
            version,
            folder: give(join(own, cgroupName(process.pid)), uid, gid, ['tasks']),
          };
        }
      } else {
        sweep(own);
        unifiedSlot(own, uid, gid, slots, weight);
      }
    } catch {
      // Read-only or not ours: the limit is watched instead, and says so.
    }
  }
  return slots;
}

function giveSettable(folder: string, uid: number, gid: number): void {
  for (const name of SETTABLE.filter((one) => existsSync(join(folder, one)))) {
    chownSync(join(folder, name), uid, gid);
  }
}

function give(folder: string, uid: number, gid: number, files: string[]): string {
  mkdirSync(folder, { recursive: true });
  for (const name of ['', 'cgroup.procs', ...files]) chownSync(join(folder, name), uid, gid);
  giveSettable(folder, uid, gid);
  return folder;
}

/**
 * Version 2 lends controllers only from a folder that holds no process itself (its root may do both). So ours lies in the
 * node's own folder where the node is alone there, as a service is; and beside it where it is not, as in a login.
 */
function unifiedSlot(own: string, uid: number, gid: number, slots: CgroupSlots, weight: boolean): void {
  const isRoot = (folder: string): boolean => !existsSync(join(folder, 'cgroup.type'));
  const alone = isRoot(own) || members(own).every((pid) => pid === process.pid);
  const beside = dirname(own);
  const parent = !alone && existsSync(join(beside, 'cgroup.procs')) && lent(beside).length > 0 ? beside : own;
  const folder = join(parent, cgroupName(process.pid));
  give(folder, uid, gid, ['cgroup.subtree_control', 'cgroup.threads']);
  useUnified(folder, slots, parent === own && alone ? own : null);
  const weighed = weight ? cpuFolder(folder, own, alone && !isRoot(own)) : null;
  if (weighed === null) return;
  giveSettable(weighed, uid, gid);
  slots.cpu ??= { version: 2, folder: weighed };
}

/**
 * A weight counts among the folders beside it. Where the node is alone in its own, as a service is, only that has others beside
 * it; elsewhere it is the folder made in it.
 */
function cpuFolder(folder: string, own: string, alone: boolean): string | null {
  const weighed = alone ? own : folder;
  try {
    // What is above the node's own folder is others' to divide.
    if (!existsSync(join(weighed, 'cpu.weight')) && dirname(weighed) === own) lend(own, ['cpu']);
  } catch {
    // The machine keeps its processors undivided.
  }
  return existsSync(join(weighed, 'cpu.weight')) ? weighed : null;
}

/** The node itself moves to a leaf: v2 lets it move others only under a common parent it may write. */
function useUnified(folder: string, slots: CgroupSlots, lender: string | null = null): void {
  const leaf = join(folder, 'node');
  mkdirSync(leaf, { recursive: true });
  const { uid, gid } = statSync(folder);
  for (const name of ['', 'cgroup.procs']) chownSync(join(leaf, name), uid, gid);
  writeFileSync(join(leaf, 'cgroup.procs'), String(process.pid));
  const slot: CgroupSlot = { version: 2, folder };
  slots.unified = slot;
  sweepRuns(folder);
  if (existsSync(join(folder, WORK))) sweepRuns(join(folder, WORK));
  for (const from of lender === null ? [folder] : [lender, folder]) {
    const offered = wanted(join(from, 'cgroup.controllers'));
    if (offered.length > 0) lend(from, offered);
  }
  const held = lent(folder);
  if (held.includes('memory')) slots.memory ??= slot;
  if (held.includes('pids')) slots.pids ??= slot;
}

const wanted = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split(/\s+/)
    .filter((name) => name === 'memory' || name === 'pids');
const lent = (folder: string): string[] => wanted(join(folder, 'cgroup.subtree_control'));

const lend = (folder: string, controllers: string[]): void =>
  writeFileSync(join(folder, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '));

/**
 * For a process that never was root: its own v2 folder, when it was delegated (a systemd unit with `User=` and
 * `Delegate=yes`). Known by its owner, and by this process being alone in it: a session's scope is not ours to divide.
 */
export function delegatedCgroups(): CgroupSlots {
  const slots: CgroupSlots = { memory: null, pids: null, unified: null };
  const own = ownHierarchies().find(({ version }) => version === 2)?.own;
  try {
    if (own === undefined || statSync(own).uid !== process.getuid?.() || process.getuid() === 0) return slots;
    if (basename(own) === 'node') useUnified(dirname(own), slots);
    else if (members(own).every((pid) => pid === process.pid)) useUnified(own, slots);
  } catch {
    // Not delegated after all.
  }
  return slots;
}

const members = (folder: string): number[] =>
  readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);

/** Removes folders of nodes that are gone, killing what they left. Needs root; `prepareCgroups` does it too. */
export function sweepCgroups(): void {
  for (const { own } of ownHierarchies()) {
    try {
      sweep(own);
    } catch {
      // Read-only: then nothing of ours is there.
    }
  }
}

function sweep(own: string): void {
  for (const name of readdirSync(own)) {
    if (name.startsWith(PREFIX) && !markLives(name.slice(PREFIX.length))) removeTree(join(own, name));
  }
}

/** A node that was killed can't remove its runs' folders; the next one in the same place does. */
export function sweepRuns(folder: string): void {
  for (const name of readdirSync(folder)) {
    const mark = name.startsWith(RUN) ? name.slice(RUN.length, name.lastIndexOf('-')) : null;
    if (mark !== null && !markLives(mark)) removeTree(join(folder, name));
  }
}

/** What the names of the cgroups begin with in which a process has its runs. */
export const runPrefix = (pid: number): string => `${RUN}${markOf(pid)}-`;

/** Kills at once what runs with this prefix hold, where the kernel can (v2); false: it cannot. Their cgroups stay. */
export function killRuns({ unified }: CgroupSlots, prefix: string): boolean {
  if (unified === null) return false;
  try {
    const runs = readdirSync(unified.folder).filter((name) => name.startsWith(prefix));
    for (const name of runs) writeFileSync(join(unified.folder, name, 'cgroup.kill'), '1');
    return true;
  } catch {
    // A kernel before 5.14, or a run that ended just now.
    return false;
  }
}

/** Nobody is left in the runs with this prefix (v2 only). */
export function runsEmpty({ unified }: CgroupSlots, prefix: string): boolean {
  if (unified === null) return true;
  try {
    return readdirSync(unified.folder)
      .filter((name) => name.startsWith(prefix))
      .every((name) =>
        /^populated 0/m.test(readFileSync(join(unified.folder, name, 'cgroup.events'), 'utf8')),
      );
  } catch {
    // One that was removed meanwhile; the next look tells.
    return false;
  }
}

/** Kills what runs with this prefix hold, and removes their cgroups; false while something of them is there. Never throws. */
export function removeRuns(folder: string, prefix: string): boolean {
  try {
    const left = readdirSync(folder).filter((name) => name.startsWith(prefix));
    for (const name of left) removeTree(join(folder, name));
    return left.every((name) => !existsSync(join(folder, name)));
  } catch {
    // What vanished meanwhile is gone at the next look.
    return !existsSync(folder);
  }
}

function removeTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(folder, entry.name));
  }
  for (const pid of members(folder)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It went by itself.
    }
  }
  tryRemove(folder);
}

function tryRemove(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

/** The cgroup of one run: made before it, joined before its first instruction, removed after its last. */
export class RunCgroup {
  readonly #folders = new Map<string, CgroupSlot>();
  readonly #slots: CgroupSlots;
  readonly #name = `${runPrefix(process.pid)}${randomBytes(8).toString('hex')}`;

  constructor(slots: CgroupSlots, limits: { memoryBytes: number; processes: number }) {
    this.#slots = slots;
    try {
      const { cpu = null } = slots;
      // With v2 a weight is the common folder's alone.
      for (const slot of [slots.memory, slots.pids, cpu?.version === 1 ? cpu : null, slots.unified]) {
        if (slot === null) continue;
        const folder = join(slot.folder, this.#name);
        if (this.#folders.has(folder)) continue;
        mkdirSync(folder);
        this.#folders.set(folder, slot);
      }
      // bwrap's monitor is in it too; it is outside of what nproc counts.
      if (slots.pids !== null) this.#write(slots.pids, 'pids.max', String(limits.processes + 1));
      if (slots.memory?.version === 2) {
        this.#write(slots.memory, 'memory.max', String(limits.memoryBytes));
        this.#write(slots.memory, 'memory.oom.group', '1');
        this.#tryWrite(slots.memory, 'memory.swap.max', '0');
      } else if (slots.memory !== null) {
        this.#write(slots.memory, 'memory.limit_in_bytes', String(limits.memoryBytes));
        this.#tryWrite(slots.memory, 'memory.memsw.limit_in_bytes', String(limits.memoryBytes));
      }
    } catch (cause) {
      this.remove();
      throw cause;
    }
  }

  /** Moves one process, before it has children: they are born where it is. The kernel may take milliseconds for it. */
  async join(pid: number): Promise<void> {
    const files = [...this.#folders.keys()].map((folder) => join(folder, 'cgroup.procs'));
    await Promise.all(files.map((file) => writeFile(file, String(pid))));
  }

  /** Kills everything in it at once, where the kernel can. */
  kill(): void {
    if (this.#slots.unified !== null) this.#tryWrite(this.#slots.unified, 'cgroup.kill', '1');
  }

  /** Takes the processor from everything in it, or gives it back; false where the kernel cannot (v1 alone). */
  freeze(frozen: boolean): boolean {
    if (this.#slots.unified === null) return false;
    try {
      this.#write(this.#slots.unified, 'cgroup.freeze', frozen ? '1' : '0');
      return true;
    } catch {
      return false;
    }
  }

  /** The kernel ended a process because the tree was at its memory limit. */
  outOfMemory(): boolean {
    const { memory } = this.#slots;
    if (memory === null) return false;
    const text = this.#read(memory, memory.version === 2 ? 'memory.events' : 'memory.oom_control');
    return Number(/^oom_kill (\d+)/m.exec(text)?.[1] ?? 0) > 0;
  }

  /** The tree has as many processes as it may have. */
  atProcessLimit(limit: number): boolean {
    return this.#slots.pids !== null && Number(this.#read(this.#slots.pids, 'pids.current')) >= limit + 1;
  }

  /** True when nobody is left in it (v2 only; null: it can't say). */
  empty(): boolean | null {
    if (this.#slots.unified === null) return null;
    const text = this.#read(this.#slots.unified, 'cgroup.events');
    return text === '' ? null : /^populated 0/m.test(text);
  }

  /** False while the kernel still holds on to a part of it. */
  remove(): boolean {
    for (const folder of this.#folders.keys()) if (tryRemove(folder)) this.#folders.delete(folder);
    return this.#folders.size === 0;
  }

  #path(slot: CgroupSlot, file: string): string {
    return join(slot.folder, this.#name, file);
  }
  #write(slot: CgroupSlot, file: string, text: string): void {
    writeFileSync(this.#path(slot, file), text);
  }
  #tryWrite(slot: CgroupSlot, file: string, text: string): void {
    try {
      this.#write(slot, file, text);
    } catch {
      // Not every kernel has it (swap accounting, cgroup.kill before 5.14); what relies on it has another way.
    }
  }
  #read(slot: CgroupSlot, file: string): string {
    try {
      return readFileSync(this.#path(slot, file), 'utf8');
    } catch {
      return '';
    }
  }
}
