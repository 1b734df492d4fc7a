import type { LogEvent } from '../../../ledger/lines/events.ts';
import { writtenEvent } from '../../../ledger/lines/line.ts';
import type { AttemptRecord, TaskRecord } from '../../../ledger/state/task-record.ts';
import { isTrusted } from '../../../ledger/state/trust.ts';
import { asSuperfleetError, SuperfleetError } from '../../../protocol/errors.ts';
import { type AttemptResult, failedModelsMax, leaseKey } from '../../../protocol/session.ts';
import { collectRetryMs, collectsMax } from '../config.ts';
import type { CheckedResult, FounderContext, LiveLease } from '../context.ts';
import { dropLease, endLease, settle } from '../lifecycle.ts';
import { countLacking, countSuccess } from '../members/back-off.ts';
import { replicaSays } from '../trust/agree.ts';
import { verifiedAgain } from '../trust/reverify.ts';
import { foundInvalid, quarantine } from '../trust/trust.ts';
import type { FounderInput } from '../types.ts';
import { checkResult, hiddenChange } from './check-result.ts';
import { noteFlaky, undecided } from './flaky.ts';
import { notGiven, onLate, onLateCollected, ownAttempt, recall, settled } from './late-results.ts';
import { learn } from './learn.ts';
import { doubt, faultOf } from './signals.ts';

/** A member says what came out. Only the lease that is open now can count; everything else is evidence at most. */
export function onResult(ctx: FounderContext, peer: string, result: AttemptResult): void {
  const key = leaseKey(result);
  ctx.live.get(peer)?.stopping.delete(key);
  const task = ctx.state.tasks.byId.get(result.task) ?? ctx.again.open.get(result.task);
  if (task === undefined && recall(ctx, peer, result)) return;
  const attempt = ownAttempt(task, peer, result);
  if (task === undefined || attempt === null) {
    settled(ctx, peer, result, result.correlation, false, notGiven);
    return;
  }
  const lease = ctx.leases.get(key);
  if (attempt.end !== null || lease === undefined) onLate(ctx, task, attempt, result);
  else if (lease.pending === null) onCurrent(ctx, task, attempt, lease, result);
  else if (!lease.collecting) collect(ctx, lease);
}

function onCurrent(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: AttemptRecord,
  lease: LiveLease,
  result: AttemptResult,
): void {
  if (result.envelope === null) {
    if (result.outcome === 'failed') {
      const fault = 'machine';
      const { reason, detail, exitCode } = result;
      settled(ctx, lease.member, result, lease.correlation, true, null);
      const usage = result.usage ?? null;
      noteFailedModels(ctx, lease, result);
      endLease(ctx, lease, {
        fault,
        reason: reason ?? 'environment',
        detail,
        exitCode,
        usage,
        cancel: null,
      });
    } else refuse(ctx, lease, 'the result comes without a signature');
    return;
  }
  const checked = checkResult(ctx, task, attempt, result);
  if ('refused' in checked) {
    refuse(ctx, lease, checked.refused);
    if (checked.lie) quarantine(ctx, lease.member, lease.lease, `a result of it: ${checked.refused}`);
    return;
  }
  lease.pending = checked;
  const { times } = ctx;
  const seen = times.get(task.id);
  if (seen !== undefined && lease.role === 'execute' && lease.startedAt !== null) {
    seen.runMs = ctx.now - lease.startedAt;
  }
  collect(ctx, lease);
}

/** The next attempt asks others first, whichever machine has it. */
function noteFailedModels(ctx: FounderContext, { lease, role }: LiveLease, result: AttemptResult): void {
  const { failedModels: said = [] } = result;
  if (role !== 'execute' || said.length === 0 || ctx.task(lease.task).spec.kind !== 'code') return;
  const before = (ctx.failedModels.get(lease.task) ?? []).filter((model) => !said.includes(model));
  ctx.failedModels.set(lease.task, [...before, ...said].slice(-failedModelsMax));
}

