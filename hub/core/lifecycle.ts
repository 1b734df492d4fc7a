import type { EventBody } from '../../ledger/lines/events.ts';
import {
  confidenceOf,
  findAttempt,
  openAttempt,
  openQuestion,
  type TaskRecord,
} from '../../ledger/state/task-record.ts';
import { leaseKey, type ResultBlob } from '../../protocol/session.ts';
import type { FailureReason, Fault } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import { otherMemberWaitMs, retryBaseMs, retryMaxMs, sameMemberBaseMs, sameMemberMaxMs } from './config.ts';
import type { FounderContext, GivenUp, LiveLease } from './context.ts';
import { countEnd } from './members/back-off.ts';
import { spreadOf } from './placement/spread.ts';
import { submitterOf } from './queue/fair-share.ts';
import { isFrozen } from './queue/freeze.ts';
import { comesAfterOpen } from './queue/holds.ts';
import { flakyWords, leftUndecided } from './results/flaky.ts';
import { disagreement, mustVerify } from './trust/agree.ts';

type Converged = EventBody<'task.converged'>;

/** Why a lease ends without an accepted result. */
export interface Ending {
  fault: Fault;
  reason: FailureReason;
  detail: string | null;
  exitCode?: number | null;
  receipt?: string | null;
  envelope?: string | null;
  log?: ResultBlob | null;
  /** What models were asked for it, by its result. @default as its member said last */
  usage?: Usage | null;
  /** Tell the member to stop; null: it knows, or cannot be told. */
  cancel: 'cancelled' | 'paused' | 'revoked' | 'superseded' | null;
}

/** Ends an open lease: logged, the member told, and the task brought to its next state. */
export function endLease(ctx: FounderContext, lease: LiveLease, ending: Ending): void {
  if (lease.of !== null) {
    endAgain(ctx, lease, ending);
    return;
  }
  ctx.starts.before(ctx, lease);
  const { task: id, attempt } = lease.lease;
  const { reason } = ending;
  const detail = ending.detail?.slice(0, 2048) ?? null;
  const usage = ending.usage ?? lease.usage;
  const verdict = ctx.plugins.ending(ctx, ctx.task(id), attempt, { reason, usage });
  ctx.append({
    type: 'attempt.ended',
    body: {
      task: id,
      attempt,
      correlation: lease.correlation,
      fault: verdict === 'wait' ? 'person' : ending.fault,
      reason,
      detail,
      exitCode: ending.exitCode ?? null,
      receipt: ending.receipt ?? null,
      envelope: ending.envelope ?? null,
      log: ending.log ?? null,
    },
  });
  dropLease(ctx, lease);
  countEnd(ctx, lease.member, verdict === 'wait' ? 'person' : ending.fault, reason);
  tellStop(ctx, lease, ending.cancel);
  const task = ctx.task(id);
  if (verdict === 'end' && task.state === 'queued' && task.cancelledBy === null) {
    const { exitCode = null, receipt = null } = ending;
    converge(ctx, task, { state: 'failed', reason, detail, exitCode, receipt });
  } else settle(ctx, task);
}

/** Of what had been delivered: the task stays as it is. */
function endAgain(ctx: FounderContext, lease: LiveLease, { fault, reason, detail, cancel }: Ending): void {
  const { task, attempt } = lease.lease;
  const { correlation } = lease;
  const words = detail?.slice(0, 2048) ?? null;
  const body = { task, attempt, correlation, fault, reason, detail: words };
  ctx.append({ type: 'reverification.ended', body });
  dropLease(ctx, lease);
  countEnd(ctx, lease.member, fault, reason);
  tellStop(ctx, lease, cancel);
  ctx.again.ended(task);
}

function tellStop(ctx: FounderContext, lease: LiveLease, why: Ending['cancel']): void {
  if (why === null) return;
  const live = ctx.live.get(lease.member);
  if (live !== undefined && live.session !== null) live.stopping.set(lease.key, ctx.now);
  const { correlation } = lease;
  ctx.send(lease.member, { type: 'cancel', ...lease.lease, correlation, why });
}

