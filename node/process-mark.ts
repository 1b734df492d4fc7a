import { readFileSync } from 'node:fs';

/** A process for good: its start time keeps a pid that is used again from being taken for it. */
export interface ProcessMark {
  pid: number;
  /** Field 22 of /proc/PID/stat; null where there is no /proc. */
  started: string | null;
}

/** Start time of a process that lives (a zombie does not); null: gone. `''` where there is no /proc. */
export function startOf(pid: number): string | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? '');
  } catch {
    if (process.platform === 'linux') return null;
  }
  try {
    process.kill(pid, 0);
    return '';
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM' ? '' : null;
  }
}

export const markOf = (pid: number): ProcessMark => ({ pid, started: startOf(pid) });

/** Whether the very process of this mark still lives. */
export function lives(mark: ProcessMark): boolean {
  const started = startOf(mark.pid);
  return started !== null && (mark.started === null || started === mark.started);
}
