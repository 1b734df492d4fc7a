import { type AttemptRecord, findAttempt, type TaskRecord } from '../../../ledger/state/task-record.ts';
import { hasArchived } from '../../../ledger/state/task-set.ts';
import { type AttemptResult, type Lease, leaseKey } from '../../../protocol/session.ts';
import type { CheckedResult, FounderContext } from '../context.ts';
import { checkResult } from './check-result.ts';

export const notGiven = 'this lease was not given to you, or long ago';

/** The attempt that a result says it is of, where it is this member's; else null. */
export function ownAttempt(
  task: TaskRecord | undefined,
  peer: string,
  { attempt: number, epoch, role }: AttemptResult,
): AttemptRecord | null {
  const attempt = task === undefined ? null : findAttempt(task, number);
  return attempt?.member === peer && attempt.epoch === epoch && attempt.role === role ? attempt : null;
}

/**
 * Has the task of a result read from the log where it may have left the state. True: somebody answers the member, now
 * or when that is done.
 */
export function recall(ctx: FounderContext, peer: string, result: AttemptResult): boolean {
  const key = leaseKey(result);
  if (ctx.late.has(key) || ctx.recalling.has(key)) return true;
  if (!hasArchived(ctx.state.tasks) || ctx.recalling.size >= ctx.config.lateResultsMax) return false;
  ctx.recalling.add(key);
  const purpose = { kind: 'result' as const, peer, result };
  ctx.emit({ type: 'recall', after: 0, wanted: { task: result.task }, purpose });
  return true;
}

/** Its task has ended long ago: the result is evidence at most, like any late one. */
export function onRecalledResult(ctx: FounderContext, peer: string, result: AttemptResult): void {
  ctx.recalling.delete(leaseKey(result));
  const task = ctx.recalled.get(result.task);
  const attempt = ownAttempt(task, peer, result);
  if (task !== undefined && attempt !== null) onLate(ctx, task, attempt, result);
  else settled(ctx, peer, result, result.correlation, false, notGiven);
}

/** A result of a lease that has ended: kept as evidence where there is none of it yet, and settled. */
export function onLate(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: AttemptRecord,
  result: AttemptResult,
): void {
  const peer = attempt.member;
  const { end } = attempt;
  // Said before, and settled then; the member did not hear it.
  const counted = end !== null && (end.kind !== 'ended' || end.receipt !== null);
  if (counted) {
    settled(ctx, peer, result, task.correlation, true, null);
    return;
  }
  const key = leaseKey(result);
  if (ctx.late.has(key)) return;
  const why = 'the lease had ended before the result came';
  if (result.envelope === null || attempt.evidence !== null || ctx.late.size >= ctx.config.lateResultsMax) {
    settled(ctx, peer, result, task.correlation, false, why);
    return;
  }
  const checked = attempt.role === 'execute' ? checkResult(ctx, task, attempt, result) : null;
  const session = ctx.live.get(peer)?.session ?? null;
  const refusal = checked !== null && 'refused' in checked ? checked : null;
  if (refusal !== null || session === null) {
    settled(
      ctx,
      peer,
      result,
      task.correlation,
      false,
      refusal === null ? why : `${why}; ${refusal.refused}`,
    );
    return;
  }
  const { task: id, attempt: number, epoch } = result;
  const lease = { task: id, attempt: number, epoch };
  const { correlation } = task;
  ctx.late.set(key, {
    peer,
    lease,
    role: attempt.role,
    correlation,
    digest: (checked as CheckedResult | null)?.digest ?? null,
  });
  const { envelope } = result;
  ctx.emit({ type: 'collect', peer, session, lease, role: attempt.role, blobs: [], envelope });
}

/** The envelope of a late result is stored, or could not be had. */
export function onLateCollected(
  ctx: FounderContext,
  key: string,
  envelope: string | null,
  failure: string | null,
): void {
  const late = ctx.late.get(key);
  if (late === undefined) return;
  ctx.late.delete(key);
  const { lease, correlation, peer, digest } = late;
  // A member that vanished sends it again when it is back; one that is here would not, so it is settled now.
  if (failure === 'gone' && (ctx.live.get(peer)?.session ?? null) === null) return;
  const task = ctx.state.tasks.byId.get(lease.task);
  const attempt = task === undefined ? null : findAttempt(task, lease.attempt);
  const why = 'the lease had ended before the result came';
  // That there was no evidence of one that has left the state was seen when it was recalled, and `late` kept others away.
  if (task === undefined || (attempt !== null && attempt.evidence === null)) {
    ctx.append({
      type: 'task.evidence',
      body: {
        task: lease.task,
        attempt: lease.attempt,
        correlation,
        epoch: lease.epoch,
        member: peer,
        receipt: digest,
        envelope,
        why,
      },
    });
  }
  settled(ctx, peer, lease, correlation, false, why);
}

/** Tells the member what became of its result, so that it may let it go. */
export function settled(
  ctx: FounderContext,
  peer: string,
  { task, attempt, epoch }: Lease,
  correlation: string,
  accepted: boolean,
  why: string | null,
): void {
  const said = why?.slice(0, 1024) ?? null;
  ctx.send(peer, { type: 'settled', task, attempt, epoch, correlation, accepted, why: said });
}
