import type { TaskSpec } from '../../protocol/task.ts';
import type { Change } from '../git/changes.ts';
import { checkFilesIn } from './check-files.ts';
import type { Checkout } from './checkout.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { AttemptFailure } from './failure.ts';
import { type Doubt, secondAnswer } from './flaky.ts';
import { runStep, type Step, stepInSandbox } from './step.ts';

/** One check that was run to its end. */
export interface CheckRun {
  line: string;
  exitCode: number;
  /** The end of what it printed, secrets masked. */
  output: string;
}

/** A check that ran and said no, with what it printed. */
export class RedCheck extends AttemptFailure {
  readonly run: CheckRun;

  constructor(message: string, run: CheckRun) {
    super('check', 'task', message);
    this.run = run;
  }
}

/** The end of what a check prints that is kept beside the log. */
const outputBytesMax = 16 * 1024;

/** Runs the task's checks in the workspace as it is, all of them, whatever they say. Throws where one could not start or met a limit. */
export async function tryChecks(context: AttemptContext, checkout: Checkout): Promise<CheckRun[]> {
  const runs: CheckRun[] = [];
  for (const index of context.assignment.spec.checks.keys())
    runs.push(await runCheck(context, checkout, index));
  return runs;
}

/**
 * Runs the task's checks in order, each by `sh -c` in the workspace with no secrets, after the check files have been
 * put back as the base has them. Throws at the first that is red, could not start, or met a limit.
 */
export async function runChecks(
  context: AttemptContext,
  checkout: Checkout,
  changes: readonly Change[],
  facts: AttemptFacts,
  doubt: Doubt | null = null,
): Promise<void> {
  const { spec } = context.assignment;
  const found = checkFilesIn(spec.checks, spec.checkFiles, changes);
  facts.checksChanged = found.changed;
  if (spec.checks.length === 0) return;
  context.hooks.progress('check', context.log.bytes);
  const restored = found.restore.length + found.remove.length > 0;
  if (restored) {
    await context.log.say(
      `changed by the task, and put back as in the base for the checks: ${found.changed.join(', ')}`,
    );
    await checkout.repository?.restore(found.restore, found.remove, context.signal);
  }
  for (const [index, line] of spec.checks.entries()) {
    facts.ran = true;
    const check = { line, exitCode: null as number | null };
    facts.checks.push(check);
    const run = await runCheck(context, checkout, index);
    check.exitCode = run.exitCode;
    if (run.exitCode === 0) continue;
    const answer =
      doubt === null || !restorable(checkout)
        ? 'red'
        : await secondAnswer(index, facts, doubt, {
            said: (words) => context.log.say(`${nameOf(spec, index)} ${words}`),
            onResult: async () => {
              await checkout.repository?.reset(doubt.commit, context.signal);
              if (restored) await checkout.repository?.restore(found.restore, found.remove, context.signal);
              return (await runCheck(context, checkout, index)).exitCode;
            },
            onBase: async () => {
              await checkout.repository?.reset(checkout.start, context.signal);
              return (await runCheck(context, checkout, index)).exitCode;
            },
          });
    if (answer === 'green') {
      // A verifier tells what it saw first: so nobody takes its word for a pass.
      if (doubt?.of === 'goal') check.exitCode = 0;
      continue;
    }
    if (answer === 'baseRed') {
      const words = 'is flaky: green on the base before the work, and red there after it';
      throw new AttemptFailure('check', 'task', `${nameOf(spec, index)} ${words}: ${line.slice(0, 400)}`);
    }
    throw new RedCheck(
      `${nameOf(spec, index)} is red (exit ${run.exitCode}): ${line.slice(0, 400)}${restoredWords(restored ? found.changed : [])}`,
      run,
    );
  }
}

const restorable = ({ repository }: Checkout): boolean => repository !== null;

async function runCheck(context: AttemptContext, checkout: Checkout, index: number): Promise<CheckRun> {
  const { spec } = context.assignment;
  const step = checkStep(spec, index);
  let end = Buffer.alloc(0);
  const running = runStep(
    context.sandbox,
    step,
    checkout.mounts,
    checkout.path,
    spec.limits,
    context.log,
    context.member.name,
    context.signal,
    (chunk) => {
      end = Buffer.concat([end, chunk]).subarray(-outputBytesMax);
    },
  );
  checkAhead(context, checkout, index + 1);
  const exitCode = await running;
  return { line: step.line, exitCode, output: context.log.masked(end.toString('utf8')) };
}

const nameOf = (spec: TaskSpec, index: number): string => `check ${index + 1} of ${spec.checks.length}`;

function checkStep(spec: TaskSpec, index: number): Step {
  const line = spec.checks[index]!;
  return {
    name: nameOf(spec, index),
    line,
    argv: ['sh', '-c', line],
    env: spec.env,
    timeoutMs: spec.checkTimeoutMs,
  };
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
