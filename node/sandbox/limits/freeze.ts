import { processStat, processTree } from './tree.ts';

/** Looks until a tree stands still: a process that is being born is seen by the next one. */
const LOOKS_MAX = 64;

/**
 * Stops all processes of the tree below `root`, itself included, where no cgroup does it; answers with what makes them go
 * on. What stood still by its own will is left so. A process that is stopped begins no other, so the tree comes to rest.
 */
export function freezeTree(root: number): () => void {
  const stopped = new Map<number, string>();
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    let moved = false;
    for (const pid of processTree(root)) {
      const stat = processStat(pid);
      if (stat === null || 'tTZX'.includes(stat.state) || stopped.get(pid) === stat.started) continue;
      if (!signal(pid, 'SIGSTOP')) continue;
      stopped.set(pid, stat.started);
      moved = true;
    }
    if (!moved) break;
  }
  return () => {
    for (const [pid, started] of stopped) {
      if (processStat(pid)?.started === started) signal(pid, 'SIGCONT');
    }
  };
}

function signal(pid: number, name: 'SIGSTOP' | 'SIGCONT'): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false; // It is gone.
  }
}
