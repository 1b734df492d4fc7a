import { priorityDefault } from '../../protocol/limits.ts';
import { priorityOf } from '../../protocol/schedule.ts';
import type { FounderContext, LiveLease } from './context.ts';
import { endLease } from './lifecycle.ts';
import type { Bucket, Queued } from './queue.ts';

/** So much lower must the priority be of what gives its place to another. */
export const preemptBy = 10;

/**
 * Where a task above the default priority, which only the operator gives, finds every place taken, an execution of much lower
 * priority gives up its own: the lowest, and of these the one that has run the shortest. It costs that task nothing.
 */
export function preempt(ctx: FounderContext): void {
  if (!ctx.queue.hasUrgent) return;
  const urgent = firstUrgent(ctx);
  if (urgent === null) return;
  const { bucket, queued, priority } = urgent;
  if (isComing(ctx, queued.id)) return;
  const victim = victimFor(ctx, bucket, priority);
  if (victim === null) return;
  ctx.preempting.set(queued.id, { member: victim.member, key: victim.key });
  const detail = `it gave its place to task ${queued.id}, whose priority is ${priority}`;
  endLease(ctx, victim, { fault: 'person', reason: 'refused', detail, cancel: 'superseded' });
}

function firstUrgent(ctx: FounderContext): { bucket: Bucket; queued: Queued; priority: number } | null {
  let first: { bucket: Bucket; queued: Queued; priority: number } | null = null;
  for (const bucket of ctx.queue.buckets.values()) {
    const head = ctx.queue.head(bucket);
    if (head === null || head.rank.priority <= priorityDefault) continue;
    if (bucket.need.secrets.some((name) => !ctx.secrets.has(name))) continue;
    const { queued, rank } = head;
    if (first === null || rank.priority > first.priority) first = { bucket, queued, priority: rank.priority };
  }
  return first;
}

/** A place was made for it already, and is about to become free. */
function isComing(ctx: FounderContext, task: string): boolean {
  const made = ctx.preempting.get(task);
  if (made === undefined) return false;
  if (ctx.live.get(made.member)?.stopping.has(made.key) === true) return true;
  ctx.preempting.delete(task);
  return false;
}

function victimFor(ctx: FounderContext, bucket: Bucket, priority: number): LiveLease | null {
  const { on, avoid, unfit } = bucket.need;
  const failed = new Set([...avoid, ...unfit]);
  let victim: { lease: LiveLease; priority: number } | null = null;
  for (const lease of ctx.leases.values()) {
    if (lease.role !== 'execute' || lease.pending !== null || failed.has(lease.member)) continue;
    const its = priorityOf(ctx.task(lease.lease.task).schedule);
    if (its > priority - preemptBy) continue;
    const fits =
      on === null
        ? ctx.pool.fits(bucket, lease.member)
        : on === lease.member || ctx.member(lease.member)?.name === on;
    if (!fits) continue;
    const lower = victim === null || its < victim.priority;
    const younger = victim !== null && its === victim.priority && lease.assignedAt > victim.lease.assignedAt;
    if (lower || younger) victim = { lease, priority: its };
  }
  return victim?.lease ?? null;
}