/** What it sent is not what it was asked for: the machine's fault, and the log says so. */
function refuse(ctx: FounderContext, lease: LiveLease, why: string): void {
  settled(ctx, lease.member, lease.lease, lease.correlation, false, why);
  lease.pending = null;
  const detail = `the result was not accepted: ${why}`;
  endLease(ctx, lease, { fault: 'machine', reason: 'refused', detail, cancel: null });
}

function collect(ctx: FounderContext, lease: LiveLease): void {
  const session = ctx.live.get(lease.member)?.session ?? null;
  // Without a session there is nobody to ask; the member sends the result again when it is back.
  if (session === null || lease.pending === null) return;
  const { result } = lease.pending;
  lease.collecting = true;
  lease.collects += 1;
  lease.collectAt = null;
  ctx.emit({
    type: 'collect',
    peer: lease.member,
    session,
    lease: lease.lease,
    role: lease.role,
    blobs: [result.bundle, result.log, ...result.artifacts].filter((blob) => blob !== null),
    envelope: result.envelope,
  });
}

/** Asks again for what could not be had; called on ticks. */
export function retryCollects(ctx: FounderContext): void {
  for (const lease of ctx.leases.values()) {
    if (lease.collectAt !== null && lease.collectAt <= ctx.now) collect(ctx, lease);
  }
}

type Collected = Extract<FounderInput, { type: 'collected' }>;

/** Every blob of a result is on this disk, or could not be had. */
export function onCollected(
  ctx: FounderContext,
  { peer, lease: of, envelopeBlob, failure }: Collected,
): void {
  const key = leaseKey(of);
  const lease = ctx.leases.get(key);
  if (lease === undefined || lease.pending === null) {
    onLateCollected(ctx, key, envelopeBlob, failure?.kind ?? null);
    return;
  }
  if (lease.member !== peer || !lease.collecting) return;
  lease.collecting = false;
  ctx.starts.before(ctx, lease);
  if (failure !== null) {
    onCollectFailure(ctx, lease, failure);
    return;
  }
  if (envelopeBlob === null) {
    throw new SuperfleetError('SF_INTERNAL', 'a result was collected without the blob of its envelope');
  }
  const { pending } = lease;
  lease.pending = null;
  if (pending.role === 'execute') executed(ctx, lease, pending, envelopeBlob);
  else verified(ctx, lease, pending, envelopeBlob);
}

function onCollectFailure(
  ctx: FounderContext,
  lease: LiveLease,
  failure: NonNullable<Collected['failure']>,
): void {
  if (failure.kind === 'bad') {
    refuse(ctx, lease, failure.detail);
  } else if (failure.kind === 'disk') {
    // This founder's own lack: the member is not blamed, and the result waits for room while the lease lives.
    collectLater(ctx, lease, 5 * collectRetryMs);
  } else if (lease.collects >= collectsMax) {
    const detail = `its result could not be fetched: ${failure.detail}`;
    endLease(ctx, lease, { fault: 'machine', reason: 'lost', detail, cancel: 'superseded' });
  } else collectLater(ctx, lease, collectRetryMs);
}

function collectLater(ctx: FounderContext, lease: LiveLease, ms: number): void {
  lease.collectAt = ctx.now + ms;
  ctx.alarms.add(lease.collectAt);
}

