import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Assignment, ResultBlob } from '../../protocol/session.ts';
import type { RepositoryInput } from '../../protocol/task.ts';
import type { BundleFile } from '../git/attempt-repository.ts';
import { checkBundle } from '../git/bundle-header.ts';
import { newGitlink } from '../git/changes.ts';
import { GitFault, printable } from '../git/fault.ts';
import {
  blobFile,
  checkOut,
  emptyWorkspace,
  type Place,
  type ResultBundle,
  type ResultToCheck,
} from './checkout.ts';
import { checkAhead, runChecks } from './checks.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { inEnvironment } from './environment.ts';
import { AttemptFailure } from './failure.ts';

type ToVerify = NonNullable<Assignment['verify']>;

/**
 * A verifier's attempt: the result's commit in a fresh workspace, the base's check files, the task's checks, no
 * secrets. A result that is not what it must be is a failure of the check (`check`); what this machine lacks is not.
 */
export async function verify(context: AttemptContext, of: ToVerify, facts: AttemptFacts): Promise<void> {
  const { spec } = context.assignment;
  facts.commit = of.commit;
  if (spec.checks.length === 0) throw notPassed('the task has no checks, so there is nothing to verify by');
  if (spec.repository === null) {
    // Nothing but the commit crosses to a verifier.
    const empty = await emptyWorkspace(context.work);
    context.hooks.started();
    return runChecks(context, empty, [], facts);
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
  const meanwhile = (place: Place): void => checkAhead(context, place, 0);
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
    await inEnvironment(context, checkout, async (place) => {
      context.hooks.started();
      await runChecks(context, place, checkout.changes, facts);
    });
  } catch (error) {
    // The executor could prepare it, so what is wrong with that here is wrong with this machine.
    if (error instanceof AttemptFailure && !facts.ran && error.reason !== 'check')
      throw new AttemptFailure('environment', 'machine', error.message);
    throw error;
  }
}

const notPassed = (why: string): AttemptFailure => new AttemptFailure('check', 'task', why);

function resultOf(context: AttemptContext, of: ToVerify, base: string): ResultBundle | null {
  const { commit, bundle } = of;
  if (commit === null) return null;
  if (bundle === null) throw notPassed('the result names a commit and comes without a bundle');
  return { blob: bundle.blob, look: () => lookAt(context, commit, bundle, base) };
}

async function lookAt(
  context: AttemptContext,
  commit: string,
  signed: ResultBlob,
  base: string,
): Promise<ResultToCheck> {
  const bundle = await blobFile(context, signed.blob);
  if (bundle.bytes !== signed.bytes || (await sha256Of(bundle)) !== signed.sha256) {
    throw notPassed('the bundle of the result is not the one that was signed');
  }
  const { task } = context.assignment;
  try {
    const header = await checkBundle(bundle.path, {
      commit,
      prerequisites: [base],
      ref: `refs/heads/mesh/${task}`,
    });
    if (header.prerequisites.length !== 1)
      throw notPassed('the bundle of the result does not rest on the base');
  } catch (error) {
    throw error instanceof GitFault ? notPassed(error.message) : error;
  }
  return { commit, bundle };
}

async function sha256Of(file: BundleFile): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file.path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
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
