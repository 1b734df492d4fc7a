import { flakyChecks, type TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import type { VerificationFacts } from './checks.ts';

/** Logs which checks this attempt, which is about to end, saw give both answers on the same files. */
export function noteFlaky(
  ctx: FounderContext,
  { lease, correlation }: LiveLease,
  checks: readonly number[] = [],
): void {
  const { task: id, attempt } = lease;
  const { flaky = [], spec } = ctx.task(id);
  const known = checks.filter((at) => at < spec.checks.length);
  // Logged, and the founder died before it could end the attempt.
  if (known.length === 0 || flaky.some((one) => one.attempt === attempt)) return;
  ctx.append({ type: 'task.flaky', body: { task: id, attempt, correlation, checks: known } });
}

/** Whether all that kept a verification from passing is that checks are flaky: it says nothing against the result, and nothing for it. */
export function undecided(
  { spec }: TaskRecord,
  { passed, checks, checksFlaky = [] }: VerificationFacts,
): boolean {
  const green = checks.every(({ exitCode }, at) => exitCode === 0 || checksFlaky.includes(at));
  return !passed && checksFlaky.length > 0 && checks.length === spec.checks.length && green;
}

/** Whether the task's verification was one of these. */
export const leftUndecided = ({ verification, flaky = [] }: TaskRecord): boolean =>
  flaky.some(({ attempt }) => attempt === verification?.attempt);

/** Why flaky checks keep a result unverified; null: none is known. */
export function flakyWords(task: Pick<TaskRecord, 'flaky' | 'spec'>): string | null {
  const [first, ...more] = flakyChecks(task);
  if (first === undefined) return null;
  const line = task.spec.checks[first]?.slice(0, 200) ?? '';
  const others = more.length === 0 ? '' : ` and ${more.length} more`;
  return `check ${first + 1}${others} is flaky, both red and green on the same files, and proves nothing: ${line}`;
}
