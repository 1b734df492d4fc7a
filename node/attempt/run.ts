import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { buildReceipt } from '../../protocol/receipt.ts';
import {
  type Assignment,
  type AttemptResult,
  failedModelsMax,
  type Lease,
  leaseKey,
} from '../../protocol/session.ts';
import { encodeSigned, type SignedStatement } from '../../protocol/statement.ts';
import { buildVerification } from '../../protocol/verification.ts';
import type { BlobStore } from '../blobs/types.ts';
import type { Environments } from '../environment/environments.ts';
import { printable } from '../git/fault.ts';
import { RepositoryCache } from '../git/repository-cache.ts';
import { SandboxAhead } from '../sandbox/ahead.ts';
import type { SuspendableSandbox } from '../sandbox/suspendable.ts';
import type { Sandbox } from '../sandbox/types.ts';
import { type AttemptContext, type AttemptFacts, noFacts } from './context.ts';
import { execute } from './execute.ts';
import { AttemptFailure, asFailure } from './failure.ts';
import { AttemptFolders } from './folders.ts';
import type { GoalWorker } from './goal.ts';
import { AttemptLog } from './log.ts';
import { ResultBlobs } from './result-blobs.ts';
import type { AttemptHooks, AttemptRunner } from './types.ts';
import { verify } from './verify.ts';

export interface AttemptRunnerOptions {
  /** Folder of this runner alone, on the disk of the blobs: `attempts/` and `repos/` are made in it. */
  folder: string;
  sandbox: Sandbox;
  /** What halts the sandbox, and what prepares environments. @default nothing does */
  halts?: Pick<SuspendableSandbox, 'suspend' | 'resume'>;
  blobs: BlobStore;
  /** True where the store is this member's alone: blobs of settled results and of cached bundles are deleted.
   * @default false */
  ownsBlobs?: boolean;
  /** True where nothing but attempts ever put blobs into the store: those that no kept result names go when the runner is
   * opened. @default false */
  reapsBlobs?: boolean;
  mesh: string;
  /** Read whenever it is used, so that a new name counts from then on. */
  member: { readonly id: string; readonly name: string };
  /** Signs receipts and verifications with the member's key. */
  sign(statement: Uint8Array): SignedStatement | Promise<SignedStatement>;
  /** Wall clock in Unix ms. @default Date.now */
  time?: () => number;
  /** Pursues goals; without one tasks of kind `code` are refused. @default null */
  worker?: GoalWorker | null;
  /** Prepares what repositories depend on; without it nothing is prepared. @default null */
  environments?: Environments | null;
  /** Bounds of the cache of repositories. @default those of repository-cache.ts */
  cache?: { entriesMax?: number; bytesMax?: number };
}

/** Characters of `detail` in a result. */
const detailLengthMax = 2048;

/** Runs attempts on this machine and keeps their results on its disk until they are settled. */
export class LocalAttemptRunner implements AttemptRunner {
  readonly #options: AttemptRunnerOptions;
  readonly #folders: AttemptFolders;
  readonly #cache: RepositoryCache;
  readonly #blobs: ResultBlobs;
  readonly #running = new Set<string>();
  /** Folders that are being deleted behind a result that is already out. */
  readonly #tidying = new Set<Promise<void>>();

  private constructor(options: AttemptRunnerOptions, folders: AttemptFolders) {
    this.#options = options;
    this.#folders = folders;
    this.#cache = new RepositoryCache(join(options.folder, 'repos'), options.cache);
    this.#blobs = new ResultBlobs(options.blobs, options.ownsBlobs ?? false);
  }

  /** Opens the folder and removes what attempts without a result left there; what is past the bounds of the cache goes, too. */
  static async open(options: AttemptRunnerOptions): Promise<LocalAttemptRunner> {
    const folders = await AttemptFolders.open(join(options.folder, 'attempts'));
    const runner = new LocalAttemptRunner(options, folders);
    await runner.#cache.sweep();
    for (const result of await folders.results())
      for (const blob of blobsOf(result)) runner.#blobs.hold(blob);
    if (options.reapsBlobs) await runner.#blobs.reap();
    return runner;
  }

