import { type AttemptRecord, openAttempt, type TaskRecord } from '../../../ledger/state/task-record.ts';
import { keptEnded } from '../../../ledger/state/task-set.ts';
import { restsOn } from '../../../node/views/task.ts';
import { newNonce } from '../../../protocol/ids.ts';
import { leaseKey } from '../../../protocol/session.ts';
import type { CheckedResult, FounderContext, LiveLease } from '../context.ts';
import { draw, dropLease, endLease, openLease, unprovable } from '../lifecycle.ts';
import { countSuccess, stopRestOf } from '../members/back-off.ts';
import { freeSlots, type LiveMember } from '../members/live-member.ts';
import { namesSenders } from '../members/policy-default.ts';
import { assignmentOf } from '../placement/assign.ts';
import { boundsOf, ringHasRoom } from '../placement/capacity.ts';
import { decide } from '../placement/dispatch.ts';
import { unavailable } from '../placement/fit.ts';
import { senderOf } from '../placement/owner-terms.ts';
import { wouldRun } from '../placement/preempt.ts';
import { hiddenChange } from '../results/check-result.ts';
import { undecided } from '../results/flaky.ts';
import { settled } from '../results/late-results.ts';
import { secretMissing } from './agree.ts';
import { foundInvalid } from './trust.ts';
import { verifierParties } from './verifiers.ts';

/** Delivered results that are verified again at one time. */
export const againMax = 2;
/** Leases of one of them that may end without a word through a fault of the machine; then nobody can say. */
export const againFaultsMax = 3;
/** Tasks looked at in one step. */
const looksMax = 16;
/** After one gave its place to a task, none begins for so long. */
const gaveWayMs = 10_000;

/**
 * Has what was delivered, and rests on the word of a machine in quarantine alone, verified again by another party
 * (docs/decisions/trust.md). Called when everything else was given out: only slots that no task and no result can use now are
 * taken, few at one time, and given back when somebody's work wants them.
 */
export function verifyAgain(ctx: FounderContext, ticking: boolean): void {
  const { again } = ctx;
  if (again.stale) lookUp(ctx);
  if (ticking) giveWay(ctx);
  if (ctx.now < again.notBefore || again.due.size === 0 || again.open.size >= againMax) return;
  if (!ticking && again.seen === ctx.pool.news) return;
  again.seen = ctx.pool.news;
  let looks = Math.min(looksMax, again.due.size);
  for (const [id, of] of again.due) {
    if (looks === 0 || again.open.size >= againMax || ctx.leases.size >= boundsOf(ctx).ring) return;
    looks -= 1;
    again.due.delete(id);
    const task = ctx.state.tasks.byId.get(id);
    if (task === undefined || restsOn(ctx.state, task) !== of) continue;
    if (!begin(ctx, task, of)) again.due.set(id, of);
  }
}

/** Results that any verification can prove, and that rest on such a word; the newest first, since they are used first. */
function lookUp(ctx: FounderContext): void {
  const { again, state } = ctx;
  again.stale = false;
  again.due.clear();
  again.seen = -1;
  const { byPeer } = state.members;
  if (![...byPeer.values()].some(({ quarantined }) => quarantined !== undefined)) return;
  for (const id of keptEnded(state.tasks).reverse()) {
    const task = state.tasks.byId.get(id);
    if (task === undefined || again.open.has(id)) continue;
    const of = isDue(ctx, task);
    if (of !== null) again.due.set(id, of);
  }
  for (const id of again.waits.keys()) if (!again.due.has(id) && !again.open.has(id)) again.waits.delete(id);
}

/** Whose word in quarantine this result rests on, where verifying it again can help; null: it need not be, or cannot. */
export function isDue(ctx: FounderContext, task: TaskRecord): string | null {
  const of = restsOn(ctx.state, task);
  if (of === null || ctx.state.members.byPeer.get(of)?.quarantined === undefined) return null;
  if (!ctx.state.tasks.byId.has(task.id)) return null;
  return task.reverified?.outcome === 'unavailable' || unprovable(task) !== null ? null : of;
}

