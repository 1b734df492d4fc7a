import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { blobBytesMax } from '../../protocol/limits.ts';
import type { Assignment, ResultBlob } from '../../protocol/session.ts';
import type { CommitWords, Taken } from '../git/attempt-repository.ts';
import { GITLINK, newGitlink } from '../git/changes.ts';
import { printable } from '../git/fault.ts';
import { mark } from '../timing.ts';
import { collectArtifacts } from './artifacts.ts';
import { type Checkout, checkOut, emptyWorkspace, type Place } from './checkout.ts';
import { checkAhead, runChecks } from './checks.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { AttemptFailure } from './failure.ts';
import { SecretSearch } from './secrets.ts';
import { runStep, type Step, stepInSandbox } from './step.ts';

/**
 * An executor's attempt: check out, run the command, take what it made as one commit, then run the checks. The
 * commit is taken before the checks, so it is what the task made; the checks see it with the base's check files.
 */
export async function execute(context: AttemptContext, facts: AttemptFacts): Promise<void> {
  const { spec } = context.assignment;
  const checkout =
    spec.repository === null
      ? await emptyWorkspace(context.work)
      : await checkOut(context, spec.repository, null, (place) => stepsAhead(context, place));
  await runCommand(context, checkout, facts);
  mark(context.assignment.task, 'execute.take');
  const taken = await take(context, checkout);
  // The bundle is synced while the checks run.
  const bundle = taken.bundle === null ? null : putBundle(context, taken.bundle);
  bundle?.catch(() => {});
  try {
    const { artifacts, notes } = await collectArtifacts(
      checkout.path,
      spec.artifacts,
      context.assignment.secrets,
      context.blobs,
      context.signal,
    );
    facts.artifacts = artifacts;
    for (const note of notes) await context.log.say(note);
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

/** While git checks out, the sandboxes of the command and of what takes its work are set up. */
function stepsAhead(context: AttemptContext, { mounts, path, repository }: Place): void {
  const { assignment, sandbox } = context;
  const { limits } = assignment.spec;
  sandbox.ahead(stepInSandbox(commandStep(assignment), mounts, path, limits));
  if (repository !== null)
    sandbox.ahead(repository.takeInSandbox(commitWords(context), limits.workspaceBytes));
}

const commandStep = ({ spec, secrets }: Assignment): Step => ({
  name: 'the command',
  line: shown(spec.argv),
  argv: spec.argv,
  env: { ...spec.env, ...secrets },
  timeoutMs: spec.timeoutMs,
});

async function runCommand(context: AttemptContext, checkout: Checkout, facts: AttemptFacts): Promise<void> {
  const { assignment, hooks, log, member, signal } = context;
  const { spec } = assignment;
  hooks.progress('run', log.bytes);
  hooks.started();
  facts.ran = true;
  const step = commandStep(assignment);
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

async function take(context: AttemptContext, checkout: Checkout): Promise<Taken> {
  const { assignment, signal } = context;
  if (checkout.repository === null) return { changes: [], commit: null, bundle: null };
  const taken = await checkout.repository.take(
    commitWords(context),
    Math.floor(context.time() / 1000),
    assignment.spec.limits.workspaceBytes,
    () => checkAhead(context, checkout, 0),
    signal,
  );
  const gitlink = newGitlink(taken.changes);
  if (gitlink !== null) {
    const path = printable(gitlink.path.toString('utf8')).slice(0, 512);
    throw new AttemptFailure(
      'task',
      'task',
      `the task left a git repository of its own at ${path}, which cannot be part of a commit. Remove ${path}/.git at the end of the command.`,
    );
  }
  await refuseSecrets(context, checkout, taken);
  return taken;
}

/** A secret's value in what would be returned: nothing is. */
async function refuseSecrets(context: AttemptContext, checkout: Checkout, taken: Taken): Promise<void> {
  const search = new SecretSearch(context.assignment.secrets);
  if (!search.needed || taken.commit === null) return;
  for (const change of taken.changes) search.push(Buffer.concat([change.path, Buffer.of(0)]));
  const objects = taken.changes
    .filter((change) => change.status !== 'D' && change.modeAfter !== GITLINK)
    .map((change) => change.objectAfter);
  if (objects.length > 0) {
    await checkout.repository?.contents(objects, (bytes) => search.push(bytes), context.signal);
  }
  if (search.found === null) return;
  throw new AttemptFailure(
    'task',
    'task',
    `the changes hold the value of the secret ${search.found}, so nothing of them is returned`,
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

/** Length of a commit's first line that git's own tools show whole. */
const subjectLengthMax = 72;

function commitWords({ assignment: { spec, task }, member: { name } }: AttemptContext): CommitWords {
  const line = printable(shown(spec.argv)).trim();
  const subject = line.length > subjectLengthMax ? `${line.slice(0, subjectLengthMax - 1)}…` : line;
  return {
    message: `${subject || 'superfleet'}\n\nSuperfleet-Task: ${task}`,
    name: `Superfleet (${name})`,
    email: `${name}@superfleet.invalid`,
  };
}

/** argv as a person would type it. */
const shown = (argv: readonly string[]): string =>
  argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
