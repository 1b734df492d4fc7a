import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { priorityDefault } from '../../../protocol/limits.ts';
import { priorityOf } from '../../../protocol/schedule.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import { endLease } from '../lifecycle.ts';
import type { Bucket, Queued } from '../queue/queue.ts';
import { unavailable } from './fit.ts';
import { unfit } from './pool.ts';
import { countIn, placeOf } from './spread.ts';

/** So much lower must the priority be of what gives its place to another. */
const preemptBy = 10;

/**
 * Where a task above the default priority, which only the operator gives, finds every place taken, an execution of much lower
 * priority gives up its own: the lowest, and of these the one that has run the shortest. It costs that task nothing.
 */
export function preempt(ctx: FounderContext): void {
  if (!ctx.queue.hasUrgent) return;
  // One that no place would help, or for which one is about to become free, keeps no other from its own.
  for (const { bucket, queued, priority } of urgentOnes(ctx)) {
    if (isComing(ctx, queued.id)) continue;
    const victim = victimFor(ctx, bucket, queued, priority);
    if (victim === null) continue;
    ctx.preempting.set(queued.id, { member: victim.member, key: victim.key });
    const detail = `it gave its place to task ${queued.id}, whose priority is ${priority}`;
    endLease(ctx, victim, { fault: 'person', reason: 'refused', detail, cancel: 'superseded' });
    return;
  }
}

interface Urgent {
  bucket: Bucket;
  queued: Queued;
  priority: number;
}

/** The first tasks of their buckets that stand above the default priority, the highest first. */
function urgentOnes(ctx: FounderContext): Urgent[] {
  const urgent: Urgent[] = [];
  for (const bucket of ctx.queue.buckets.values()) {
    const head = ctx.queue.head(bucket);
    if (head === null || head.rank.priority <= priorityDefault) continue;
    if (bucket.need.secrets.some((name) => !ctx.secrets.has(name))) continue;
    urgent.push({ bucket, queued: head.queued, priority: head.rank.priority });
  }
  return urgent.sort((one, other) => other.priority - one.priority);
}

/** A place was made for it already, and is about to become free. */
function isComing(ctx: FounderContext, task: string): boolean {
  const made = ctx.preempting.get(task);
  if (made === undefined) return false;
  if (ctx.live.get(made.member)?.stopping.has(made.key) === true) return true;
  ctx.preempting.delete(task);
  return false;
}

function victimFor(ctx: FounderContext, bucket: Bucket, { id }: Queued, priority: number): LiveLease | null {
  const failed = new Set([...bucket.need.avoid, ...bucket.need.unfit]);
  const task = ctx.task(id);
  let victim: { lease: LiveLease; priority: number } | null = null;
  for (const lease of ctx.leases.values()) {
    if (lease.role !== 'execute' || lease.pending !== null || failed.has(lease.member)) continue;
    const its = priorityOf(ctx.task(lease.lease.task).schedule);
    if (its > priority - preemptBy) continue;
    const lower = victim === null || its < victim.priority;
    const younger = victim !== null && its === victim.priority && lease.assignedAt > victim.lease.assignedAt;
    if ((lower || younger) && wouldRun(ctx, bucket, task, lease)) victim = { lease, priority: its };
  }
  return victim?.lease ?? null;
}

/** Whether the task could be given to this member, had the lease ended there: else its place were given up for nothing. */
export function wouldRun(ctx: FounderContext, bucket: Bucket, task: TaskRecord, lease: LiveLease): boolean {
  const { need } = bucket;
  if (need.on === null && !ctx.pool.fits(bucket, lease.member)) return false;
  const member = ctx.member(lease.member);
  const live = ctx.live.get(lease.member);
  if (member === null || live === undefined || unavailable(member, live) !== null) return false;
  if (unfit(ctx, need, live, member) !== null) return false;
  if (need.spread?.strict === true) {
    const there = placeOf(ctx, need.spread, lease.member);
    const frees = lease.spread?.name === there.name && lease.spread.place === there.place ? 1 : 0;
    if (countIn(ctx, need.spread, lease.member) > frees) return false;
  }
  return ctx.plugins.hold(ctx, task, lease.member) === null;
}
