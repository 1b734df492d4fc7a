import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nicenessOf } from '../niceness.ts';
import { type CgroupSlot, type CgroupSlots, sweepRuns, WORK } from './cgroup.ts';

/** What the owner gives all that runs for the mesh, together. */
export interface Share {
  /** Of the processor where others want it too, 1 to 10,000; 100: as much as another program. */
  cpuWeight: number;
  /** null: all there is. */
  memory: { percent: number; bytes: number } | null;
}

/** How a share is kept on this machine. */
export interface Bound {
  /** Where runs are made from now on. */
  cgroups: CgroupSlots;
  /** For the owner: what was set, and what keeps it, or why nothing does. */
  settings: { name: string; says: string }[];
}

/** Weights of version 1 count from 1,024 for what has 100 in version 2. */
const SHARES_OF_100 = 1024;
const SHARES_MAX = 262_144;

/**
 * Puts what the owner gives on the cgroup that all runs of this machine have in common; where there is none, or it is not this
 * process's to write, that is said. Never throws. To be called once, before the first run.
 */
export function bindShare(slots: CgroupSlots, { cpuWeight, memory }: Share): Bound {
  const cgroups: CgroupSlots = { ...slots, cpu: null };
  const settings: Bound['settings'] = [];
  if (cpuWeight !== 100) {
    const { cpu = null } = slots;
    const why = cpu === null ? NO_CGROUP : setWeight(cpu, cpuWeight);
    if (why === null) cgroups.cpu = cpu;
    settings.push({ name: 'cpu weight', says: weightSays(cpuWeight, cpu, why) });
  }
  if (memory !== null) {
    const why = slots.memory === null ? NO_CGROUP : setMemory(slots.memory, cgroups, memory.bytes);
    const gib = (memory.bytes / 1024 ** 3).toFixed(1);
    const by =
      why === null
        ? 'kept by the cgroup of all tasks'
        : `the mesh is told so and each task is held to it, but nothing holds all together: ${why}`;
    settings.push({ name: 'memory share', says: `${memory.percent}% (${gib} GiB): ${by}` });
  }
  return { cgroups, settings };
}

const NO_CGROUP = 'this machine lends the node no cgroup for it';

function weightSays(weight: number, cpu: CgroupSlot | null, why: string | null): string {
  const nice = weight < 100 ? `niceness ${nicenessOf(weight)}` : null;
  if (why === null) {
    const file = cpu?.version === 2 ? 'cpu.weight' : 'cpu.shares';
    return `${weight}: ${file} of the cgroup of all tasks${nice === null ? '' : `, and ${nice}`}`;
  }
  return nice === null
    ? `${weight}: kept by nothing; only a cgroup gives more than others have, and ${why}`
    : `${weight}: ${nice}; ${why}`;
}

/** Why the weight could not be set; null: it is. */
function setWeight({ version, folder }: CgroupSlot, weight: number): string | null {
  const shares = Math.min(SHARES_MAX, Math.max(2, Math.round((weight * SHARES_OF_100) / 100)));
  return version === 2
    ? write(join(folder, 'cpu.weight'), String(weight))
    : write(join(folder, 'cpu.shares'), String(shares));
}

/**
 * With version 1 the node itself is not in the folder that holds the runs. With version 2 it is, and must not be what the kernel
 * ends where the tasks have too much: the runs get a folder of their own beside it.
 */
function setMemory(slot: CgroupSlot, cgroups: CgroupSlots, bytes: number): string | null {
  if (slot.version === 1) return write(join(slot.folder, 'memory.limit_in_bytes'), String(bytes));
  const folder = join(slot.folder, WORK);
  try {
    mkdirSync(folder, { recursive: true });
    sweepRuns(folder);
    const pids = cgroups.pids?.folder === slot.folder ? ' +pids' : '';
    writeFileSync(join(folder, 'cgroup.subtree_control'), `+memory${pids}`);
  } catch (cause) {
    return `its cgroup cannot be divided (${(cause as NodeJS.ErrnoException).code ?? 'refused'})`;
  }
  const why = write(join(folder, 'memory.max'), String(bytes));
  if (why !== null) return why;
  for (const key of ['memory', 'pids', 'unified'] as const) {
    if (cgroups[key]?.folder === slot.folder) cgroups[key] = { version: 2, folder };
  }
  return null;
}

function write(file: string, text: string): string | null {
  if (!existsSync(file)) return NO_CGROUP;
  try {
    writeFileSync(file, text);
    return null;
  } catch (cause) {
    return `its cgroup is not the node’s to set (${(cause as NodeJS.ErrnoException).code ?? 'refused'})`;
  }
}
