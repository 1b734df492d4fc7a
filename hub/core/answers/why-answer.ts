import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { TaskState } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';

/**
 * What a queued task waits for, the first that holds: a person's answer, other tasks, the mesh to be resumed, leases of the founder before this one, replicas to follow, a
 * secret, its back-off, a machine that fits at all, one of those that fit to be had, one of them to have a free slot,
 * the mesh to be allowed more attempts, one of those that a plugin lets it be given to. `turn`: for those before it.
 */
export type Wait =
  | 'answer'
  | 'others'
  | 'paused'
  | 'settling'
  | 'replicas'
  | 'secret'
  | 'backOff'
  | 'noFit'
  | 'unavailable'
  | 'busy'
  | 'capacity'
  | 'held'
  | 'turn';

/** Why a task is where it is (`task why`): causes of the whole mesh, its place, and a line for each member. */
export interface Why {
  task: string;
  state: TaskState;
  /** Of a queued task; else null. */
  wait: Wait | null;
  /** What holds it up, mesh-wide; of one that runs, what it does; of one that has ended, how. Never empty. */
  reasons: string[];
  /** Tasks before it; null where it is not queued. */
  position: number | null;
  members: { id: string; name: string; why: string }[];
  /** What would have to change for it to go on, or what can be done with it now. */
  remedies: string[];
}

/** An answer to be filled in. */
export const nothingSaid = ({ id, state }: TaskRecord): Why => ({
  task: id,
  state,
  wait: null,
  reasons: [],
  position: null,
  members: [],
  remedies: [],
});

/** At least so long, in words. */
export const seconds = (ms: number): string => `${Math.max(0, Math.ceil(ms / 1000))} s`;

/** The time of day, UTC, of a monotonic moment. */
export const clockAt = (ctx: FounderContext, at: number): string =>
  `${new Date(ctx.clock.time + at - ctx.now).toISOString().slice(11, 19)}Z`;