/** Somebody's task could run in the place of one of them, and in no other. */
function giveWay(ctx: FounderContext): void {
  const { again } = ctx;
  for (const task of [...again.open.values()]) {
    const attempt = openAttempt(task, 'verify');
    const key = leaseKey({ task: task.id, attempt: attempt?.number ?? 0, epoch: attempt?.epoch ?? 0 });
    const lease = ctx.leases.get(key);
    if (lease === undefined || lease.pending !== null || !isWanted(ctx, lease)) continue;
    again.notBefore = ctx.now + gaveWayMs;
    ctx.alarms.add(again.notBefore);
    const detail = 'it gave its place to a task';
    endLease(ctx, lease, { fault: 'person', reason: 'refused', detail, cancel: 'superseded' });
  }
}

function isWanted(ctx: FounderContext, lease: LiveLease): boolean {
  if (!ringHasRoom(ctx)) return decide(ctx) !== null;
  const live = ctx.live.get(lease.member);
  if (live === undefined || freeSlots(live) > 0) return false;
  for (const bucket of ctx.queue.buckets.values()) {
    const { avoid, unfit, on, secrets } = bucket.need;
    if (avoid.includes(lease.member) || unfit.includes(lease.member)) continue;
    if ((on === null && ctx.pool.isOpen(bucket)) || secrets.some((name) => !ctx.secrets.has(name))) continue;
    const head = ctx.queue.head(bucket);
    if (head !== null && wouldRun(ctx, bucket, ctx.task(head.queued.id), lease)) return true;
  }
  return false;
}

/** Leases it to another party; false: none can be had now. */
function begin(ctx: FounderContext, task: TaskRecord, of: string): boolean {
  const tried = task.attempts.filter((attempt) => attempt.of === of && attempt.end?.kind === 'ended');
  const faults = tried.filter(({ end }) => end?.kind === 'ended' && end.fault === 'machine');
  const last = faults.at(-1)?.end;
  if (faults.length >= againFaultsMax && last?.kind === 'ended') {
    conclude(
      ctx,
      task,
      of,
      `${faults.length} attempts at it could not say; the last: ${last.detail ?? last.reason}`,
    );
    return true;
  }
  if (waits(ctx, task, tried) || secretMissing(ctx, task) !== null) return false;
  const there = verifierParties(ctx, task).flatMap((member) => {
    const live = ctx.live.get(member.peer);
    return live === undefined || member.peer === of || unavailable(member, live) !== null ? [] : [live];
  });
  const without = (attempts: readonly AttemptRecord[]): LiveMember[] => {
    const peers = new Set(attempts.map(({ member }) => member));
    return there.filter(({ peer }) => !peers.has(peer));
  };
  // One that could not say is asked anew only where there is nobody else: it must not spend the chances of who is busy now.
  const others = without(faults);
  const ready = (others.length > 0 ? others : there).filter((live) => freeSlots(live) > 0);
  const unasked = new Set(without(tried));
  const fresh = ready.filter((live) => unasked.has(live));
  const drawn = fresh.length > 0 ? fresh : ready;
  const live = drawn[Math.floor(draw(ctx) * drawn.length)];
  if (live === undefined) return false;
  lease(ctx, task, live, of);
  return true;
}

/** What persons stop again and again waits longer each time, whichever machines they are at. */
function waits({ again, alarms, now }: FounderContext, { id }: TaskRecord, tried: AttemptRecord[]): boolean {
  const last = tried.at(-1);
  const byPerson = (one: AttemptRecord): boolean => one.end?.kind === 'ended' && one.end.fault === 'person';
  if (last === undefined || !byPerson(last)) return false;
  let known = again.waits.get(id);
  if (known?.last !== last.number) {
    const stops = tried.length - 1 - tried.findLastIndex((one) => !byPerson(one));
    known = { last: last.number, until: now + stopRestOf(stops) };
    again.waits.set(id, known);
    alarms.add(known.until);
  }
  return now < known.until;
}

