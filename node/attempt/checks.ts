import type { TaskSpec } from '../../protocol/task.ts';
import type { Change } from '../git/changes.ts';
import { checkFilesIn } from './check-files.ts';
import type { Checkout } from './checkout.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { AttemptFailure } from './failure.ts';
import { runStep, type Step, stepInSandbox } from './step.ts';

/**
 * Runs the task's checks in order, each by `sh -c` in the workspace with no secrets, after the check files have been
 * put back as the base has them. Throws at the first that is red, could not start, or met a limit.
 */
export async function runChecks(
  context: AttemptContext,
  checkout: Checkout,
  changes: readonly Change[],
  facts: AttemptFacts,
): Promise<void> {
  const { spec } = context.assignment;
  const found = checkFilesIn(spec.checks, spec.checkFiles, changes);
  facts.checksChanged = found.changed;
  if (spec.checks.length === 0) return;
  context.hooks.progress('check', context.log.bytes);
  if (found.changed.length > 0) {
    await context.log.say(
      `changed by the task, and put back as in the base for the checks: ${found.changed.join(', ')}`,
    );
    await checkout.repository?.restore(found.restore, found.remove, context.signal);
  }
  for (const [index, line] of spec.checks.entries()) {
    facts.ran = true;
    const check = { line, exitCode: null as number | null };
    const step = checkStep(spec, index);
    const { name } = step;
    facts.checks.push(check);
    const running = runStep(
      context.sandbox,
      step,
      checkout.mounts,
      checkout.path,
      spec.limits,
      context.log,
      context.member.name,
      context.signal,
    );
    checkAhead(context, checkout, index + 1);
    check.exitCode = await running;
    if (check.exitCode === 0) continue;
    throw new AttemptFailure(
      'check',
      'task',
      `${name} is red (exit ${check.exitCode}): ${line.slice(0, 400)}${restoredWords(found.changed)}`,
    );
  }
}

function checkStep(spec: TaskSpec, index: number): Step {
  const line = spec.checks[index]!;
  const name = `check ${index + 1} of ${spec.checks.length}`;
  return { name, line, argv: ['sh', '-c', line], env: spec.env, timeoutMs: spec.checkTimeoutMs };
}

/** Sets up the sandbox of a check that is to come, where there is such a check. */
export function checkAhead(
  { assignment: { spec }, sandbox }: AttemptContext,
  { mounts, path }: Pick<Checkout, 'mounts' | 'path'>,
  index: number,
): void {
  if (index < spec.checks.length)
    sandbox.ahead(stepInSandbox(checkStep(spec, index), mounts, path, spec.limits));
}

/** A red check after a restore is often a check line that names what the task was to change: say so. */
const restoredWords = (changed: readonly string[]): string =>
  changed.length === 0
    ? ''
    : `. It ran with the base's version of ${changed.slice(0, 3).join(', ')}, which the task changed and which the checks name.`;