  /**
   * One attempt, by its role. A verifier's result is `succeeded` exactly where its verification says passed; with
   * reason `environment` nothing was signed, otherwise the signed verification says why it did not pass.
   */
  async run(assignment: Assignment, hooks: AttemptHooks, signal: AbortSignal): Promise<AttemptResult> {
    signal.throwIfAborted();
    const key = leaseKey(assignment);
    if (this.#running.has(key)) {
      throw new SuperfleetError('SF_CONFLICT', `the attempt ${key} is running already`);
    }
    this.#running.add(key);
    try {
      const kept = await this.#folders.result(assignment);
      if (kept !== null) return kept;
      const result = await this.#attempt(assignment, hooks, signal);
      this.#tidy(assignment);
      return result;
    } catch (error) {
      await this.#folders.remove(assignment);
      throw error;
    } finally {
      this.#running.delete(key);
    }
  }

  suspend(): void {
    this.#options.halts?.suspend();
  }

  resume(): void {
    this.#options.halts?.resume();
  }

  /** Results not yet settled, oldest first: what a restarted member tells the founder of. */
  async restoreResults(): Promise<AttemptResult[]> {
    return this.#folders.results();
  }

  /** The result is settled: deletes it, and its blobs where the store is this member's alone. */
  async forget(lease: Lease): Promise<void> {
    const result = await this.#folders.result(lease);
    await this.#folders.remove(lease);
    if (result !== null) for (const blob of blobsOf(result)) this.#blobs.release(blob);
    await this.#blobs.settled();
  }

  /** Resolves when nothing is being deleted any more. Attempts are ended by their signals. */
  async close(): Promise<void> {
    await Promise.all(this.#tidying);
    await this.#blobs.settled();
  }

  #tidy(lease: Lease): void {
    const tidying = this.#folders
      .removeWork(lease)
      // It is removed at the next start; until then it costs room and nothing else.
      .catch(() => {})
      .finally(() => this.#tidying.delete(tidying));
    this.#tidying.add(tidying);
  }

  async #attempt(assignment: Assignment, hooks: AttemptHooks, signal: AbortSignal): Promise<AttemptResult> {
    const { mesh, member, sign, time = Date.now } = this.#options;
    const sandbox = new SandboxAhead(this.#options.sandbox, signal);
    const work = await this.#folders.begin(assignment);
    // Checks get none, so a verifier has them only where it runs the command itself.
    const runs = assignment.role === 'execute' || assignment.verify?.replica !== undefined;
    const secrets = runs ? assignment.secrets : {};
    const log = new AttemptLog(join(work, 'log'), secrets, (bytes) => hooks.output(bytes));
    const context: AttemptContext = {
      assignment: { ...assignment, secrets },
      hooks,
      signal,
      sandbox,
      blobs: this.#blobs,
      cache: this.#cache,
      worker: this.#options.worker ?? null,
      environments: this.#options.environments ?? null,
      work,
      log,
      mesh,
      member,
      sign,
      time,
      startedAt: time(),
    };
    const facts = noFacts();
    let result: AttemptResult | null = null;
    try {
      let failure: AttemptFailure | null = null;
      try {
        await (assignment.role === 'execute' ? execute(context, facts) : verifyAssigned(context, facts));
      } catch (error) {
        signal.throwIfAborted();
        failure = asFailure(error, member.name);
      }
      await sandbox.close();
      result = await this.#concluded(context, facts, failure);
      signal.throwIfAborted();
      await this.#folders.save(result);
      return result;
    } catch (error) {
      for (const blob of result === null ? returned(facts) : blobsOf(result)) this.#blobs.release(blob);
      throw error;
    } finally {
      await sandbox.close();
      await log.abandon();
    }
  }

  /**
   * The result, whatever happens: what a receipt or the disk cannot hold makes a failure of its own, which returns
   * less; at the last a result of words alone.
   */
  async #concluded(
    context: AttemptContext,
    facts: AttemptFacts,
    failure: AttemptFailure | null,
  ): Promise<AttemptResult> {
    let ending = failure;
    for (let tries = 0; tries < 2; tries += 1) {
      try {
        return await this.#conclude(context, facts, ending);
      } catch (error) {
        context.signal.throwIfAborted();
        const tooLarge = error instanceof SuperfleetError && error.code === 'SF_FULL';
        const member = context.member.name;
        ending = tooLarge
          ? new AttemptFailure('task', 'task', `${error.message}; ${error.hint ?? error.expected ?? ''}`)
          : asFailure(error, member);
        facts.checksChanged = [];
        facts.partial = false;
      }
    }
    dropResult(context, facts);
    return {
      ...wordsAlone(context, ending),
      exitCode: facts.exitCode,
      ...usageOf(facts),
      ...failedModelsOf(ending),
    };
  }