/** Takes a closed lease out of the live view. A result that came for it and was not settled is late from now on. */
export function dropLease(ctx: FounderContext, lease: LiveLease): void {
  ctx.leases.delete(lease.key);
  ctx.live.get(lease.member)?.leases.delete(lease.key);
  if (lease.spread !== null) ctx.spreads.remove(lease.spread);
  if (lease.role === 'execute') {
    ctx.queue.shares.ran(submitterOf(ctx.task(lease.lease.task).by), ctx.now - lease.assignedAt);
  }
  const { member: peer, role, correlation, lease: of, pending } = lease;
  if (pending === null) return;
  const digest = pending.role === 'execute' ? pending.digest : null;
  if (lease.collecting && ctx.late.size < ctx.config.lateResultsMax) {
    ctx.late.set(lease.key, { peer, lease: of, role, correlation, digest });
  } else {
    const why = 'the lease ended before the result was fetched';
    ctx.send(peer, { type: 'settled', ...of, correlation, accepted: false, why });
  }
}

/**
 * Brings an open task to the state that follows from what is logged of it: level-triggered, so that after a crash
 * between two entries it goes on where it stood. Does nothing where nothing follows.
 */
export function settle(ctx: FounderContext, task: TaskRecord): void {
  if (task.converged !== null) return;
  // What was verified in time goes out, though it was kept back by a pause since.
  const givenUp = task.state === 'verified' ? undefined : ctx.givenUp.get(task.id);
  const ending = task.cancelledBy === null ? givenUp : CANCELLED;
  if (ending !== undefined) {
    close(ctx, task, ending);
    return;
  }
  switch (task.state) {
    case 'queued':
      settleQueued(ctx, task);
      break;
    case 'executed':
    case 'verified':
      // Of what comes in after the kill switch nothing goes out before the mesh is resumed.
      if (ctx.state.mesh.paused) ctx.queue.remove(task.id);
      else if (task.state === 'verified') deliver(ctx, task, null);
      else settleExecuted(ctx, task);
      break;
    default:
      ctx.queue.remove(task.id);
  }
}

/** Ends an open task whatever it does now: its leases first, then the task itself. */
export function giveUp(ctx: FounderContext, task: TaskRecord, ending: GivenUp): void {
  ctx.givenUp.set(task.id, ending);
  settle(ctx, task);
}

const CANCELLED: GivenUp = { state: 'cancelled', reason: null, detail: 'cancelled by a person' };

function close(ctx: FounderContext, task: TaskRecord, ending: GivenUp): void {
  const { state, reason, detail } = ending;
  for (const attempt of task.attempts.filter((one) => one.end === null)) {
    const lease = ctx.leases.get(leaseKey({ task: task.id, attempt: attempt.number, epoch: attempt.epoch }));
    if (lease === undefined) continue;
    // Ends by `settle` of the last of them, which converges.
    endLease(ctx, lease, {
      fault: 'person',
      reason: reason ?? 'refused',
      detail: state === 'cancelled' ? 'the task was cancelled' : detail,
      cancel: 'cancelled',
    });
    if (task.converged !== null) return;
  }
  if (task.attempts.some((attempt) => attempt.end === null)) return;
  const refuted = task.verification?.passed === false && !leftUndecided(task);
  const asItIs = state === 'failed' && task.state === 'executed' && !mustVerify(task) && !refuted;
  if (!asItIs) converge(ctx, task, { state, reason, detail });
  // Nothing goes out before the mesh is resumed, which settles it again.
  else if (!ctx.state.mesh.paused) deliver(ctx, task, `unverified: ${detail}`);
}

