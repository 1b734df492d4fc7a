import { setTimeout as delay } from 'node:timers/promises';
import { type CgroupSlots, removeRuns, runPrefix } from './cgroup.ts';

/** Cgroups that the runs of another process of this node lie in. */
export interface Runs {
  slots: CgroupSlots;
  folders: string[];
  prefix: string;
}

/** The kernel may take so long to end what is in a cgroup before that is called a defect. */
const GONE_MS_MAX = 30_000;

/** To be asked while the process lives. */
export function runsOf(slots: CgroupSlots, pid: number): Runs {
  const { memory, pids, unified, cpu = null } = slots;
  const folders = [memory, pids, unified, cpu?.version === 1 ? cpu : null].flatMap(
    (slot) => slot?.folder ?? [],
  );
  return { slots, folders: [...new Set(folders)], prefix: runPrefix(pid) };
}

/** Ends what runs are left of a process that is gone; resolves when nothing of them is there. */
export async function endRuns({ folders, prefix }: Runs): Promise<void> {
  const deadline = performance.now() + GONE_MS_MAX;
  for (let wait = 0; performance.now() < deadline; wait = Math.min(20, wait + 1)) {
    if (folders.every((folder) => removeRuns(folder, prefix))) return;
    await delay(wait);
  }
}
