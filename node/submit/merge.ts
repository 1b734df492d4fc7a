import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { GitFailed, gitWith, objectsPath, signingEnv } from './git.ts';
import type { Given } from './quarantine.ts';
import type { Repository } from './repository.ts';
import { bareBeside, type TemporaryFolder } from './temporary.ts';

/** What a merge or cherry-pick would give. */
export interface Merged {
  /** The tree; where there are conflicts, with git's marks in it. */
  tree: string;
  conflicts: string[];
}

/**
 * Merges (or cherry-picks) without a work tree or an index: nothing of the repository changes. What it tries lies in a
 * folder of its own; `keep` writes the tree's objects into the repository and makes the commit.
 */
export class Trial {
  readonly #repository: Repository;
  readonly #given: Given;
  readonly #head: string;
  readonly #env: Record<string, string | undefined>;
  readonly #signal: AbortSignal | undefined;
  readonly #tried: string;
  /** Of commits that are made only to be merged. Apart: what git sees anywhere it does not write again. */
  readonly #made: string;

  constructor(
    repository: Repository,
    given: Given,
    head: string,
    folder: TemporaryFolder,
    env: Record<string, string | undefined>,
    signal?: AbortSignal,
  ) {
    this.#repository = repository;
    this.#given = given;
    this.#head = head;
    this.#env = env;
    this.#signal = signal;
    const objects = (name: string): string => {
      const beside = folder.under(name);
      bareBeside(beside, repository, null);
      return join(beside, 'objects');
    };
    this.#tried = objects('tried.git');
    this.#made = objects('made.git');
  }

  /** A git command whose new objects are tried, made only to be merged, or kept in the repository. */
  git(
    args: string[],
    options: { objects?: 'made' | 'kept'; stdin?: string; more?: Record<string, string> } = {},
  ): Promise<string> {
    const { objects, stdin = '' } = options;
    const others = { GIT_ALTERNATE_OBJECT_DIRECTORIES: objectsPath(this.#made) };
    const into = objects === 'made' ? this.#made : this.#tried;
    const where = objects === 'kept' ? others : { ...others, GIT_OBJECT_DIRECTORY: into };
    const streams = { stdin, stdout: 'text', more: { ...where, ...options.more } } as const;
    return gitWith(streams, this.#repository.folder, args, this.#env, this.#signal);
  }

  async merge(how: 'merge' | 'cherry-pick'): Promise<Merged> {
    const { base, commit } = this.#given;
    // The branch has not moved: the result's tree is what any merge would give.
    if (base === this.#head) return { tree: await this.#treeOf(commit), conflicts: [] };
    const sides = how === 'merge' ? [this.#head, commit] : await this.#sides();
    return this.#mergeTree(sides, false);
  }

  /** The merged tree's objects are in the repository from here on, and so is the commit; no ref leads to it. */
  async keep(how: 'merge' | 'cherry-pick', branch: string, tree: string): Promise<string> {
    const { base, commit } = this.#given;
    if (base !== this.#head) {
      await this.#mergeTree(how === 'merge' ? [this.#head, commit] : await this.#sides(), true);
    }
    const sign = await this.#signs();
    const write = (parents: string[], message: string, more: Record<string, string>): Promise<string> =>
      this.git(
        [
          'commit-tree',
          tree,
          ...parents.flatMap((parent) => ['-p', parent]),
          ...(sign ? ['-S'] : []),
          '-F',
          '-',
        ],
        { objects: 'kept', stdin: message, more: { ...more, ...(sign ? signingEnv(this.#env) : {}) } },
      );
    if (how === 'merge') return (await write([this.#head, commit], `Merge ${branch}\n`, {})).trim();
    const raw = await this.#repository.git(['cat-file', 'commit', commit]);
    const [, name = '', email = '', date = ''] = /^author (.*?) ?<(.*)> (\d+ [-+]\d{4})$/m.exec(raw) ?? [];
    const author = { GIT_AUTHOR_NAME: name, GIT_AUTHOR_EMAIL: email, GIT_AUTHOR_DATE: `@${date}` };
    return (await write([this.#head], raw.slice(raw.indexOf('\n\n') + 2), author)).trim();
  }

  /** Commits whose merge is the cherry-pick: the result's change alone, on HEAD's files. */
  async #sides(): Promise<[string, string]> {
    const { base, commit } = this.#given;
    const fixed = {
      GIT_AUTHOR_NAME: 'x',
      GIT_AUTHOR_EMAIL: 'x',
      GIT_COMMITTER_NAME: 'x',
      GIT_COMMITTER_EMAIL: 'x',
    };
    const more = { ...fixed, GIT_AUTHOR_DATE: '@0 +0000', GIT_COMMITTER_DATE: '@0 +0000' };
    const bare = async (tree: string, ...parents: string[]): Promise<string> =>
      (await this.git(['commit-tree', tree, ...parents, '-m', 'x'], { objects: 'made', more })).trim();
    const empty = async (): Promise<string> => (await this.git(['mktree'], { objects: 'made' })).trim();
    const from = await bare(base === null ? await empty() : await this.#treeOf(base));
    const ours = await bare(await this.#treeOf(this.#head), '-p', from);
    return [ours, await bare(await this.#treeOf(commit), '-p', from)];
  }

  async #mergeTree([ours, theirs]: string[], kept: boolean): Promise<Merged> {
    const words = ['merge-tree', '--write-tree', '-z', '--name-only', '--no-messages', ours!, theirs!];
    try {
      const said = await this.git(words, kept ? { objects: 'kept' } : {});
      return { tree: said.split('\0')[0]!.trim(), conflicts: [] };
    } catch (thrown) {
      if (!(thrown instanceof GitFailed)) throw thrown;
      const [tree = '', ...conflicts] = thrown.stdout.split('\0').filter((word) => word !== '');
      if (thrown.exitCode === 1 && tree !== '') return { tree, conflicts };
      if (thrown.exitCode !== 129) throw thrown;
      throw new SuperfleetError('SF_REPOSITORY', 'this git is too old to try a merge without your files', {
        expected: 'git 2.38 or newer',
        got: (await this.#repository.git(['--version'])).trim(),
        hint: `git merge mesh/${this.#given.task}   merges by hand; nothing was changed`,
        cause: thrown,
      });
    }
  }

  async #treeOf(commit: string): Promise<string> {
    return (await this.#repository.git(['rev-parse', `${commit}^{tree}`])).trim();
  }

  async #signs(): Promise<boolean> {
    const words = ['config', '--type=bool', '--default=false', '--get', 'commit.gpgSign'];
    return (await this.#repository.git(words)).trim() === 'true';
  }
}
