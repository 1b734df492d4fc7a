import { questionCharactersMax, questionsMax } from '../../../protocol/limits.ts';
import { type AttemptResult, MODELS_FEATURE } from '../../../protocol/session.ts';
import type { Fault } from '../../../protocol/task.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import { mismatch, unavailable } from '../placement/fit.ts';
import { needOf } from '../queue/queue.ts';
import type { ReceiptFacts } from './checks.ts';

/**
 * Whose fault a failed execution is, by what its receipt says. What a model says instead of a result is in the log before its attempt
 * ends, so that what follows from it follows whatever breaks in between.
 */
export function faultOf(
  ctx: FounderContext,
  lease: LiveLease,
  { reason, fault, commit, bundle }: Pick<AttemptResult, 'reason' | 'fault' | 'commit' | 'bundle'>,
  { work }: ReceiptFacts,
): Fault {
  const { task: id, attempt } = lease.lease;
  const goal = ctx.task(id).spec.kind === 'code';
  const signal = reason === 'signal' && goal ? work?.signal : undefined;
  switch (signal?.kind) {
    case 'clarification_needed':
      return ask(ctx, lease, signal.text) ? 'person' : 'task';
    case 'task_rejection':
      return reject(ctx, lease, signal.text, work?.model ?? '');
    case 'partial_completion':
      if (commit !== null && bundle !== null) {
        const { correlation } = lease;
        const body = { task: id, attempt, correlation, commit, bundle, left: signal.text.toWellFormed() };
        ctx.append({ type: 'task.partial', body });
      }
      return 'task';
    default:
      // Persons stop work by other messages: a member cannot have a task tried for ever by naming one.
      return fault === 'person' ? 'machine' : (fault ?? 'task');
  }
}

/** Logs a question; false: so many were answered already that another answer is not to be hoped to help. */
function ask(ctx: FounderContext, { lease, correlation }: LiveLease, text: string): boolean {
  const { task: id, attempt } = lease;
  const { questions = [] } = ctx.task(id);
  // Logged, and the founder died before it could end the attempt.
  if (questions.at(-1)?.attempt === attempt) return true;
  if (questions.length >= questionsMax) return false;
  const question = text.slice(0, questionCharactersMax).toWellFormed().trim() || 'it did not say what';
  ctx.append({ type: 'task.asked', body: { task: id, attempt, correlation, question } });
  return true;
}

/** Another brain is to look at it, once and where there is one; then a person, who is asked what is to become of it. */
function reject(ctx: FounderContext, lease: LiveLease, why: string, model: string): Fault {
  const { task: id, attempt } = lease.lease;
  const { rejections = [] } = ctx.task(id);
  if (rejections.at(-1)?.attempt !== attempt) {
    const { correlation } = lease;
    ctx.append({ type: 'task.rejected', body: { task: id, attempt, correlation, model } });
  }
  const first = rejections.every((one) => one.attempt === attempt);
  if (first && otherBrain(ctx, lease, model)) return 'machine';
  return ask(ctx, lease, `${model || 'its model'} rejects the task: ${why}`) ? 'person' : 'task';
}

/** Whether another machine can take the task now, busy or not, or this one may ask a model besides. */
function otherBrain(ctx: FounderContext, { lease, member: peer }: LiveLease, model: string): boolean {
  const task = ctx.task(lease.task);
  const need = needOf(task);
  for (const live of ctx.live.values()) {
    const member = ctx.member(live.peer);
    if (live.peer === peer || member === null || unavailable(member, live) !== null) continue;
    const lent = ctx.lentTo(member.peer);
    if (mismatch(need, member, live, ctx.labelsGiven(member.peer), lent) === null) return true;
  }
  // A model or an agent that was named leaves none to choose.
  if (need.model !== '*' || need.brain !== null) return false;
  const { capacity, features = [] } = ctx.live.get(peer) ?? {};
  const lenders = features.includes(MODELS_FEATURE) ? ctx.lenders.list : [];
  const lent = lenders.flatMap((lender) => (lender.peer === peer ? [] : lender.models));
  return [...(capacity?.models ?? []), ...lent].some((one) => one !== model);
}

/** Logs that the result which is about to be accepted is one that its model is not sure of. */
export function doubt(ctx: FounderContext, { lease, correlation }: LiveLease): void {
  const { task: id, attempt } = lease;
  const task = ctx.task(id);
  // Logged, and the founder died before it could accept the result.
  if (task.spec.kind !== 'code' || task.doubted === attempt) return;
  ctx.append({ type: 'task.doubted', body: { task: id, attempt, correlation } });
}