  /** Log and envelope of an attempt that has ended by itself; what a failure does not return is let go. */
  async #conclude(
    context: AttemptContext,
    facts: AttemptFacts,
    failure: AttemptFailure | null,
  ): Promise<AttemptResult> {
    const { log } = context;
    if (failure !== null && !facts.partial) dropResult(context, facts);
    const stored = await log.finish(this.#blobs);
    const result: AttemptResult = {
      ...wordsAlone(context, failure),
      exitCode: facts.exitCode,
      commit: facts.commit,
      bundle: facts.bundle,
      log: stored,
      artifacts: facts.artifacts,
      ...usageOf(facts),
      ...failedModelsOf(failure),
    };
    try {
      const statement = statementOf(context, facts, result);
      if (statement !== null) result.envelope = encodeSigned(await context.sign(statement));
      return result;
    } catch (error) {
      this.#blobs.release(stored.blob);
      throw error;
    }
  }
}

/** Models that let it down: the next attempt asks others first. */
const failedModelsOf = (failure: AttemptFailure | null): Pick<AttemptResult, 'failedModels'> =>
  failure === null || failure.failedModels.length === 0
    ? {}
    : { failedModels: [...new Set(failure.failedModels)].slice(-failedModelsMax) };

const usageOf = ({ usage }: AttemptFacts): Pick<AttemptResult, 'usage'> => (usage === null ? {} : { usage });

function wordsAlone({ assignment, log }: AttemptContext, failure: AttemptFailure | null): AttemptResult {
  return {
    task: assignment.task,
    attempt: assignment.attempt,
    epoch: assignment.epoch,
    role: assignment.role,
    correlation: assignment.correlation,
    outcome: failure === null ? 'succeeded' : 'failed',
    reason: failure?.reason ?? null,
    fault: failure?.fault ?? null,
    detail: failure === null ? null : printable(log.masked(failure.message)).slice(0, detailLengthMax),
    exitCode: null,
    commit: null,
    bundle: null,
    log: null,
    artifacts: [],
    envelope: null,
  };
}

function verifyAssigned(context: AttemptContext, facts: AttemptFacts): Promise<void> {
  const { verify: of } = context.assignment;
  if (of === null) throw new AttemptFailure('environment', 'machine', 'nothing was given to verify');
  return verify(context, of, facts);
}

/** A failed attempt returns its log and its receipt, and neither commit nor artifacts. */
function dropResult(context: AttemptContext, facts: AttemptFacts): void {
  for (const blob of returned(facts)) context.blobs.release(blob);
  facts.bundle = null;
  facts.artifacts = [];
  if (context.assignment.role === 'execute') facts.commit = null;
}

const returned = (facts: AttemptFacts): string[] => [
  ...(facts.bundle === null ? [] : [facts.bundle.blob]),
  ...facts.artifacts.map(({ blob }) => blob),
];

const blobsOf = (result: AttemptResult): string[] => [
  ...(result.bundle === null ? [] : [result.bundle.blob]),
  ...(result.log === null ? [] : [result.log.blob]),
  ...result.artifacts.map(({ blob }) => blob),
];

/** What is signed about an attempt; null where this machine's lack kept it from being run, or from being judged. */
function statementOf(context: AttemptContext, facts: AttemptFacts, result: AttemptResult): Uint8Array | null {
  const { assignment, mesh, member } = context;
  const common = {
    mesh,
    task: assignment.task,
    epoch: assignment.epoch,
    nonce: assignment.nonce,
    checks: facts.checks,
    checksChanged: facts.checksChanged,
    ...(facts.checksFlaky.length === 0 ? {} : { checksFlaky: facts.checksFlaky }),
    commit: result.commit,
    startedAt: context.startedAt,
    finishedAt: context.time(),
  };
  if (assignment.role === 'verify') {
    if (assignment.verify === null || result.fault === 'machine') return null;
    return buildVerification({
      ...common,
      attempt: assignment.verify.attempt,
      receipt: assignment.verify.receipt,
      verifier: member.id,
      verifierAttempt: assignment.attempt,
      passed: result.outcome === 'succeeded',
      ...(assignment.verify.replica === undefined ? {} : { replica: true as const }),
      detail: result.detail,
    });
  }
  if (result.fault === 'machine' && !facts.ran) return null;
  return buildReceipt({
    ...common,
    attempt: assignment.attempt,
    executor: member.id,
    spec: assignment.spec,
    sandbox: 'bubblewrap',
    limits: context.sandbox.limitKinds,
    outcome: result.outcome,
    reason: result.reason,
    exitCode: result.exitCode,
    work: facts.work,
    bundle: result.bundle,
    log: result.log,
    artifacts: result.artifacts,
  });
}