function settleQueued(ctx: FounderContext, task: TaskRecord): void {
  ctx.unverified.delete(task.id);
  ctx.parked.delete(task.id);
  const last = task.lastEnd;
  if (last !== null && task.retriesUsed > task.spec.retries) {
    const { reason, detail, exitCode } = last;
    converge(ctx, task, { state: 'failed', reason, detail, exitCode, receipt: last.receipt });
  } else if (last !== null && task.machineFaults >= ctx.config.machineFaultsMax) {
    const detail = `given up after ${task.machineFaults} faults of machines; the last: ${last.detail ?? last.reason}`;
    converge(ctx, task, { state: 'failed', reason: 'lost', detail: detail.slice(0, 2048) });
  } else if (openQuestion(task) !== null) {
    ctx.queue.remove(task.id);
    ctx.troubled.delete(task.id);
    ctx.asking.add(task.id);
  } else {
    ctx.asking.delete(task.id);
    const held = comesAfterOpen(ctx, task) || isFrozen(ctx, task) || !ctx.holds.enter(task);
    if (task.converged !== null) return;
    if (held) {
      ctx.held.add(task.id);
      ctx.queue.remove(task.id);
      return;
    }
    ctx.held.delete(task.id);
    const times = retryTimes(ctx, task);
    ctx.queue.add(task, times, ctx.now);
    for (const at of Object.values(times)) if (at > ctx.now) ctx.alarms.add(at);
    if (task.unfit.length > 0) ctx.troubled.add(task.id);
  }
}

/** A fault of the task backs off; one of a machine or person goes elsewhere at once, and to the same member later. */
function retryTimes(ctx: FounderContext, task: TaskRecord) {
  const { now } = ctx;
  const last = task.lastEnd;
  if (last === null) return { notBefore: now, sameMemberAt: now, anyMemberAt: now };
  const sameMemberAt = now + doubled(sameMemberBaseMs, sameMemberMaxMs, task.machineFaults - 1);
  const backOff = doubled(retryBaseMs, retryMaxMs, task.retriesUsed - 1);
  const wait = (): number => Math.max(backOff * (1 - 0.5 * draw(ctx)), ctx.retries.take(now));
  const notBefore = last.fault === 'task' ? now + wait() : now;
  return { notBefore, sameMemberAt, anyMemberAt: now + otherMemberWaitMs };
}

const doubled = (base: number, max: number, times: number): number =>
  Math.min(max, base * 2 ** Math.max(0, times));

/** A number in [0, 1) from the random source. */
export function draw(ctx: FounderContext): number {
  return Buffer.from(ctx.clock.random(4)).readUInt32BE() / 2 ** 32;
}

function settleExecuted(ctx: FounderContext, task: TaskRecord): void {
  ctx.queue.remove(task.id);
  const { accepted, verification, spec, flaky = [] } = task;
  if (verification?.passed === false && !leftUndecided(task)) {
    const { correlation, id } = task;
    const { attempt, exitCode, receipt, envelope, log } = accepted!;
    const detail =
      disagreement(ctx, task) ??
      `the checks were not green on another machine: ${verification.detail ?? 'no detail'}`;
    ctx.append({
      type: 'attempt.ended',
      body: {
        task: id,
        attempt,
        correlation,
        fault: 'task',
        reason: 'check',
        detail: detail.slice(0, 2048),
        exitCode,
        receipt,
        envelope,
        log,
      },
    });
    settle(ctx, task);
  } else if (
    verification !== null ||
    flaky.length > 0 ||
    (task.schedule?.replicas === undefined && (spec.checks.length === 0 || spec.repository === null))
  ) {
    // Checks that are flaky or that the result itself changed prove nothing, whoever ran them; nor do none, nor those of an empty workspace.
    if (!spec.requireVerified) deliver(ctx, task, unprovable(task));
  } else if (
    openAttempt(task, 'verify') === null &&
    !ctx.unverified.has(task.id) &&
    !ctx.parked.has(task.id)
  ) {
    const { verifierFaults: faults } = task;
    const wait = faults === 0 ? 0 : doubled(sameMemberBaseMs, sameMemberMaxMs, faults - 1);
    ctx.unverified.set(task.id, { aloneSince: null, aloneIn: 0, retryAt: ctx.now + wait });
    if (wait > 0) ctx.alarms.add(ctx.now + wait);
  }
}

