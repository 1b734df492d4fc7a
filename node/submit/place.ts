import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Client } from '../api/client.ts';
import { withBase } from './base.ts';
import { GitFailed, gitIn, gitWith } from './git.ts';
import { download, type Given, otherRepository, type Quarantined, quarantine } from './quarantine.ts';
import { hasCommit, type Repository } from './repository.ts';
import { TemporaryFolder } from './temporary.ts';

export interface Work {
  client: Client;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
}

export const branchOf = (task: string): string => `mesh/${task}`;

/** A result's bundle on this disk, whose every object was checked beside the repository. */
export interface Received extends Quarantined {
  bundle: string;
  /** The snapshot it rests on, where the repository lacks that. */
  base?: Received | null;
}

/**
 * Downloads a result into `folder`, and what it rests on where the repository lacks that, and checks it there; the
 * repository is only read.
 */
export async function receive(
  repository: Repository | null,
  given: Given,
  { client, env, signal }: Work,
  folder: string,
): Promise<Received> {
  const work = { client, env, ...(signal && { signal }) };
  const found = repository === null ? null : await withBase(repository, given, work, folder);
  const bundle = join(folder, 'result.bundle');
  await download(client, given.bundle, bundle, signal);
  const beside = found?.repository ?? null;
  const checked = await quarantine(given, bundle, beside, join(folder, 'q'), env, signal);
  return { bundle, base: found?.base ?? null, ...checked };
}

/**
 * Places branch `mesh/<task>` in the repository, with the snapshot that it rests on in its history; nothing is checked out. A branch that is there at the same commit is
 * left as it is; at another one it is `SF_EXISTS`, unless `force`. `received` is the result where it is here already.
 */
export async function placeBranch(
  repository: Repository,
  given: Given,
  work: Work,
  force: boolean,
  received: Received | null = null,
): Promise<string> {
  const branch = branchOf(given.task);
  const there = await branchCommit(repository, branch);
  if (there === given.commit) return branch;
  if (there !== null && !force) {
    throw new SuperfleetError('SF_EXISTS', `branch ${branch} is there already, at another commit`, {
      expected: given.commit,
      got: there,
      hint: 'give --force to move it, or rename your branch',
    });
  }
  using folder = new TemporaryFolder();
  const { bundle, ref, base, ...pack } = received ?? (await receive(repository, given, work, folder.path));
  try {
    if (base) await takeIn(repository, base, work);
    if (there === null) {
      await takeIn(repository, { bundle, ...pack }, work);
      const words = `superfleet: result of task ${given.task}`;
      await repository.git(['update-ref', '-m', words, `refs/heads/${branch}`, given.commit, NOTHING]);
      return branch;
    }
    await repository.git([
      'fetch',
      '--quiet',
      '--no-tags',
      '--no-write-fetch-head',
      '--no-auto-gc',
      '--no-recurse-submodules',
      bundle,
      `${force ? '+' : ''}${ref}:refs/heads/${branch}`,
    ]);
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    // Whoever brought the same result at the same time was first.
    if ((await branchCommit(repository, branch)) === given.commit) return branch;
    throw new SuperfleetError('SF_REPOSITORY', `git could not place branch ${branch}`, {
      expected: 'a repository that can be written to, with the branch not checked out',
      got: thrown.message,
      cause: thrown,
    });
  }
  return branch;
}

/** For `git update-ref`: the ref must not be there. */
const NOTHING = '';
/** From as many objects on they stay the pack they came as; git fetch keeps to the same number. */
const keptPackObjectsMin = 100;

/** Takes the checked objects into the repository. No ref leads to them yet. */
async function takeIn(
  repository: Repository,
  { bundle, packOffset, objects }: Pick<Received, 'bundle' | 'packOffset' | 'objects'>,
  { env, signal }: Work,
): Promise<void> {
  const file = await open(bundle, 'r');
  try {
    // Read, so that the file stands where the pack begins.
    await file.read(Buffer.alloc(packOffset), 0, packOffset, null);
    const args =
      objects < keptPackObjectsMin ? ['unpack-objects', '-q'] : ['index-pack', '--stdin', '--fix-thin'];
    await gitWith({ stdin: file.fd, stdout: null }, repository.folder, args, env, signal);
  } finally {
    await file.close();
  }
}

/** The commit a local branch is at; null: there is no such branch. */
export async function branchCommit({ git }: Repository, branch: string): Promise<string | null> {
  try {
    return (await git(['rev-parse', '--verify', '--quiet', `refs/heads/${branch}`])).trim();
  } catch (thrown) {
    if (thrown instanceof GitFailed) return null;
    throw thrown;
  }
}

/**
 * The patch from the task's base to its commit, as bytes. Where the commit is not in the repository the bundle is looked
 * at in quarantine; the repository is only read.
 */
export async function* patchOf(
  repository: Repository | null,
  given: Given,
  { client, env, signal }: Work,
): AsyncGenerator<Uint8Array> {
  using folder = new TemporaryFolder();
  let git = repository?.git;
  if (git === undefined || repository === null || !(await hasCommit(repository, given.commit))) {
    if (given.base !== null && repository === null) throw otherRepository(repository, given.base);
    const { path } = await receive(
      repository,
      given,
      { client, env, ...(signal && { signal }) },
      folder.path,
    );
    git = gitIn(path, env, signal);
  }
  const patch = join(folder.path, 'patch');
  const between =
    given.base === null ? ['--root', '--no-commit-id', given.commit] : [given.base, given.commit];
  await git([
    'diff-tree',
    '-p',
    '--binary',
    '--no-ext-diff',
    '--no-textconv',
    '--no-color',
    `--output=${patch}`,
    ...between,
  ]);
  yield* createReadStream(patch);
}
