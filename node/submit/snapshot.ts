import { copyFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { GitFailed, gitIn, gitWith } from './git.ts';
import { type Change, commitOf, type Repository, resolveRef, somePaths, uncommitted } from './repository.ts';
import { bareBeside, TemporaryFolder } from './temporary.ts';

/**
 * A commit that stands for files which no commit of the person's holds as they are sent: their work tree, or the files
 * of a shallow clone without the history that it lacks. It says of itself what it was made of, and two of the same files
 * are the same commit.
 */
export interface Snapshot {
  /** Reads like the repository, and sees the snapshot's objects too. */
  repository: Repository;
  commit: string;
  /** The commit it was made of; null: there was none yet. */
  of: string | null;
  /** Untracked repositories inside the work tree: git takes in no file of theirs. */
  nested: string[];
  [Symbol.dispose](): void;
}

const trailer = 'Superfleet-Snapshot: ';
const unborn = 'unborn';
/** Not a person's: nobody made a commit. The date is that of the commit it was made of. */
const maker = { name: 'superfleet snapshot', email: 'snapshot@superfleet.invalid' };
/** The default folder of a task's artifacts. */
const broughtHere = /(^|\/)mesh-[a-z2-7]{12}\//;

/** Is it a file that an earlier task brought, and so no work of anybody's? */
export const isBrought = ({ code, path }: Change): boolean => code === '??' && broughtHere.test(path);

/**
 * Makes a snapshot of `ref` (`dirty`: of the work tree on HEAD, untracked files with it, ignored ones not). The
 * repository is only read: work tree, index, refs, stash, logs and objects stay byte for byte as they are. Null: the
 * commit itself is what the snapshot would say. `SF_REPOSITORY` where files cannot be taken in.
 */
export async function makeSnapshot(
  repository: Repository,
  ref: string,
  dirty: boolean,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<Snapshot | null> {
  const of = dirty ? await commitOf(repository, 'HEAD') : await resolveRef(repository, ref);
  const folder = new TemporaryFolder();
  try {
    const beside = folder.under('snapshot.git');
    bareBeside(beside, repository, null);
    const head = of === null ? null : partsOf(await repository.git(['cat-file', 'commit', of]));
    const { tree, nested } = dirty
      ? await workTree(repository, beside, folder.path, env, signal)
      : { tree: head?.tree ?? '', nested: [] };
    if (tree === head?.tree && !repository.shallow) {
      folder[Symbol.dispose]();
      return null;
    }
    const date = `@${head?.seconds ?? '0'} +0000`;
    const identity = {
      GIT_AUTHOR_NAME: maker.name,
      GIT_AUTHOR_EMAIL: maker.email,
      GIT_AUTHOR_DATE: date,
      GIT_COMMITTER_NAME: maker.name,
      GIT_COMMITTER_EMAIL: maker.email,
      GIT_COMMITTER_DATE: date,
    };
    const parents = of === null || repository.shallow ? [] : ['-p', of];
    const commit = await gitWith(
      { stdin: messageOf(of, tree !== head?.tree), stdout: 'text', more: identity },
      beside,
      ['commit-tree', tree, ...parents, '-F', '-'],
      env,
      signal,
    );
    const seen = {
      ...repository,
      git: gitIn(beside, env, signal),
      objects: join(beside, 'objects'),
      shallow: false,
    };
    return {
      repository: seen,
      commit: commit.trim(),
      of,
      nested,
      [Symbol.dispose]: () => folder[Symbol.dispose](),
    };
  } catch (thrown) {
    folder[Symbol.dispose]();
    throw thrown;
  }
}

/** What a snapshot was made of; null: this commit is none. `of` is null for one of a branch without a commit. */
export async function snapshotOf(
  repository: Repository,
  commit: string,
): Promise<{ of: string | null } | null> {
  const text = await repository.git(['cat-file', 'commit', commit]);
  const said = new RegExp(`\\n${trailer}(${unborn}|[0-9a-f]{40}|[0-9a-f]{64})\\n*$`).exec(text)?.[1];
  if (said === undefined || !text.includes(`\ncommitter ${maker.name} <${maker.email}> `)) return null;
  return { of: said === unborn ? null : said };
}

function messageOf(of: string | null, changed: boolean): string {
  const subject =
    of === null
      ? 'Files before the first commit'
      : `${changed ? 'Uncommitted changes on' : 'Files of'} ${of.slice(0, 12)}`;
  return `${subject}\n\n${trailer}${of ?? unborn}\n`;
}

function partsOf(commit: string): { tree: string; seconds: string } {
  const tree = /^tree ([0-9a-f]+)$/m.exec(commit)?.[1] ?? '';
  return { tree, seconds: /^committer .*> (\d+) [-+]\d{4}$/m.exec(commit)?.[1] ?? '0' };
}

/** The work tree as a tree, through an index of its own; new objects go to `beside`. */
async function workTree(
  repository: Repository,
  beside: string,
  folder: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<{ tree: string; nested: string[] }> {
  if (repository.bare) {
    throw new SuperfleetError('SF_REPOSITORY', 'a bare repository has no uncommitted changes', {
      expected: 'a repository with a work tree',
      got: repository.folder,
      hint: 'leave --include-dirty out',
    });
  }
  const changes = await uncommitted(repository);
  const unmerged = changes.filter(({ code }) => /U|^AA$|^DD$/.test(code));
  if (unmerged.length > 0) {
    throw new SuperfleetError('SF_REPOSITORY', 'files in conflict are not sent', {
      expected: 'a work tree without unsettled conflicts',
      got: somePaths([...new Set(unmerged.map(({ path }) => path))]),
      hint: 'settle them and git add them, or leave --include-dirty out',
    });
  }
  const untracked = changes.filter(({ code }) => code === '??').map(({ path }) => path);
  const nested = untracked.filter((path) => path.endsWith('/'));
  const brought = changes.filter(isBrought).map(({ path }) => path);
  const left = [...nested.map((path) => path.replace(/\/$/, '')), ...brought];
  const index = join(folder, 'index');
  copyIndex(await gitPath(repository, 'index'), index);
  const more = { GIT_INDEX_FILE: index, GIT_OBJECT_DIRECTORY: join(beside, 'objects') };
  // What could fail an honest tree or write beside the index.
  const settings = ['core.safecrlf=false', 'core.splitIndex=false', 'advice.addEmbeddedRepo=false'];
  const words = settings.flatMap((setting) => ['-c', setting]);
  const paths = [':(top)', ...left.map((path) => `:(top,exclude,literal)${path}`)].join('\0');
  try {
    await gitWith(
      { stdin: paths, stdout: null, more },
      repository.folder,
      [...words, 'add', '--all', '--pathspec-from-file=-', '--pathspec-file-nul'],
      env,
      signal,
    );
    const tree = await gitWith(
      { stdin: '', stdout: 'text', more },
      repository.folder,
      [...words, 'write-tree'],
      env,
      signal,
    );
    return { tree: tree.trim(), nested };
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    throw new SuperfleetError('SF_REPOSITORY', 'git could not take in the uncommitted changes', {
      expected: 'files that can be read, as for "git add --all"',
      got: thrown.message,
      hint: 'mend or ignore (.gitignore) what git names, or leave --include-dirty out; nothing was changed',
      cause: thrown,
    });
  }
}

/** Where git keeps something of this work tree. */
export const gitPath = async ({ git }: Repository, name: string): Promise<string> =>
  (await git(['rev-parse', '--path-format=absolute', '--git-path', name])).replace(/\n$/, '');

/** With its time, by which git tells which files it must not trust to be unchanged; earlier is the safe side. */
function copyIndex(from: string, to: string): void {
  try {
    const { mtimeMs } = statSync(from);
    copyFileSync(from, to);
    utimesSync(to, new Date(), new Date(Math.floor(mtimeMs)));
  } catch (thrown) {
    // Nothing was added yet.
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
  }
}
