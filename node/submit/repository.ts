import { realpathSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type Git, GitFailed, gitIn, notThere } from './git.ts';

/** The submitter's repository. */
export interface Repository {
  git: Git;
  /** Top of the work tree, or the bare repository. */
  folder: string;
  bare: boolean;
  /** A clone whose history is cut off. */
  shallow: boolean;
  /** Where its objects lie; shared by all work trees. */
  objects: string;
  objectFormat: 'sha1' | 'sha256';
  /** Last part of its path, for people. */
  name: string;
}

export interface Surroundings {
  cwd: string;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
}

/** The repository at `path`, or the one around the current folder. `SF_REPOSITORY` where there is none to work with. */
export async function openRepository(
  path: string | null,
  { cwd, env, signal }: Surroundings,
): Promise<Repository> {
  const start = resolve(cwd, path ?? '.');
  let lines: string[];
  let git = gitIn(start, env, signal);
  const ask = (...facts: string[]): Promise<string> => git(['rev-parse', '--path-format=absolute', ...facts]);
  try {
    const facts = [
      ['--is-bare-repository'],
      ['--is-shallow-repository'],
      ['--show-object-format'],
      ['--git-common-dir'],
      ['--git-path', 'objects'],
      // The way up to the top of the work tree; a bare repository says nothing.
      ['--show-cdup'],
    ];
    lines = (await ask(...facts.flat())).replace(/\n$/, '').split('\n');
    // A path with a newline in it took more than its line.
    if (lines.length > facts.length) {
      lines = await Promise.all(facts.map(async (fact) => (await ask(...fact)).replace(/\n$/, '')));
    }
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    if (/dubious ownership/.test(thrown.stderr)) {
      const named = /repository at '([\s\S]*?)'\n/.exec(thrown.stderr)?.[1] ?? start;
      throw new SuperfleetError('SF_REPOSITORY', `git does not trust ${named}: it belongs to another user`, {
        expected: 'a repository of this user, or one that git was told to trust',
        got: 'dubious ownership',
        hint: `if you trust what lies there: git config --global --add safe.directory '${named.replaceAll("'", "'\\''")}'`,
        cause: thrown,
      });
    }
    throw notThere(start, thrown.message);
  }
  const [bare, shallow, objectFormat, common = '', objects = '', up = ''] = lines;
  let folder = common;
  if (bare !== 'true') {
    // Git stands where the links lead; `up` counts from there.
    folder = resolve(realpathSync(start), up);
    git = gitIn(folder, env, signal);
  }
  const holder = basename(common) === '.git' ? dirname(common) : common;
  return {
    git,
    folder,
    bare: bare === 'true',
    shallow: shallow === 'true',
    objects,
    objectFormat: objectFormat === 'sha256' ? 'sha256' : 'sha1',
    name:
      basename(holder)
        .replace(/\.git$/, '')
        .slice(0, 128) || 'repository',
  };
}

/** The commit a person means by `ref`; `SF_REPOSITORY` names what does not exist. */
export async function resolveRef(repository: Repository, ref: string): Promise<string> {
  const found = ref.startsWith('-') || ref.length > 256 ? null : await commitOf(repository, ref);
  if (found !== null) return found;
  if ((await commitOf(repository, 'HEAD')) === null && ref === 'HEAD') {
    throw new SuperfleetError('SF_REPOSITORY', `the repository ${repository.folder} has no commit yet`, {
      expected: 'at least one commit',
      got: 'an empty repository',
      hint: repository.bare
        ? 'push something to it, or use --no-repo'
        : 'commit something, or send your files as they are by --include-dirty',
    });
  }
  throw new SuperfleetError('SF_REPOSITORY', `no commit is named ${ref} in ${repository.folder}`, {
    expected: 'a commit, branch or tag that exists here',
    got: ref,
    hint: 'git branch --all, git tag',
  });
}

/** The commit it names; null: none. */
export async function commitOf({ git }: Repository, ref: string): Promise<string | null> {
  try {
    const text = (await git(['rev-parse', '--verify', '--quiet', `${ref}^{commit}`])).trim();
    return /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(text) ? text : null;
  } catch (thrown) {
    if (thrown instanceof GitFailed) return null;
    throw thrown;
  }
}

/** Whether this repository has the commit. */
export async function hasCommit(repository: Repository, commit: string): Promise<boolean> {
  return (await commitOf(repository, commit)) === commit;
}

/** One path of `git status`: two letters, and the path (of a rename: both). */
export interface Change {
  code: string;
  path: string;
}

/**
 * What of the work tree is not in HEAD, ignored files left out. Of untracked files: `all`, `folders` (a folder with
 * nothing else in it is one line that ends in a slash), or none.
 */
export async function uncommitted(
  repository: Repository,
  untracked: 'all' | 'folders' | 'none' = 'all',
): Promise<Change[]> {
  if (repository.bare) return [];
  const files = { all: 'all', folders: 'normal', none: 'no' }[untracked];
  const words = ['status', '--porcelain=v1', '-z', `--untracked-files=${files}`];
  const parts = (await repository.git(words)).split('\0');
  const changes: Change[] = [];
  for (let at = 0; at < parts.length; at++) {
    const part = parts[at] ?? '';
    if (part.length < 4) continue;
    const code = part.slice(0, 2);
    changes.push({ code, path: part.slice(3) });
    // A rename or copy is followed by where it came from.
    if (/[RC]/.test(code)) changes.push({ code, path: parts[++at] ?? '' });
  }
  return changes;
}

/** Paths in a message: the first few and how many more. */
export const somePaths = (paths: readonly string[]): string =>
  paths.length <= namedMax
    ? paths.join(', ')
    : `${paths.slice(0, namedMax).join(', ')} and ${paths.length - namedMax} more`;
const namedMax = 5;