/** Why no verification can make this result verified; null: one could. */
export function unprovable(task: TaskRecord): string | null {
  const agree = task.schedule?.replicas !== undefined;
  if (task.spec.checks.length === 0 && !agree) return 'unverified: the task has no checks';
  if (task.spec.repository === null && !agree)
    return 'unverified: without a repository no other machine can see the result';
  const flaky = flakyWords(task);
  if (flaky !== null) return `unverified: ${flaky}`;
  const changed = task.accepted?.checksChanged ?? [];
  if (changed.length === 0) return null;
  return `unverified: the result changes the files that check it: ${changed.slice(0, 8).join(', ')}`;
}

/** Finishes an executed task. `detail` says why it is unverified, where it is. */
export function deliver(ctx: FounderContext, task: TaskRecord, detail: string | null): void {
  const verified = task.state === 'verified';
  converge(ctx, task, {
    state: 'delivered',
    reason: null,
    detail,
    verified,
    confidence: confidenceOf(task) ?? 0,
  });
}

/** Logs the convergence record; the task is finished, and nothing of it is kept here. */
export function converge(
  ctx: FounderContext,
  task: TaskRecord,
  facts: Pick<Converged, 'state' | 'reason' | 'detail'> & Partial<Converged>,
): void {
  const { accepted, verification } = task;
  const times = ctx.times.get(task.id);
  const faults = task.attempts.flatMap(({ member, end }) =>
    end?.kind === 'ended' && end.fault !== 'person' ? [{ member, reason: end.reason, fault: end.fault }] : [],
  );
  const delivered = facts.state === 'delivered';
  const queuedMs =
    times?.queuedAt == null || times.firstAssignedAt === null ? null : times.firstAssignedAt - times.queuedAt;
  ctx.append({
    type: 'task.converged',
    body: {
      task: task.id,
      correlation: task.correlation,
      verified: false,
      confidence: 0,
      executor: accepted?.member ?? task.lastEnd?.member ?? null,
      verifier: verification?.member ?? null,
      sameOwner: verification?.sameOwner ?? null,
      attempts: task.executions,
      commit: delivered ? (accepted?.commit ?? null) : null,
      exitCode: delivered ? (accepted?.exitCode ?? null) : null,
      receipt: accepted?.receipt ?? null,
      verification: verification?.verification ?? null,
      learned: {
        queuedMs: queuedMs === null ? null : Math.round(queuedMs),
        runMs: times?.runMs == null ? null : Math.round(times.runMs),
        faults: faults.slice(-32),
      },
      ...facts,
    },
  });
  ctx.times.delete(task.id);
  ctx.repeats.end(task.id);
  ctx.room.end(task.id, ctx.now);
  ctx.givenUp.delete(task.id);
  ctx.failedModels.delete(task.id);
  ctx.holds.end(task);
  ctx.deadlines.end(task.id);
  ctx.preempting.delete(task.id);
  ctx.queue.remove(task.id);
  ctx.asking.delete(task.id);
  ctx.held.delete(task.id);
  ctx.frozen.delete(task.id);
  ctx.unverified.delete(task.id);
  ctx.parked.delete(task.id);
  ctx.troubled.delete(task.id);
}

/** The lease of an attempt of the log as this process keeps it. */
export function openLease(
  ctx: FounderContext,
  task: TaskRecord,
  number: number,
  startedAt: number | null,
): LiveLease {
  const attempt = findAttempt(task, number)!;
  const lease = { task: task.id, attempt: number, epoch: attempt.epoch };
  const opened: LiveLease = {
    key: leaseKey(lease),
    lease,
    role: attempt.role,
    member: attempt.member,
    correlation: task.correlation,
    assignedAt: ctx.now,
    startedAt,
    phase: null,
    suspendedAt: null,
    suspendedMs: 0,
    usage: null,
    pending: null,
    collecting: false,
    collects: 0,
    collectAt: null,
    of: attempt.of ?? null,
    spread: attempt.role === 'execute' ? spreadOf(ctx, task, attempt.member) : null,
  };
  if (opened.spread !== null) ctx.spreads.add(opened.spread);
  ctx.leases.set(opened.key, opened);
  ctx.liveMember(attempt.member).leases.add(opened.key);
  return opened;
}
