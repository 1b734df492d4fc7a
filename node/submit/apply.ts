import { SuperfleetError } from '../../protocol/errors.ts';
import { GitFailed, gitWith } from './git.ts';
import { Trial } from './merge.ts';
import { branchOf } from './place.ts';
import { putBack } from './put-back.ts';
import type { Given } from './quarantine.ts';
import { commitOf, openRepository, type Repository, somePaths } from './repository.ts';
import { snapshotOf } from './snapshot.ts';
import { TemporaryFolder } from './temporary.ts';
import { refuseUnfinished, workAtRisk } from './work-at-risk.ts';

export type Way = 'merge' | 'cherry-pick' | 'checkout';

/** How a result was taken in; `already`: it was in before, and nothing changed. */
export interface Applied {
  head: string;
  how: Way;
  already: boolean;
}

/** Git takes the index before it writes a file; another git command had it. */
const indexTaken = /Unable to create '[^']*index\.lock'/;

/** Files that make git run something or reach somewhere else. */
const steering = /(^|\/)\.(gitattributes|gitmodules|lfsconfig|gitconfig)$/i;

/**
 * Takes a placed result into the branch that is checked out (or, by `checkout`, goes to the result's). `how` null: a
 * merge, or a cherry-pick where the result rests on no commit of the person's.
 *
 * What comes out is made beside the work tree first. Where git finds a conflict, or uncommitted work lies where a file
 * would be written (ignored files included), it is `SF_CONFLICT` and nothing has changed. Then one git command, which
 * Ctrl-C does not reach, moves files, index and branch. Applied again it changes nothing.
 */
export async function applyResult(
  repository: Repository,
  given: Given,
  how: Way | null,
  force: boolean,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<Applied> {
  if (repository.bare) {
    throw new SuperfleetError('SF_REPOSITORY', 'a bare repository has no work tree to apply a result to', {
      expected: 'a repository with a work tree',
      got: repository.folder,
      hint: 'task get places the branch in it; apply in a clone',
    });
  }
  await refuseUnfinished(repository);
  const head = await commitOf(repository, 'HEAD');
  const branch = branchOf(given.task);
  const way = how ?? (await usualWay(repository, given, head));
  using folder = new TemporaryFolder();
  /** Moves files, index and branch at once; where git stops half-way, what it had written is put back. */
  const move = async (command: string[], tree: string, concerned: string[]): Promise<void> => {
    signal?.throwIfAborted();
    const more = { GIT_REFLOG_ACTION: `superfleet: task apply ${given.task} --${way}` };
    const streams = { stdin: '', stdout: null, more, uninterrupted: true };
    try {
      await gitWith(streams, repository.folder, command, env);
    } catch (thrown) {
      // What half-written files there are now are those of whoever has the index, and not for us to put back.
      if (thrown instanceof GitFailed && indexTaken.test(thrown.stderr)) throw busy(thrown);
      const here = await openRepository(repository.folder, { cwd: repository.folder, env });
      const touched = await workAtRisk(here, concerned);
      if (touched.length > 0) await putBack(here, head, tree, touched, env);
      const left = touched.length > 0 ? await workAtRisk(here, concerned) : [];
      if (left.length > 0) throw halfDone(left, thrown);
      throw thrown;
    }
  };
  try {
    if (way === 'checkout' || head === null) {
      if (head === null && way !== 'checkout') throw noCommitYet(repository, given);
      const on = (await repository.git(['rev-parse', '--symbolic-full-name', 'HEAD'])).trim();
      if (on === `refs/heads/${branch}`) return { head: given.commit, how: way, already: true };
      const concerned = await filesBetween(repository.git, head, given.commit);
      await refuse(repository, concerned, force);
      const words = ['checkout', '--quiet', '--no-guess', '--no-overwrite-ignore', branch, '--'];
      await move(words, given.commit, concerned);
      return { head: given.commit, how: way, already: false };
    }
    const already: Applied = { head, how: way, already: true };
    if (way === 'merge' && (await reaches(repository, given.commit, head))) return already;
    const trial = new Trial(repository, given, head, folder, env, signal);
    const { tree, conflicts } = await trial.merge(way);
    if (conflicts.length > 0) {
      // Work that is not committed yet is the likelier reason than work that is.
      await refuseWork(repository, conflicts);
      throw conflict(way, branch, `conflicts in ${somePaths(conflicts)}`);
    }
    const concerned = await filesBetween((args) => trial.git(args), head, tree);
    if (concerned.length === 0 && way === 'cherry-pick') return already;
    await refuse(repository, concerned, force);
    const made = await trial.keep(way, branch, tree);
    const words = ['merge', '--ff-only', '--no-stat', '--no-autostash', '--no-overwrite-ignore'];
    await move([...words, made], made, concerned);
    return { head: made, how: way, already: false };
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    if (namesNobody(thrown)) throw noIdentity(branch, thrown);
    throw conflict(way, branch, thrown.message, thrown);
  }
}

/** A snapshot is no commit for anybody's history: what the task changed goes on top, alone. */
async function usualWay(repository: Repository, given: Given, head: string | null): Promise<Way> {
  if (given.base === null || head === null) return 'cherry-pick';
  if ((await snapshotOf(repository, given.base)) === null) return 'merge';
  return (await reaches(repository, given.base, head)) ? 'merge' : 'cherry-pick';
}

async function reaches({ git }: Repository, commit: string, head: string): Promise<boolean> {
  try {
    await git(['merge-base', '--is-ancestor', commit, head]);
    return true;
  } catch (thrown) {
    if (thrown instanceof GitFailed && thrown.exitCode === 1) return false;
    throw thrown;
  }
}

/** Paths that differ. */
async function filesBetween(
  git: (args: string[]) => Promise<string>,
  from: string | null,
  to: string,
): Promise<string[]> {
  const words = ['-z', '--name-only'];
  const listed =
    from === null
      ? await git(['ls-tree', '-r', '--full-tree', ...words, to])
      : await git(['diff-tree', '-r', '--no-renames', ...words, from, to]);
  return listed.split('\0').filter((path) => path !== '');
}

async function refuse(repository: Repository, concerned: string[], force: boolean): Promise<void> {
  const steered = concerned.filter((path) => steering.test(path));
  if (steered.length > 0 && !force) {
    throw new SuperfleetError('SF_CONFLICT', 'the result changes what git itself obeys', {
      expected: 'a result without .gitattributes, .gitmodules, .lfsconfig and .gitconfig',
      got: somePaths(steered),
      hint: 'look at it with "task diff"; --force applies it all the same',
    });
  }
  await refuseWork(repository, concerned);
}

async function refuseWork(repository: Repository, concerned: string[]): Promise<void> {
  const inTheWay = await workAtRisk(repository, concerned);
  if (inTheWay.length === 0) return;
  throw new SuperfleetError('SF_CONFLICT', 'uncommitted work lies where the result would be written', {
    expected: 'the files concerned without uncommitted changes',
    got: somePaths(inTheWay),
    hint: 'commit, stash or move it, then apply again; nothing was changed',
  });
}

const conflict = (way: Way, branch: string, got: string, cause?: unknown): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', `git could not ${way} ${branch}; nothing was changed`, {
    expected: 'a branch the result fits on',
    got,
    hint: `git ${way} ${branch}   leaves it for you to settle`,
    cause,
  });

