import { isHalted } from '../../../ledger/state/mesh.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FounderContext } from '../context.ts';
import { converge, settle } from '../lifecycle.ts';
import { starved } from '../members/replicas.ts';
import { endOverdue } from '../queue/deadlines.ts';
import { releaseHeld } from '../queue/holds.ts';
import { type Bucket, goesFirst, needOf, type Rank } from '../queue/queue.ts';
import { verifyAgain } from '../trust/reverify.ts';
import { giveToVerifiers } from '../trust/verifiers.ts';
import { assign } from './assign.ts';
import { noteHeld, ringHasRoom } from './capacity.ts';
import { unavailable } from './fit.ts';
import { type Placement, placeFirst } from './placement.ts';
import { unfit } from './pool.ts';
import { preempt } from './preempt.ts';

/**
 * Gives out what can be given now: results to verifiers first, since they free what waits for them, then tasks in their
 * order. Called after every input that may have changed something, and by the tick.
 */
export function dispatch(ctx: FounderContext, ticking: boolean): void {
  endOverdue(ctx);
  releaseHeld(ctx);
  ctx.queue.wake(ctx.now);
  ctx.pool.refresh(ctx, ticking);
  if (isHalted(ctx.state.mesh) || ctx.now < ctx.settledAt || starved(ctx)) return;
  giveToVerifiers(ctx, ticking);
  giveUpUnfit(ctx);
  for (const [bucket, at] of ctx.later) {
    if (ctx.now < at && ctx.queue.buckets.has(bucket.key)) continue;
    ctx.later.delete(bucket);
    if (ctx.queue.buckets.get(bucket.key) === bucket) ctx.pool.ready.add(bucket);
  }
  while (ringHasRoom(ctx)) {
    const placement = decide(ctx);
    if (placement === null) break;
    const { task, live } = placement;
    // Frozen since it was queued: it goes aside, so that it holds up no other.
    if (ctx.plugins.park(ctx, task) !== null) {
      ctx.queue.remove(task.id);
      settle(ctx, task);
      continue;
    }
    ctx.queue.serve(task.id);
    ctx.preempting.delete(task.id);
    assign(ctx, task, live, 'execute');
  }
  preempt(ctx);
  if (ringHasRoom(ctx)) noteHeld(ctx, false);
  // A look at what could run costs as much as a decision: the tick is soon enough for it.
  else if (ticking) noteHeld(ctx, decide(ctx) !== null);
  verifyAgain(ctx, ticking);
}

/** The task that is given out next, and to whom; null: none can be now. */
export function decide(ctx: FounderContext): Placement | null {
  ctx.pool.refresh(ctx, false);
  let best: Placement | null = null;
  const passed: Bucket[] = [];
  for (let first = firstReady(ctx); first !== null; first = firstReady(ctx)) {
    const { bucket, rank } = first;
    if (best !== null && goesFirst(best.rank, rank)) break;
    const placement = placeFirst(ctx, bucket);
    if (placement !== null && !goesFirst(rank, placement.rank)) {
      best = placement;
      break;
    }
    ctx.pool.ready.delete(bucket);
    if (placement === null) continue;
    // Its first task is held: whatever comes behind that goes no sooner than what stands before it in other buckets.
    passed.push(bucket);
    if (best === null || goesFirst(placement.rank, best.rank)) best = placement;
  }
  for (const bucket of passed) ctx.pool.ready.add(bucket);
  return best;
}

/** Of the buckets that something may be given out of, the one whose first task goes first. */
function firstReady(ctx: FounderContext): { bucket: Bucket; rank: Rank } | null {
  let first: { bucket: Bucket; rank: Rank } | null = null;
  for (const bucket of ctx.pool.ready) {
    const head = ctx.pool.isOpen(bucket) ? ctx.queue.head(bucket) : null;
    if (head === null) ctx.pool.ready.delete(bucket);
    else if (first === null || goesFirst(head.rank, first.rank)) first = { bucket, rank: head.rank };
  }
  return first;
}

/**
 * Ends queued tasks for which every machine that is asked for lacks something, and says what. A member that may come
 * back within its grace, or has not had the time to since the founder started, is waited for.
 */
export function giveUpUnfit(ctx: FounderContext): void {
  for (const id of ctx.troubled) {
    const task = ctx.task(id);
    const outlook = task.state === 'queued' ? outlookOf(ctx, task) : 'gone';
    if (outlook === 'gone') ctx.troubled.delete(id);
    if (outlook !== 'hopeless') continue;
    ctx.troubled.delete(id);
    const lacking = task.attempts.findLast(
      ({ end }) => end?.kind === 'ended' && end.reason === 'environment',
    );
    const end = lacking?.end?.kind === 'ended' ? lacking.end : task.lastEnd;
    const { detail = null, exitCode = null, receipt = null } = end ?? {};
    converge(ctx, task, { state: 'failed', reason: 'environment', detail, exitCode, receipt });
  }
}

/** `hopeless`: members fit, all of them lack what it needs. `hopeful`: one does not, or may still come. */
function outlookOf(ctx: FounderContext, task: TaskRecord): 'hopeful' | 'hopeless' {
  const need = needOf(task);
  let lacking = false;
  for (const member of ctx.state.members.byPeer.values()) {
    if (member.standing !== 'active' || !member.roles.includes('worker')) continue;
    const live = ctx.live.get(member.peer);
    if (unfit(ctx, { ...need, unfit: [] }, live, member) !== null) continue;
    if (need.unfit.includes(member.peer)) {
      lacking = true;
      continue;
    }
    const awaitedUntil = live?.awaitedUntil ?? ctx.startedAt + ctx.config.leaseMs;
    const online = live !== undefined && live.session !== null;
    const rests = online && live.backOff?.until != null;
    if (online ? rests || unavailable(member, live) === null : ctx.now < awaitedUntil) return 'hopeful';
  }
  return lacking ? 'hopeless' : 'hopeful';
}
