import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundleUnpackedBytesMax } from '../../protocol/limits.ts';
import type { Mount, Sandbox, SandboxRun } from '../sandbox/types.ts';
import type { Change } from './changes.ts';
import { changesBytesMax, parseChanges } from './changes.ts';
import { ended, lastLine, prepareFault, takeFault, workspaceFilesMax } from './endings.ts';
import { GitFault, type GitFaultOf } from './fault.ts';
import { layOutGitDirectory, objectFormatOf } from './layout.ts';
import { LOOK, type LookQuestion, lookEnv } from './look.ts';
import { readBack } from './read-back.ts';
import { linkOrCopy, type RepositoryCache, type TreeSize } from './repository-cache.ts';
import { type GitEnd, type GitRun, gitInSandbox, runGit } from './sandboxed-git.ts';
import { CONTENTS, PREPARE, RESET, RESTORE, TAKE } from './scripts.ts';

const MiB = 1024 * 1024;
/** Beside what is unpacked: index, fixed thin packs, lists. */
const slackBytes = 256 * MiB;

/** A checked bundle, ready to be unpacked. */
export interface BundleFile {
  blob: string;
  path: string;
  bytes: number;
}

/** Identity and words of the one commit. */
export interface CommitWords {
  message: string;
  name: string;
  email: string;
}

export interface Taken {
  changes: Change[];
  /** Null: the workspace is as it was. */
  commit: string | null;
  /** File of the host with the thin bundle. */
  bundle: string | null;
}

/**
 * The git side of one attempt: a throw-away git directory and workspace under `folder`, which only git in its sandbox
 * ever reads. Methods throw `GitFault`, naming whose fault it is; an aborted signal rejects with its reason.
 */
export class AttemptRepository {
  readonly #sandbox: Sandbox;
  readonly #folder: string;
  readonly #task: string;
  readonly #base: string;
  /** `1`: the index is that of a `take`. */
  #again: '0' | '1' = '0';
  /** The caller's; exists. */
  readonly workspace: string;

  constructor(sandbox: Sandbox, folder: string, workspace: string, task: string, base: string) {
    this.#sandbox = sandbox;
    this.#folder = folder;
    this.workspace = workspace;
    this.#task = task;
    this.#base = base;
  }

  #path(...parts: string[]): string {
    return join(this.#folder, ...parts);
  }

