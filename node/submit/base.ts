import { join } from 'node:path';
import { gitIn } from './git.ts';
import type { Received, Work } from './place.ts';
import { download, type Given, otherRepository, quarantine } from './quarantine.ts';
import { hasCommit, type Repository } from './repository.ts';
import { snapshotOf } from './snapshot.ts';

/** A repository that has the base of a result, and the snapshot's bundle where it had to be fetched for that. */
export interface WithBase {
  repository: Repository;
  base: Received | null;
}

/**
 * The repository where it has the base. Where the base is a snapshot made of a commit that the repository has, the
 * founder is asked for it: it is checked as a result is, and the answer is the repository with the snapshot beside it.
 * `SF_REPOSITORY` where the task did not run on this repository.
 */
export async function withBase(
  repository: Repository,
  { base, source }: Given,
  { client, env, signal }: Work,
  folder: string,
): Promise<WithBase> {
  if (base === null || (await hasCommit(repository, base))) return { repository, base: null };
  if (source === undefined || source === null) throw otherRepository(repository, base);
  const bundle = join(folder, 'base.bundle');
  // No digest is signed for it: its commit's name, which the receipt has, is the digest of all that is in it.
  await download(client, { blob: source.blob }, bundle, signal);
  const checked = await quarantine(
    { base: null, commit: base },
    bundle,
    repository,
    join(folder, 'base'),
    env,
    signal,
  );
  const beside: Repository = {
    ...repository,
    git: gitIn(checked.path, env, signal),
    objects: join(checked.path, 'objects'),
    shallow: false,
  };
  const snapshot = await snapshotOf(beside, base);
  // One that was made before the first commit can only be told by the name of its repository.
  const ours =
    snapshot !== null &&
    (snapshot.of === null ? source.name === repository.name : await hasCommit(repository, snapshot.of));
  if (!ours) throw otherRepository(repository, base);
  return { repository: beside, base: { bundle, ...checked } };
}
