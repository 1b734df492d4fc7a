import type { Assignment } from '../../protocol/session.ts';
import type { RepositoryInput } from '../../protocol/task.ts';
import { newGitlink } from '../git/changes.ts';
import { GitFault, printable } from '../git/fault.ts';
import { checkOut, emptyWorkspace, type Place, type ResultBundle } from './checkout.ts';
import { checkAhead, runChecks } from './checks.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { inEnvironment } from './environment.ts';
import { AttemptFailure } from './failure.ts';
import type { Doubt } from './flaky.ts';
import { requireSameLog, runAgain } from './replica.ts';
import { lookAt, notPassed } from './result-bundle.ts';

type ToVerify = NonNullable<Assignment['verify']>;

/**
 * A verifier's attempt: the result's commit in a fresh workspace, the base's check files, the task's checks, no
 * secrets. A result that is not what it must be is a failure of the check (`check`); what this machine lacks is not.
 */
export async function verify(context: AttemptContext, of: ToVerify, facts: AttemptFacts): Promise<void> {
  const { spec } = context.assignment;
  facts.commit = of.commit;
  if (spec.checks.length === 0 && of.replica === undefined)
    throw notPassed('the task has no checks, so there is nothing to verify by');
  if (spec.repository === null) {
    // Nothing but the commit crosses to a verifier.
    const empty = await emptyWorkspace(context.work);
    if (of.replica === undefined) context.hooks.started();
    else await runAgain(context, empty, of, spec.timeoutMs, facts);
    await runChecks(context, empty, [], facts);
    return requireSameLog(context, of);
  }
  // Fetched for this attempt alone; it goes from the store with it.
  const bundle = of.bundle?.blob ?? null;
  if (bundle !== null) context.blobs.hold(bundle);
  try {
    await verifyCommit(context, of, spec.repository, facts);
  } finally {
    if (bundle !== null) context.blobs.release(bundle);
  }
}

async function verifyCommit(
  context: AttemptContext,
  of: ToVerify,
  repository: RepositoryInput,
  facts: AttemptFacts,
): Promise<void> {
  const { task } = context.assignment;
  const result = resultOf(context, of, repository.base);
  const meanwhile = (place: Place): void => {
    if (of.replica === undefined) checkAhead(context, place, 0);
  };
  const checkout = await checkOut(context, repository, result, meanwhile).catch((error: unknown) => {
    // The executor could use these bundles, so what is wrong with them here is wrong with this machine.
    if (error instanceof GitFault && error.of === 'input') throw new GitFault('machine', error.message);
    throw error;
  });
  if (checkout.rawCommit !== null) {
    const fault = faultOfCommit(checkout.rawCommit.toString('utf8'), repository.base, task);
    if (fault !== null) throw notPassed(`the commit of the result ${fault}`);
  }
  const gitlink = newGitlink(checkout.changes);
  if (gitlink !== null) {
    const path = printable(gitlink.path.toString('utf8')).slice(0, 512);
    throw notPassed(`the commit of the result has another repository's commit at ${path}`);
  }
  try {
    await inEnvironment(context, checkout, async (place, timeoutMs) => {
      if (of.replica === undefined) context.hooks.started();
      else await runAgain(context, place, of, timeoutMs, facts);
      const doubt: Doubt = {
        of: 'verification',
        commit: of.commit,
        greenBefore: new Set(),
        looked: new Set(),
      };
      await runChecks(context, place, checkout.changes, facts, doubt);
      const [flaky] = facts.checksFlaky;
      if (flaky !== undefined)
        throw notPassed(`check ${flaky + 1} is flaky here: red, then green on the same files`);
    });
  } catch (error) {
    // The executor could prepare it, so what is wrong with that here is wrong with this machine.
    if (error instanceof AttemptFailure && !facts.ran && error.reason !== 'check')
      throw new AttemptFailure('environment', 'machine', error.message);
    throw error;
  }
}

function resultOf(context: AttemptContext, of: ToVerify, base: string): ResultBundle | null {
  const { commit, bundle } = of;
  if (commit === null) return null;
  if (bundle === null) throw notPassed('the result names a commit and comes without a bundle');
  const { task } = context.assignment;
  return { blob: bundle.blob, look: () => lookAt(context, { task, base, commit, bundle }) };
}

/** What is wrong with a raw commit object: one parent, the base, and the trailer; null: nothing. */
export function faultOfCommit(raw: string, base: string, task: string): string | null {
  const [head = '', ...body] = raw.split('\n\n');
  const parents = [...head.matchAll(/^parent ([0-9a-f]+)$/gm)].map((match) => match[1]);
  if (parents.length !== 1 || parents[0] !== base) return `does not have the base ${base} as its one parent`;
  const trailers = (body.at(-1) ?? '').match(/^Superfleet-Task: .*$/gm) ?? [];
  if (trailers.length !== 1 || trailers[0] !== `Superfleet-Task: ${task}`) {
    return `does not have the trailer Superfleet-Task: ${task}`;
  }
  return null;
}
