import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { GoalWorker } from '../../../node/attempt/goal.ts';
import { LocalAttemptRunner } from '../../../node/attempt/run.ts';
import type { AttemptHooks } from '../../../node/attempt/types.ts';
import { DiskBlobStore } from '../../../node/blobs/disk.ts';
import type { BlobStore } from '../../../node/blobs/types.ts';
import type { AllowedHost } from '../../../node/environment/admission.ts';
import { Environments } from '../../../node/environment/environments.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import type { Sandbox, SandboxRun } from '../../../node/sandbox/types.ts';
import { signingKeyFromSeed } from '../../../protocol/keys.ts';
import type { Assignment, AttemptResult, ResultBlob } from '../../../protocol/session.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { type RepositoryBundle, type TaskSpecInput, taskSpec } from '../../../protocol/task.ts';

export const MESH = 'ab'.repeat(32);
export const executorKey = signingKeyFromSeed(Buffer.alloc(32, 1));
export const verifierKey = signingKeyFromSeed(Buffer.alloc(32, 2));

/** A repository that the submitter trusts, with host git: never one that a task has touched. */
export class TestRepository {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    execFileSync('git', ['init', '-q', '-b', 'main', path], { env: GIT_ENV });
  }

  git(...args: string[]): string {
    return this.gitWith('', ...args);
  }

  gitWith(input: string | Buffer, ...args: string[]): string {
    return execFileSync('git', args, { cwd: this.path, env: GIT_ENV, input, encoding: 'utf8' }).trim();
  }

  async commit(files: Record<string, string | null>, message = 'a commit'): Promise<string> {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(this.path, name)), { recursive: true });
      if (text === null) await rm(join(this.path, name));
      else await writeFile(join(this.path, name), text);
    }
    this.git('add', '-A');
    this.git('commit', '-q', '--allow-empty', '-m', message);
    return this.git('rev-parse', 'HEAD');
  }

  get root(): string {
    return this.git('rev-list', '--max-parents=0', 'HEAD').split('\n').at(-1) ?? '';
  }
}

const GIT_ENV = {
  PATH: process.env.PATH ?? '/usr/bin:/bin',
  HOME: '/nonexistent',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Test',
  GIT_AUTHOR_EMAIL: 'test@example.invalid',
  GIT_COMMITTER_NAME: 'Test',
  GIT_COMMITTER_EMAIL: 'test@example.invalid',
};

/** What the hooks saw of one run. */
export interface Seen {
  output: string;
  phases: string[];
  started: number;
  fetched: string[];
}

/** One member with everything on disk, and the founder's blobs beside it. */
export class Member {
  readonly folder: string;
  readonly blobs: DiskBlobStore;
  readonly founder: BlobStore;
  readonly sandbox: CountingSandbox;
  readonly key = executorKey;
  runner: LocalAttemptRunner;

  private constructor(
    folder: string,
    blobs: DiskBlobStore,
    founder: BlobStore,
    sandbox: CountingSandbox,
    runner: LocalAttemptRunner,
  ) {
    this.folder = folder;
    this.blobs = blobs;
    this.founder = founder;
    this.sandbox = sandbox;
    this.runner = runner;
  }

  static async open(
    folder: string,
    founder: BlobStore,
    name = 'spare-1',
    key = executorKey,
    worker: GoalWorker | null = null,
    hosts: readonly AllowedHost[] = [],
  ): Promise<Member> {
    await mkdir(folder, { recursive: true });
    const blobs = await DiskBlobStore.open(join(folder, 'blobs'));
    const sandbox = new CountingSandbox();
    const runner = await LocalAttemptRunner.open({
      folder,
      sandbox,
      blobs,
      ownsBlobs: true,
      mesh: MESH,
      member: { id: key.peer, name },
      sign: (statement) => signStatement(statement, key),
      worker,
      environments: await Environments.open({
        folder: join(folder, 'environments'),
        sandbox,
        hosts: () => hosts,
        versions: async () => ({ node: process.versions.node }),
      }),
    });
    return new Member(folder, blobs, founder, sandbox, runner);
  }