  /** What a task sees of git: its own directory, pinned and read-only, and the objects that it rests on. */
  get taskMounts(): Mount[] {
    return [
      { from: this.workspace, to: '/workspace', writable: true },
      { from: this.#path('git'), to: '/workspace/.git', writable: false },
      { from: this.#path('cache'), to: '/cache', writable: false },
    ];
  }

  /** Makes the folders; links what the cache has. Returns the blobs of those bundles that it has not. */
  async open(cache: RepositoryCache, repository: string, bundles: readonly string[]): Promise<string[]> {
    await Promise.all([
      layOutGitDirectory(this.#path('git'), this.#task, this.#base),
      mkdir(this.#path('cache', 'pack'), { recursive: true }),
      mkdir(this.#path('io'), { recursive: true }),
      mkdir(join(this.workspace, '.git'), { recursive: true }),
    ]);
    const held = await Promise.all(
      bundles.map((blob) => cache.linkInto(repository, blob, this.#path('cache', 'pack'))),
    );
    return bundles.filter((_, index) => held[index] !== true);
  }

  /** Paths that no commit takes, unless the base has them: what was prepared for the task, and is not its work. */
  async leaveOut(paths: readonly string[]): Promise<void> {
    const patterns = paths.map((path) => `/${path.replace(/[\\*?[\] ]/g, '\\$&').replace(/[\n\r]/g, '?')}\n`);
    await mkdir(this.#path('git', 'info'), { recursive: true });
    await writeFile(this.#path('git', 'info', 'exclude'), patterns.join(''));
  }

  /**
   * Unpacks `missing` and checks out the base, or with `result` that commit. Bounded by `treeBytesMax` before a file
   * is written. The packs made of `missing` are linked into this attempt and then given to `keep`; `meanwhile` is called
   * once git is at work.
   */
  async prepare(
    missing: readonly BundleFile[],
    known: TreeSize | null,
    result: { commit: string; bundle: BundleFile } | null,
    treeBytesMax: number,
    keep: (blob: string, packs: string) => Promise<void>,
    meanwhile: () => void,
    signal: AbortSignal,
  ): Promise<{ size: TreeSize | null; rawCommit: Buffer | null; changes: Change[] }> {
    await Promise.all(
      missing.map((_, index) => mkdir(this.#path('new', String(index), 'pack'), { recursive: true })),
    );
    const packed = missing.reduce((sum, bundle) => sum + bundle.bytes, result?.bundle.bytes ?? 0);
    const bytesMax = Math.min(treeBytesMax, bundleUnpackedBytesMax);
    const mounts: Mount[] = missing.map(({ path }, index) => ({
      from: path,
      to: `/in/${index}.bundle`,
      writable: false,
    }));
    if (missing.length > 0) mounts.push({ from: this.#path('new'), to: '/new', writable: true });
    if (result !== null) mounts.push({ from: result.bundle.path, to: '/in/result.bundle', writable: false });
    const measured = known !== null && known.bytes <= bytesMax && known.files <= workspaceFilesMax;
    const running = this.#run(
      {
        script: PREPARE,
        env: {
          BASE: this.#base,
          TASK: this.#task,
          COMMIT: result?.commit ?? '',
          BUNDLES: String(missing.length),
          MEASURED: measured ? '1' : '0',
          FILES_MAX: String(workspaceFilesMax),
          TREE_BYTES_MAX: String(bytesMax),
          INPUT_BYTES_MAX: String(packed + MiB),
        },
        mounts,
        disk: { watch: this.#folder, bytes: bytesMax + 4 * packed + slackBytes },
        stdin: null,
        stdout: null,
      },
      signal,
    );
    meanwhile();
    const end = await running;
    if (end.end.exitCode !== 0)
      throw prepareFault(end, { base: this.#base, verifying: result !== null, bytesMax });
    for (const [index, bundle] of missing.entries()) {
      const packs = this.#path('new', String(index), 'pack');
      const names = await readdir(packs);
      await Promise.all(
        names.map((name) => linkOrCopy(join(packs, name), this.#path('cache', 'pack', name))),
      );
      await keep(bundle.blob, packs);
    }
    const [size, rawCommit, changes] = await Promise.all([
      measured && result === null ? null : this.#readSize(result?.commit ?? this.#base),
      result === null ? null : readBack(this.#path('io'), 'commit', MiB),
      result === null ? [] : this.#readChanges('result'),
    ]);
    return { size, rawCommit, changes };
  }

  /** The sandbox that `take` will use, for setting it up ahead. */
  takeInSandbox(words: CommitWords, bytesMax: number): SandboxRun {
    return gitInSandbox(this.#withMounts(this.#takeRun(words, bytesMax)));
  }

  #takeRun(words: CommitWords, bytesMax: number): GitRun {
    return {
      script: TAKE,
      env: {
        AGAIN: this.#again,
        BASE: this.#base,
        TASK: this.#task,
        MESSAGE: words.message,
        BUNDLE_HEAD:
          objectFormatOf(this.#base) === 'sha256'
            ? '# v3 git bundle\n@object-format=sha256'
            : '# v2 git bundle',
        GIT_AUTHOR_NAME: words.name,
        GIT_AUTHOR_EMAIL: words.email,
        GIT_COMMITTER_NAME: words.name,
        GIT_COMMITTER_EMAIL: words.email,
      },
      mounts: [],
      disk: { watch: this.#folder, bytes: 3 * bytesMax + slackBytes },
      stdin: null,
      stdout: null,
    };
  }

  /**
   * Adds everything that is not ignored, and where that changes anything makes the commit, of `time` (Unix seconds), and
   * its thin bundle. `meanwhile` is called once git is at work.
   */
  async take(
    words: CommitWords,
    time: number,
    bytesMax: number,
    meanwhile: () => void,
    signal: AbortSignal,
  ): Promise<Taken> {
    await writeFile(this.#path('io', 'time'), `${time} +0000\n`);
    const running = this.#run(this.#takeRun(words, bytesMax), signal);
    meanwhile();
    const end = await running;
    this.#again = '1';
    if (end.end.exitCode !== 0) throw takeFault(end);
    const changes = await this.#readChanges('work');
    if (changes.length === 0) return { changes, commit: null, bundle: null };
    const commit = (await readBack(this.#path('io'), 'commit', 128)).toString('latin1').trim();
    return { changes, commit, bundle: this.#path('io', 'bundle') };
  }

  /** Puts paths back as the base has them, and removes those the base has not. */
  async restore(paths: readonly Buffer[], remove: readonly Buffer[], signal: AbortSignal): Promise<void> {
    const list = (all: readonly Buffer[]): Buffer =>
      Buffer.concat(all.flatMap((path) => [path, Buffer.of(0)]));
    await Promise.all([
      writeFile(this.#path('io', 'restore'), list(paths)),
      writeFile(this.#path('io', 'remove'), list(remove)),
    ]);
    const end = await this.#run(
      { script: RESTORE, env: { BASE: this.#base }, mounts: [], disk: null, stdin: null, stdout: null },
      signal,
    );
    if (end.end.exitCode !== 0) {
      throw new GitFault('work', `the check files could not be put back: ${lastLine(end.complaint)}`);
    }
  }

  /** Puts everything that is not ignored back as a commit of `take` has it; null: as the base has it. */
  async reset(commit: string | null, signal: AbortSignal): Promise<void> {
    const env = { AGAIN: this.#again, COMMIT: commit ?? this.#base };
    const end = await this.#run(
      { script: RESET, env, mounts: [], disk: null, stdin: null, stdout: null },
      signal,
    );
    if (end.end.exitCode !== 0) {
      throw new GitFault('work', `the workspace could not be put back: ${lastLine(end.complaint)}`);
    }
  }

  /** Streams the contents of these objects to `chunk`, in order, with git's line of facts before each. */
  async contents(
    objects: readonly string[],
    chunk: (bytes: Buffer) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const stdin = Buffer.from(objects.map((object) => `${object}\n`).join(''));
    const run = { script: CONTENTS, env: {}, mounts: [], disk: null, stdin, stdout: chunk };
    const end = await this.#run(run, signal);
    if (end.end.exitCode !== 0) {
      throw new GitFault('machine', `the commit could not be read back: ${lastLine(end.complaint)}`);
    }
  }

  /** Answers a question about the checkout on `stdout`. Everything is mounted read-only, so nothing is changed by asking. */
  async look(question: LookQuestion, stdout: (chunk: Buffer) => void, signal: AbortSignal): Promise<GitEnd> {
    const mounts: Mount[] = [
      { from: this.workspace, to: '/workspace', writable: false },
      { from: this.#path('git'), to: '/git', writable: false },
      { from: this.#path('cache'), to: '/cache', writable: false },
    ];
    const run = { script: LOOK, env: lookEnv(question), mounts, disk: null, stdin: null, stdout };
    return ended(await runGit(this.#sandbox, run, signal), signal);
  }

  #withMounts(run: GitRun): GitRun {
    const own: Mount[] = [
      { from: this.workspace, to: '/workspace', writable: true },
      { from: this.#path('git'), to: '/git', writable: true },
      { from: this.#path('cache'), to: '/cache', writable: false },
      { from: this.#path('io'), to: '/io', writable: true },
    ];
    return { ...run, mounts: [...own, ...run.mounts] };
  }

  async #run(run: GitRun, signal: AbortSignal): Promise<GitEnd> {
    return ended(await runGit(this.#sandbox, this.#withMounts(run), signal), signal);
  }

  async #readSize(commit: string): Promise<TreeSize | null> {
    const [files, bytes] = (await readBack(this.#path('io'), 'size', 128))
      .toString('latin1')
      .trim()
      .split(' ')
      .map(Number);
    return Number.isSafeInteger(files) && Number.isSafeInteger(bytes)
      ? { commit, files: files ?? 0, bytes: bytes ?? 0 }
      : null;
  }

  async #readChanges(of: GitFaultOf): Promise<Change[]> {
    try {
      return parseChanges(await readBack(this.#path('io'), 'changes', changesBytesMax));
    } catch (error) {
      if (error instanceof RangeError) throw new GitFault(of, 'it changes more files than one result may');
      throw error;
    }
  }
}
