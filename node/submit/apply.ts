import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { GitFailed } from './git.ts';
import { branchOf } from './place.ts';
import type { Given } from './quarantine.ts';
import { type Repository, uncommitted } from './repository.ts';
import { lying } from './temporary.ts';

export type Way = 'merge' | 'cherry-pick' | 'checkout';

/** Files that make git run something or reach somewhere else. */
const steering = /(^|\/)\.(gitattributes|gitmodules|lfsconfig|gitconfig)$/i;
/** Paths named in a message. */
const namedMax = 5;

/**
 * Takes a placed result into the branch that is checked out (or, by `checkout`, goes to the result's). Uncommitted work
 * is never touched: where a file concerned has any, ignored files included, it is `SF_CONFLICT` and nothing changes. The
 * same where git finds a conflict. Answers the commit that is checked out afterwards.
 */
export async function applyResult(
  repository: Repository,
  given: Given,
  how: Way,
  force: boolean,
): Promise<string> {
  if (repository.bare) {
    throw new SuperfleetError('SF_REPOSITORY', 'a bare repository has no work tree to apply a result to', {
      expected: 'a repository with a work tree',
      got: repository.folder,
    });
  }
  const concerned = await filesConcerned(repository, given, how);
  const steered = concerned.filter((path) => steering.test(path));
  if (steered.length > 0 && !force) {
    throw new SuperfleetError('SF_CONFLICT', 'the result changes what git itself obeys', {
      expected: 'a result without .gitattributes, .gitmodules, .lfsconfig and .gitconfig',
      got: some(steered),
      hint: 'look at it with "task diff"; --force applies it all the same',
    });
  }
  const inTheWay = await workAtRisk(repository, concerned);
  if (inTheWay.length > 0) {
    throw new SuperfleetError('SF_CONFLICT', 'uncommitted work lies where the result would be written', {
      expected: 'the files concerned without uncommitted changes',
      got: some(inTheWay),
      hint: 'commit, stash or move it, then apply again; nothing was changed',
    });
  }
  const branch = branchOf(given.task);
  try {
    if (how === 'checkout') await repository.git(['checkout', '--quiet', '--no-guess', branch, '--']);
    else if (how === 'merge') {
      await repository.git(['merge', '--quiet', '--no-ff', '-m', `Merge ${branch}`, `refs/heads/${branch}`]);
    } else await repository.git(['cherry-pick', given.commit]);
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    const conflicts = how === 'checkout' ? [] : await conflicting(repository);
    // What was begun is taken back; where git began nothing this says so and that is all.
    if (how !== 'checkout') await repository.git([how, '--abort']).catch(() => {});
    throw new SuperfleetError('SF_CONFLICT', `git could not ${how} ${branch}; nothing was changed`, {
      expected: 'a branch the result fits on',
      got: conflicts.length > 0 ? `conflicts in ${some(conflicts)}` : thrown.message,
      hint: `git ${how} ${branch}   leaves the conflict for you to settle`,
      cause: thrown,
    });
  }
  return (await repository.git(['rev-parse', 'HEAD'])).trim();
}

/** Files that git left for a person to settle. */
async function conflicting({ git }: Repository): Promise<string[]> {
  const listed = await git(['diff', '--name-only', '--diff-filter=U', '-z']).catch(() => '');
  return listed.split('\0').filter((path) => path !== '');
}

/** Paths that the act will write: what the result changes, or for a checkout all that differs from HEAD. */
async function filesConcerned({ git }: Repository, given: Given, how: Way): Promise<string[]> {
  const from = how === 'checkout' ? 'HEAD' : given.base;
  const between = from === null ? ['--root', '--no-commit-id', given.commit] : [from, given.commit];
  const listed = await git(['diff-tree', '-r', '-z', '--no-renames', '--name-only', ...between]);
  return listed.split('\0').filter((path) => path !== '');
}

/** Concerned paths where something lies that no commit holds. */
async function workAtRisk(repository: Repository, concerned: string[]): Promise<string[]> {
  const changed = (await uncommitted(repository)).map((change) => change.path.replace(/\/$/, ''));
  const changedSet = new Set(changed);
  const tracked = new Set((await repository.git(['ls-files', '-z'])).split('\0'));
  const folders = new Set<string>();
  for (const path of changed) for (const folder of ancestors(path)) folders.add(folder);
  return concerned.filter((path) => {
    if (changedSet.has(path) || folders.has(path)) return true;
    // An untracked or ignored file at the path or in place of one of its folders would be written over.
    return [path, ...ancestors(path)].some((at, index) => {
      if (changedSet.has(at)) return true;
      const found = lying(join(repository.folder, at));
      if (found === null || tracked.has(at)) return false;
      return index === 0 || !found.isDirectory();
    });
  });
}

function* parents(path: string): Generator<string> {
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) yield path.slice(0, at);
}
const ancestors = (path: string): string[] => [...parents(path)];

const some = (paths: string[]): string =>
  paths.length <= namedMax
    ? paths.join(', ')
    : `${paths.slice(0, namedMax).join(', ')} and ${paths.length - namedMax} more`;
