import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { questionCharactersMax, questionsMax } from '../../protocol/limits.ts';
import type { AttemptResult } from '../../protocol/session.ts';
import type { Fault } from '../../protocol/task.ts';
import type { ReceiptFacts } from './checks.ts';
import type { FounderContext, LiveLease } from './context.ts';

/**
 * Whose fault a failed execution is, by what its receipt says. A model that asks leaves its question in the log before its attempt ends, so
 * that the task waits for the answer, whatever breaks in between.
 */
export function faultOf(
  ctx: FounderContext,
  lease: LiveLease,
  { reason, fault }: Pick<AttemptResult, 'reason' | 'fault'>,
  { work }: ReceiptFacts,
): Fault {
  const task = ctx.task(lease.lease.task);
  const signal = reason === 'signal' && task.spec.kind === 'code' ? work?.signal : undefined;
  if (signal?.kind === 'clarification_needed') return ask(ctx, lease, signal.text) ? 'person' : 'task';
  // Once: another machine's model may see a way. When that one refuses, too, a person has to look at the task.
  if (signal?.kind === 'task_rejection' && !rejected(task)) return 'machine';
  // Persons stop work by other messages: a member cannot have a task tried for ever by naming one.
  return fault === 'person' ? 'machine' : (fault ?? 'task');
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

const rejected = ({ attempts }: TaskRecord): boolean =>
  attempts.some(({ end }) => end?.kind === 'ended' && end.reason === 'signal' && end.fault === 'machine');

/** Logs that the result which is about to be accepted is one that its model is not sure of. */
export function doubt(ctx: FounderContext, { lease, correlation }: LiveLease): void {
  const { task: id, attempt } = lease;
  const task = ctx.task(id);
  // Logged, and the founder died before it could accept the result.
  if (task.spec.kind !== 'code' || task.doubted === attempt) return;
  ctx.append({ type: 'task.doubted', body: { task: id, attempt, correlation } });
}