function lease(ctx: FounderContext, task: TaskRecord, live: LiveMember, of: string): void {
  const { id, correlation } = task;
  const attempt = task.attemptCount + 1;
  const nonce = newNonce(ctx.clock.random);
  const assignment = assignmentOf(ctx, task, attempt, nonce, 'verify', {});
  if (typeof assignment === 'string') {
    conclude(ctx, task, of, assignment);
    return;
  }
  const member = live.peer;
  ctx.append({
    type: 'reverification.assigned',
    body: { task: id, attempt, correlation, member, nonce, of },
  });
  if (live.leases.size === 0) live.leasedAt = ctx.now;
  openLease(ctx, task, attempt, null);
  ctx.again.open.set(id, task);
  live.assignedAt = ctx.now;
  const judges = live.capacity?.accepts?.submitters !== undefined || namesSenders(ctx, live);
  const sender = judges ? senderOf(ctx, task.by) : null;
  if (sender !== null) assignment.sender = sender;
  ctx.send(member, { type: 'assign', assignment });
}

/** Nobody can say: the task keeps its doubt, and `detail` why. */
function conclude(
  ctx: FounderContext,
  { id, correlation, accepted }: TaskRecord,
  of: string,
  detail: string,
) {
  const nobody = { attempt: null, by: null, verification: null, envelope: null, sameOwner: null };
  const said = { outcome: 'unavailable' as const, of, receipt: accepted!.receipt, ...nobody };
  ctx.append({
    type: 'task.reverified',
    body: { task: id, correlation, ...said, detail: detail.slice(0, 2048) },
  });
}

/** After a restart: a lease of this task goes on, as those of open tasks do. */
export function resumeAgain(ctx: FounderContext, task: TaskRecord): void {
  const attempt = task.converged === null ? null : openAttempt(task, 'verify');
  if (attempt === null) return;
  openLease(ctx, task, attempt.number, null);
  ctx.again.open.set(task.id, task);
}

/** What a verifier said of a delivered result. */
export function verifiedAgain(
  ctx: FounderContext,
  lease: LiveLease,
  of: string,
  { result, digest, facts }: CheckedResult & { role: 'verify' },
  envelope: string,
): void {
  const { task: id, attempt } = lease.lease;
  const task = ctx.task(id);
  const { member, correlation } = lease;
  settled(ctx, member, lease.lease, correlation, true, null);
  const hidden = hiddenChange(task, facts.checksChanged);
  const passed = facts.passed && hidden === null;
  const detail = hidden ?? facts.detail ?? result.detail;
  // A flaky check, or one that took too long there, says nothing for it and nothing against it.
  const flaky = hidden === null && undecided(task, facts);
  const agree = task.schedule?.replicas !== undefined;
  const green = passed && agree && facts.replica !== true;
  if (green || (!passed && hidden === null && (flaky || result.reason !== 'check'))) {
    const reason = result.reason ?? 'check';
    endLease(ctx, lease, { fault: 'machine', reason, detail, cancel: null });
    return;
  }
  const executor = task.accepted!.member;
  const owner = (peer: string): string | null => ctx.state.members.byPeer.get(peer)?.owner ?? null;
  ctx.append({
    type: 'task.reverified',
    body: {
      task: id,
      correlation,
      of,
      outcome: passed ? 'confirmed' : 'contradicted',
      attempt,
      by: member,
      receipt: task.accepted!.receipt,
      verification: digest,
      envelope,
      sameOwner: owner(member) === owner(executor),
      detail: detail?.slice(0, 2048) ?? null,
    },
  });
  dropLease(ctx, lease);
  countSuccess(ctx, member);
  ctx.again.ended(id);
  // A command that makes something else on another machine need not have lied on the first.
  if (!passed && !agree) foundInvalid(ctx, lease, executor, detail);
}