  async run(
    assignment: Assignment,
    signal: AbortSignal = new AbortController().signal,
    more: Partial<AttemptHooks> = {},
  ): Promise<{ result: AttemptResult; seen: Seen; log: string }> {
    const seen: Seen = { output: '', phases: [], started: 0, fetched: [] };
    const hooks: AttemptHooks = {
      started: () => {
        seen.started += 1;
      },
      progress: (phase) => void (seen.phases.at(-1) === phase || seen.phases.push(phase)),
      output: (bytes) => {
        seen.output += Buffer.from(bytes).toString('utf8');
      },
      fetch: async (blobs) => {
        for (const blob of blobs) {
          seen.fetched.push(blob);
          await this.blobs.put(this.founder.read(blob));
        }
      },
      ...more,
    };
    const result = await this.runner.run(assignment, hooks, signal);
    return {
      result,
      seen,
      log: result.log === null ? '' : (await bytesOf(this.blobs, result.log)).toString('utf8'),
    };
  }

  /** Names left under the attempts folder. */
  async leftBehind(): Promise<string[]> {
    await this.runner.close();
    return readdir(join(this.folder, 'attempts'), { recursive: true });
  }
}

/** The real sandbox; counts its starts, so that what an attempt costs is held by a test. */
export class CountingSandbox implements Sandbox {
  readonly #sandbox = createSandbox();
  starts: SandboxRun[] = [];

  get limitKinds(): Sandbox['limitKinds'] {
    return this.#sandbox.limitKinds;
  }

  start(run: SandboxRun, signal: AbortSignal): ReturnType<Sandbox['start']> {
    this.starts.push(run);
    return this.#sandbox.start(run, signal);
  }
}

export async function bytesOf(store: BlobStore, blob: ResultBlob): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of store.read(blob.blob)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

let tasks = 0;

/** A world of one test file: a temporary folder, the founder's store, a submitter's repository. */
export class World {
  readonly folder: string;
  readonly founder: DiskBlobStore;

  private constructor(folder: string, founder: DiskBlobStore) {
    this.folder = folder;
    this.founder = founder;
  }

  static async make(): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'superfleet-attempt-'));
    return new World(folder, await DiskBlobStore.open(join(folder, 'founder')));
  }

  async remove(): Promise<void> {
    execFileSync('chmod', ['-R', 'u+rwX', this.folder]);
    await rm(this.folder, { recursive: true, force: true });
  }

  repository(name = 'repo'): TestRepository {
    return new TestRepository(join(this.folder, name));
  }

  /** The bundle a submitter would send for a commit. */
  async bundle(
    repository: TestRepository,
    commit: string,
    prerequisites: string[] = [],
  ): Promise<RepositoryBundle> {
    const path = join(this.folder, `${commit}.bundle`);
    repository.git('update-ref', `refs/superfleet/${commit}`, commit);
    repository.git(
      'bundle',
      'create',
      '-q',
      path,
      `refs/superfleet/${commit}`,
      ...prerequisites.map((one) => `^${one}`),
    );
    const { blob } = await this.founder.put(await readFile(path));
    return { commit, bundle: blob, prerequisites };
  }

  /** An executor's assignment; a spec's `repository` is filled from the test's repository where one is given. */
  async assignment(
    spec: TaskSpecInput,
    source: { repository: TestRepository; base: string; bundles?: RepositoryBundle[] } | null,
    more: Partial<Assignment> = {},
  ): Promise<Assignment> {
    tasks += 1;
    const letters = [...String(tasks)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
    const input =
      source === null ? null : { id: source.repository.root, name: 'repo', ref: 'main', base: source.base };
    return {
      task: letters.padStart(12, 'z'),
      attempt: 1,
      epoch: 1,
      role: 'execute',
      correlation: 'c-1',
      spec: taskSpec.parse({ ...spec, repository: input }),
      bundles: source === null ? [] : (source.bundles ?? [await this.bundle(source.repository, source.base)]),
      nonce: '01'.repeat(16),
      secrets: {},
      verify: null,
      ...more,
    };
  }
}

/** A verifier's assignment about an executor's result. */
export function toVerify(assignment: Assignment, result: AttemptResult, receipt: string): Assignment {
  return {
    ...assignment,
    attempt: assignment.attempt + 1,
    role: 'verify',
    nonce: '02'.repeat(16),
    secrets: {},
    verify: {
      attempt: assignment.attempt,
      executor: executorKey.peer,
      receipt,
      commit: result.commit,
      bundle: result.bundle,
    },
  };
}

export const canRun: string | null =
  process.platform !== 'linux'
    ? 'tasks run on Linux only'
    : !existsSync('/usr/bin/bwrap')
      ? 'bubblewrap is not installed'
      : null;
