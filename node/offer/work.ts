import type { Verdict } from './policy.ts';

/** What decides whether a machine takes tasks now. */
export interface WorkFacts {
  /** Of the membership: who is no worker is given no tasks. */
  roles: readonly string[];
  /** The first thing that keeps the sandbox from working; null: it works. */
  lack: string | null;
  /** The owner's own pause; `endsInMs` null: until resume. */
  pause: { endsInMs: number | null } | null;
  policy: { policy: string; from: string };
  verdict: Verdict;
  slots: number;
  /** Attempts that are suspended because of the policy. @default 0 */
  suspended?: number;
}

/** Whether this machine takes tasks now, by which policy and which signal: one sentence for its owner. Pure. */
export function workOf({ roles, lack, pause, policy, verdict, slots, suspended = 0 }: WorkFacts): string {
  if (!roles.includes('worker')) {
    return `takes no tasks: its membership says ${roles.join(', ') || 'nothing'}, not worker; the operator gives roles with the invite`;
  }
  if (lack !== null) return noTasks(lack);
  if (pause !== null) {
    const until =
      pause.endsInMs === null
        ? 'until "mesh-node resume"'
        : `for ${Math.ceil(pause.endsInMs / 60_000)} min more`;
    return `takes no tasks: paused by its owner, ${until}`;
  }
  if (slots === 0) return 'takes no tasks: it offers no slots (slots in config.json, or --slots)';
  const by = `policy ${policy.policy} (${policy.from})`;
  const why = verdict.why === '' ? '' : `: ${verdict.why}`;
  const halted =
    suspended === 0
      ? ''
      : `; ${suspended === 1 ? '1 task of the mesh is' : `${suspended} tasks of the mesh are`} suspended`;
  return `${verdict.holds ? 'takes tasks' : 'takes no tasks now'}, ${by}${why}${halted}`;
}

/** What a machine without a sandbox is told, and is for. */
export const noTasks = (lack: string): string =>
  `takes no tasks (${lack}): it serves models, and keeps the log where it is made a replica; mesh-node doctor says more`;
