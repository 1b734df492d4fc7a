import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { blobBytesMax } from '../../protocol/limits.ts';
import type { Assignment, GoalStart, ResultBlob } from '../../protocol/session.ts';
import type { CodeSpec, CommandSpec, RepositoryInput } from '../../protocol/task.ts';
import type { Taken } from '../git/attempt-repository.ts';
import { GitFault } from '../git/fault.ts';
import { mark } from '../timing.ts';
import { collectArtifacts } from './artifacts.ts';
import { type Checkout, checkOut, emptyWorkspace, type Place } from './checkout.ts';
import { checkAhead, runChecks } from './checks.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { inEnvironment } from './environment.ts';
import { AttemptFailure } from './failure.ts';
import { PartialResult, pursueGoal } from './goal.ts';
import { lookAt } from './result-bundle.ts';
import { runStep, type Step, stepInSandbox } from './step.ts';
import { commitWords, shown, take } from './take.ts';

/**
 * An executor's attempt: check out, run the command or pursue the goal, take what it made as one commit, run the checks. The
 * commit is taken before the checks, so it is what the task made; the checks see it with the base's check files.
 */
export async function execute(context: AttemptContext, facts: AttemptFacts): Promise<void> {
  const { spec, start } = context.assignment;
  const checkout =
    spec.repository === null
      ? await emptyWorkspace(context.work)
      : start === undefined
        ? await checkOut(context, spec.repository, null, (place) => stepsAhead(context, place))
        : await checkOutStart(context, spec.repository, start);
  if (spec.kind === 'command') {
    return inEnvironment(context, checkout, (place, timeoutMs) =>
      executeCommand(context, { ...spec, timeoutMs }, place, facts),
    );
  }
  const goal = (place: Checkout, timeoutMs: number): Promise<void> =>
    executeGoal(context, { ...spec, timeoutMs }, place, facts);
  return inEnvironment(context, checkout, goal, async () => {
    // Where there is no model, nothing is prepared for one.
    await context.worker?.begin({ context, spec, checkout });
  });
}

async function executeCommand(
  context: AttemptContext,
  spec: CommandSpec,
  checkout: Checkout,
  facts: AttemptFacts,
): Promise<void> {
  await runCommand(context, spec, checkout, facts);
  mark(context.assignment.task, 'execute.take');
  const taken = await take(context, checkout, () => checkAhead(context, checkout, 0));
  // The bundle is synced while the checks run.
  const bundle = taken.bundle === null ? null : putBundle(context, taken.bundle);
  bundle?.catch(() => {});
  try {
    await keepArtifacts(context, checkout, facts);
    await runChecks(context, checkout, taken.changes, facts);
  } catch (error) {
    const stored = await bundle?.catch(() => null);
    if (stored) context.blobs.release(stored.blob);
    throw error;
  }
  context.hooks.progress('converge', context.log.bytes);
  facts.bundle = await bundle;
  facts.commit = taken.commit;
}

async function executeGoal(
  context: AttemptContext,
  spec: CodeSpec,
  checkout: Checkout,
  facts: AttemptFacts,
): Promise<void> {
  let taken: Taken;
  try {
    taken = await pursueGoal(context, spec, checkout, facts);
  } catch (error) {
    if (error instanceof PartialResult && error.taken?.bundle != null) {
      facts.bundle = await putBundle(context, error.taken.bundle);
      facts.commit = error.taken.commit;
      facts.partial = true;
    }
    throw error;
  }
  await keepArtifacts(context, checkout, facts);
  context.hooks.progress('converge', context.log.bytes);
  facts.bundle = taken.bundle === null ? null : await putBundle(context, taken.bundle);
  facts.commit = taken.commit;
}

/** A workspace with what an earlier task did of the goal, as it would be where that is done on the base. */
async function checkOutStart(
  context: AttemptContext,
  repository: RepositoryInput,
  { task, commit, bundle }: GoalStart,
): Promise<Checkout> {
  context.blobs.hold(bundle.blob);
  try {
    const look = () => lookAt(context, { task, base: repository.base, commit, bundle });
    const checkout = await checkOut(context, repository, { blob: bundle.blob, look }, () => {});
    return { ...checkout, start: commit, rawCommit: null, changes: [] };
  } catch (error) {
    // The founder has checked no more than who signed it: what is wrong with it is wrong everywhere.
    const broken = error instanceof GitFault && error.of === 'result';
    if (!broken && !(error instanceof AttemptFailure && error.reason === 'check')) throw error;
    throw new AttemptFailure(
      'refused',
      'task',
      `what task ${task} left cannot be gone on from: ${error.message}`,
    );
  } finally {
    context.blobs.release(bundle.blob);
  }
}

async function keepArtifacts(
  context: AttemptContext,
  checkout: Checkout,
  facts: AttemptFacts,
): Promise<void> {
  const { artifacts, notes } = await collectArtifacts(
    checkout.path,
    context.assignment.spec.artifacts,
    context.assignment.secrets,
    context.blobs,
    context.signal,
  );
  facts.artifacts = artifacts;
  for (const note of notes) await context.log.say(note);
}

/** While git checks out, the sandboxes of the command and of what takes its work are set up. */
function stepsAhead(context: AttemptContext, { mounts, path, repository }: Place): void {
  const { assignment, sandbox } = context;
  const { spec } = assignment;
  if (spec.kind !== 'command') return;
  sandbox.ahead(stepInSandbox(commandStep(assignment, spec), mounts, path, spec.limits));
  if (repository !== null)
    sandbox.ahead(repository.takeInSandbox(commitWords(context), spec.limits.workspaceBytes));
}

const commandStep = ({ secrets }: Assignment, spec: CommandSpec): Step => ({
  name: 'the command',
  line: shown(spec.argv),
  argv: spec.argv,
  env: { ...spec.env, ...secrets },
  timeoutMs: spec.timeoutMs,
});

/** Throws an `AttemptFailure` where it does not exit with 0. */
export async function runCommand(
  context: AttemptContext,
  spec: CommandSpec,
  checkout: Checkout,
  facts: AttemptFacts,
): Promise<void> {
  const { assignment, hooks, log, member, signal } = context;
  hooks.progress('run', log.bytes);
  hooks.started();
  facts.ran = true;
  const step = commandStep(assignment, spec);
  try {
    facts.exitCode = await runStep(
      context.sandbox,
      step,
      checkout.mounts,
      checkout.path,
      spec.limits,
      log,
      member.name,
      signal,
    );
  } catch (error) {
    if (error instanceof AttemptFailure && error.exitCode !== null) facts.exitCode = error.exitCode;
    throw error;
  }
  if (facts.exitCode === 0) return;
  throw new AttemptFailure(
    'task',
    'task',
    `the command exited with ${facts.exitCode}; the end of its log says why`,
  );
}

async function putBundle(context: AttemptContext, path: string): Promise<ResultBlob> {
  const { size } = await stat(path);
  if (size > blobBytesMax) {
    throw new AttemptFailure(
      'task',
      'task',
      `the commit packs to ${size} bytes, at most ${blobBytesMax} are returned`,
    );
  }
  return context.blobs.put(createReadStream(path));
}