const busy = (cause: GitFailed): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', 'another git command is at work in this repository', {
    expected: 'a repository that nothing else changes meanwhile',
    got: cause.stderr.trim().split('\n')[0] ?? '',
    hint: 'nothing was changed: apply again when it has ended; if none is at work, remove the lock that a crash left',
    cause,
  });

/** git asks for an identity by naming the command that sets it; nothing else that it says here does. */
const namesNobody = ({ message }: GitFailed): boolean =>
  /user\.(name|email)|auto-detect email address|empty ident name|no (name|email) was given/i.test(message);

const noIdentity = (branch: string, cause: GitFailed): SuperfleetError =>
  new SuperfleetError('SF_REPOSITORY', `git does not know who merges ${branch}; nothing was changed`, {
    expected: 'user.name and user.email in the configuration of git',
    got: cause.stderr.trim().split('\n').at(-1) ?? null,
    hint: 'git config --global user.name "YOUR NAME" && git config --global user.email YOU@EXAMPLE.ORG, then apply again',
    cause,
  });

const halfDone = (paths: string[], cause: unknown): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', 'git stopped half-way, and some files could not be put back', {
    expected: 'files that git can write',
    got: `${somePaths(paths)}: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: 'HEAD has not moved and none of these files had work of yours: git checkout -- FILE restores one; then apply again',
    cause,
  });

const noCommitYet = (repository: Repository, { task }: Given): SuperfleetError =>
  new SuperfleetError('SF_REPOSITORY', `the branch checked out in ${repository.folder} has no commit yet`, {
    expected: 'a commit to put the result on',
    got: 'a branch without one',
    hint: `commit your files, then apply again; or look at it: git log -p mesh/${task}`,
  });