function executed(
  ctx: FounderContext,
  lease: LiveLease,
  { result, digest, facts }: CheckedResult & { role: 'execute' },
  envelope: string,
): void {
  const { exitCode, commit, bundle, log, artifacts } = result;
  const usage = result.usage ?? lease.usage;
  if (result.outcome === 'failed') {
    const { reason, detail } = result;
    settled(ctx, lease.member, lease.lease, lease.correlation, true, null);
    noteFailedModels(ctx, lease, result);
    learn(ctx, lease, facts);
    noteFlaky(ctx, lease, facts.checksFlaky);
    endLease(ctx, lease, {
      fault: faultOf(ctx, lease, result, facts),
      reason: reason ?? 'task',
      detail,
      exitCode,
      receipt: digest,
      envelope,
      log,
      usage,
      cancel: null,
    });
    return;
  }
  const { task, attempt } = lease.lease;
  const event = {
    type: 'task.executed' as const,
    body: {
      task,
      attempt,
      correlation: lease.correlation,
      exitCode,
      commit,
      receipt: digest,
      envelope,
      bundle,
      log,
      artifacts,
      checksChanged: facts.checksChanged.slice(0, 64),
    },
  };
  // Everything else in it is short by the form of a result.
  const long = artifacts.length > 0 || facts.checksChanged.length > 0;
  const fault = long ? lineFault(event) : null;
  settled(ctx, lease.member, lease.lease, lease.correlation, fault === null, fault);
  if (fault !== null) {
    const detail = `the result does not fit the log: ${fault}; name fewer artifacts, or an archive of them`;
    endLease(ctx, lease, {
      fault: 'task',
      reason: 'task',
      detail,
      exitCode,
      receipt: digest,
      envelope,
      usage,
      cancel: null,
    });
    return;
  }
  learn(ctx, lease, facts);
  if (facts.work?.lowConfidence === true) doubt(ctx, lease);
  noteFlaky(ctx, lease, facts.checksFlaky);
  ctx.plugins.ending(ctx, ctx.task(task), attempt, { reason: null, usage });
  ctx.append(event);
  dropLease(ctx, lease);
  countSuccess(ctx, lease.member);
  countLacking(ctx, ctx.task(task));
  settle(ctx, ctx.task(task));
}

function lineFault(event: LogEvent): string | null {
  try {
    writtenEvent(event);
    return null;
  } catch (error) {
    return asSuperfleetError(error).message;
  }
}

function verified(
  ctx: FounderContext,
  lease: LiveLease,
  { result, digest, facts }: CheckedResult & { role: 'verify' },
  envelope: string,
): void {
  if (lease.of !== null) {
    verifiedAgain(ctx, lease, lease.of, { role: 'verify', result, digest, facts }, envelope);
    return;
  }
  const { task: id, attempt } = lease.lease;
  const task = ctx.task(id);
  settled(ctx, lease.member, lease.lease, lease.correlation, true, null);
  if (result.outcome === 'failed' && (result.fault === 'machine' || result.fault === 'person')) {
    const { reason, detail, exitCode } = result;
    const more = { exitCode, receipt: digest, envelope, log: result.log, cancel: null };
    endLease(ctx, lease, { fault: 'machine', reason: reason ?? 'environment', detail, ...more });
    return;
  }
  const owner = (peer: string): string | null => ctx.state.members.byPeer.get(peer)?.owner ?? null;
  const hidden = hiddenChange(task, facts.checksChanged);
  const agree = task.schedule?.replicas !== undefined;
  const flaky = hidden === null && !agree && undecided(task, facts);
  if (flaky) noteFlaky(ctx, lease, facts.checksFlaky);
  const passed = facts.passed && hidden === null;
  const detail = hidden ?? facts.detail ?? result.detail;
  if (agree && replicaSays(ctx, lease, { result, digest, facts, envelope, passed, detail })) return;
  const executor = task.accepted!.member;
  const trust = ctx.state.trust;
  const before = isTrusted(trust, executor);
  ctx.append({
    type: 'task.verified',
    body: {
      task: id,
      attempt,
      correlation: lease.correlation,
      receipt: task.accepted!.receipt,
      verification: digest,
      envelope,
      passed,
      sameOwner: owner(lease.member) === owner(executor),
      detail: detail?.slice(0, 2048) ?? null,
    },
  });
  dropLease(ctx, lease);
  countSuccess(ctx, lease.member);
  // Results that waited for somebody who is trusted may have one more to ask.
  if (isTrusted(trust, executor) !== before) ctx.fleet += 1;
  // A check that took too long there, on a slower machine, says nothing of a lie.
  if (!passed && !flaky && !agree && (hidden !== null || result.reason === 'check'))
    foundInvalid(ctx, lease, executor, detail);
  settle(ctx, task);
}
