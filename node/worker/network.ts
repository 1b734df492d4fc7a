import type { Goal } from '../attempt/goal.ts';
import type { AllowedHost } from '../environment/admission.ts';
import { type Fetcher, fetcherOf } from '../environment/fetch.ts';
import { type Manifest, parseManifest, readManifest } from '../environment/manifest.ts';
import { manifestBytesMax, manifestName } from '../environment/manifest-name.ts';
import { reachable } from '../environment/owner.ts';

/** Why a model has no way to other machines where the task has secrets. */
const SECRETS = 'this task has secrets, so a model that works on it reaches no other machine.';

/**
 * A model that runs commands could send a secret in any writing: null where nothing keeps it from other machines, else why it is
 * given no way to them.
 */
export const whyCutOff = ({ context }: Goal): string | null =>
  Object.keys(context.assignment.secrets).length === 0 ? null : SECRETS;

/**
 * How a model gets pages: from hosts that the base of the repository asks for and the owner allows. A text: why from none. Nothing may
 * have been changed in the checkout yet. Throws what `readManifest` throws.
 */
export async function pagesFor(goal: Goal, owner: readonly AllowedHost[]): Promise<Fetcher | string> {
  if (owner.length === 0) return 'the owner of this machine allowed no hosts, so there is no network.';
  const cutOff = whyCutOff(goal);
  if (cutOff !== null) return cutOff;
  const needed = (await manifestOfBase(goal))?.needs.network ?? [];
  if (needed.length === 0)
    return `the repository asks for no hosts (needs.network of ${manifestName}), so there is no network.`;
  const { allowed } = reachable(owner, needed);
  if (allowed.length === 0)
    return 'the owner of this machine allowed no host that the repository asks for, so there is no network.';
  return fetcherOf({ allowed });
}

/** A goal that is continued begins with what a model left: that says nothing of which hosts the next one reaches. */
async function manifestOfBase({ checkout, spec, context }: Goal): Promise<Manifest | null> {
  const { path, repository, start } = checkout;
  if (start === null || repository === null || spec.repository === null) return readManifest(path);
  const kept: Buffer[] = [];
  let bytes = 0;
  const { end } = await repository.look(
    { verb: 'show', revision: spec.repository.base, path: manifestName, count: 0, range: null },
    (chunk) => {
      if (bytes <= manifestBytesMax) kept.push(chunk);
      bytes += chunk.length;
    },
    context.signal,
  );
  return end.exitCode === 0 ? parseManifest(Buffer.concat(kept).subarray(0, manifestBytesMax + 1)) : null;
}
