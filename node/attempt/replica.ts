import type { Assignment } from '../../protocol/session.ts';
import { artifactsDigest } from '../../protocol/task.ts';
import type { Change } from '../git/changes.ts';
import { printable } from '../git/fault.ts';
import { collectArtifacts } from './artifacts.ts';
import type { Checkout } from './checkout.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { runCommand } from './execute.ts';
import { AttemptFailure, asFailure } from './failure.ts';
import { notPassed } from './result-bundle.ts';
import { take } from './take.ts';

type ToVerify = NonNullable<Assignment['verify']>;

/** Paths named where the trees differ. */
const namedMax = 8;

/**
 * A replica: runs the task's command on the base, as its executor did, and throws `notPassed` where that does not come to the same.
 * Then the workspace is that of the result again, but for what git ignores, as it was for the executor's checks.
 */
export async function runAgain(
  context: AttemptContext,
  place: Checkout,
  of: ToVerify,
  timeoutMs: number,
  facts: AttemptFacts,
): Promise<void> {
  const { assignment, member, signal } = context;
  const { spec } = assignment;
  if (of.replica === undefined || spec.kind !== 'command')
    throw new AttemptFailure('environment', 'machine', 'nothing was given that can be run again');
  if (of.commit !== null) await place.repository?.reset(null, signal);
  try {
    await runCommand(context, { ...spec, timeoutMs }, place, facts);
    const { changes } = await take(context, place, () => {});
    requireSameTree(place.changes, changes);
    await requireSameArtifacts(context, place, of.replica.artifacts);
  } catch (error) {
    signal.throwIfAborted();
    const failure = asFailure(error, member.name);
    // It ended well there: that it does not here is a difference. A slow machine is none.
    const differs = failure.fault === 'task' && failure.reason !== 'timeout' && failure.reason !== 'check';
    throw differs ? notPassed(`on this machine: ${failure.message}`) : failure;
  } finally {
    facts.exitCode = null;
  }
  await place.repository?.reset(of.commit, signal);
}

/** Of a task that can give neither a tree nor artifacts what it printed is what it made. */
export async function requireSameLog(context: AttemptContext, of: ToVerify): Promise<void> {
  const { spec } = context.assignment;
  if (of.replica === undefined || spec.repository !== null || spec.artifacts.length > 0) return;
  if ((await context.log.digest()) === of.replica.log) return;
  throw notPassed('the command, or a check, printed something else on this machine');
}

function requireSameTree(there: readonly Change[], here: readonly Change[]): void {
  const key = ({ status, modeAfter, objectAfter, path }: Change): string =>
    `${status} ${modeAfter} ${objectAfter} ${path.toString('latin1')}`;
  const [one, two] = [new Set(there.map(key)), new Set(here.map(key))];
  const apart = [
    ...there.filter((each) => !two.has(key(each))),
    ...here.filter((each) => !one.has(key(each))),
  ];
  if (apart.length === 0) return;
  const paths = [...new Set(apart.map(({ path }) => printable(path.toString('utf8')).slice(0, 128)))];
  const more = paths.length > namedMax ? ` and ${paths.length - namedMax} more` : '';
  throw notPassed(
    `the command makes something else of ${paths.slice(0, namedMax).join(', ')}${more} on this machine`,
  );
}

async function requireSameArtifacts(
  { assignment: { secrets, spec }, blobs, log, signal }: AttemptContext,
  { path }: Checkout,
  expected: string,
): Promise<void> {
  const { artifacts, notes } = await collectArtifacts(path, spec.artifacts, secrets, blobs, signal);
  for (const { blob } of artifacts) blobs.release(blob);
  for (const note of notes) await log.say(note);
  if (artifactsDigest(artifacts) === expected) return;
  const names = artifacts.slice(0, namedMax).map((each) => printable(each.path));
  const found = names.length === 0 ? 'none are there' : `there are ${names.join(', ')}`;
  throw notPassed(`the command makes other artifacts on this machine: ${found}`);
}
