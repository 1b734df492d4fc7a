import { openAttempt } from '../../../ledger/state/task-record.ts';
import { leaseKey } from '../../../protocol/session.ts';
import type { FounderContext } from '../context.ts';

/** How much a founder core holds, counted; each figure has a bound (promise 18). */
export interface CoreSizes {
  /** Open leases of the mesh. */
  leases: number;
  /** Queued tasks, those that back off among them. */
  queued: number;
  /** Tasks that wait for a person's answer. */
  asking: number;
  /** Queued tasks that wait for others. */
  held: number;
  /** Results that wait for a verifier, and those that only a change of the fleet can help. */
  unverified: number;
  parked: number;
  /** Queued tasks whose last attempt failed for want of something. */
  troubled: number;
  /** Open tasks of which this process measures times. */
  times: number;
  /** Late results whose envelopes are being stored, and those whose tasks are being read from the log. */
  late: number;
  recalling: number;
  /** Members heard since the start. */
  live: number;
  /** What one member was told to stop and has not said that it is gone; 0 where none is named. */
  stopping: number;
}

/** `peer`: whose `stopping` is counted. Costs the same whatever is held. */
export const sizesOf = (ctx: FounderContext, peer: string | null): CoreSizes => ({
  leases: ctx.leases.size,
  queued: ctx.queue.size,
  asking: ctx.asking.size,
  held: ctx.held.size,
  unverified: ctx.unverified.size,
  parked: ctx.parked.size,
  troubled: ctx.troubled.size,
  times: ctx.times.size,
  late: ctx.late.size,
  recalling: ctx.recalling.size,
  live: ctx.live.size,
  stopping: ctx.live.get(peer ?? '')?.stopping.size ?? 0,
});

export type Place = 'lease' | 'queue' | 'question' | 'others' | 'verifier' | 'parked';

/** Where this core keeps an open task so that something will follow for it; null: nowhere (promise 16). */
export function placeOf(ctx: FounderContext, id: string): Place | null {
  const task = ctx.state.tasks.byId.get(id);
  if (task === undefined) return null;
  for (const role of ['execute', 'verify'] as const) {
    const attempt = openAttempt(task, role);
    if (attempt === null) continue;
    const key = leaseKey({ task: id, attempt: attempt.number, epoch: attempt.epoch });
    return ctx.leases.has(key) ? 'lease' : null;
  }
  if (ctx.queue.has(id)) return 'queue';
  if (ctx.asking.has(id)) return 'question';
  if (ctx.held.has(id)) return 'others';
  if (ctx.unverified.has(id)) return 'verifier';
  return ctx.parked.has(id) ? 'parked' : null;
}
