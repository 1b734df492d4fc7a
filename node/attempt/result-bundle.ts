import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { ResultBlob } from '../../protocol/session.ts';
import type { BundleFile } from '../git/attempt-repository.ts';
import { checkBundle } from '../git/bundle-header.ts';
import { GitFault } from '../git/fault.ts';
import { blobFile, type ResultToCheck } from './checkout.ts';
import type { AttemptContext } from './context.ts';
import { AttemptFailure } from './failure.ts';

/** A result is not what it must be. */
export const notPassed = (why: string): AttemptFailure => new AttemptFailure('check', 'task', why);

/** A commit that some task made on a base, and its bundle as the executor signed it. */
export interface SignedCommit {
  task: string;
  base: string;
  commit: string;
  bundle: ResultBlob;
}

/** The bundle, which is in the store, held against what was signed; throws `notPassed` where it is another one. */
export async function lookAt(
  context: AttemptContext,
  { task, base, commit, bundle: signed }: SignedCommit,
): Promise<ResultToCheck> {
  const bundle = await blobFile(context, signed.blob);
  if (bundle.bytes !== signed.bytes || (await sha256Of(bundle)) !== signed.sha256) {
    throw notPassed('the bundle of the result is not the one that was signed');
  }
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
