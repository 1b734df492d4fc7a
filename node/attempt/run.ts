import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { buildReceipt } from '../../protocol/receipt.ts';
import {
  type Assignment,
  type AttemptResult,
  failedModelsMax,
  type Lease,
  type LimitKinds,
  leaseKey,
} from '../../protocol/session.ts';
import { encodeSigned, type SignedStatement } from '../../protocol/statement.ts';
import { buildVerification } from '../../protocol/verification.ts';
import type { BlobStore } from '../blobs/types.ts';
import type { Environments } from '../environment/environments.ts';
import { printable } from '../git/fault.ts';
import { type CacheBounds, RepositoryCache } from '../git/repository-cache.ts';
import type { SuspendableSandbox } from '../sandbox/suspendable.ts';
import type { Sandbox } from '../sandbox/types.ts';
import type { AttemptFacts } from './context.ts';
import { AttemptFolders } from './folders.ts';
import type { GoalWorker } from './goal.ts';
import {
  type AttemptOrder,
  dropResult,
  type Performed,
  performAttempt,
  returned,
  unconcluded,
} from './perform.ts';
import { ResultBlobs } from './result-blobs.ts';
import { SecretMask } from './secrets.ts';
import type { AttemptHooks, AttemptRunner } from './types.ts';

/** Does the work of attempts elsewhere than in this process. */
export interface Workers {
  /** As `performAttempt`; a worker that is lost is a failed attempt of this machine's fault. */
  perform(
    order: AttemptOrder,
    parts: { blobs: ResultBlobs; cache: RepositoryCache },
    hooks: AttemptHooks,
    signal: AbortSignal,
  ): Promise<Performed>;
  suspend(): void;
  resume(): void;
  /** Ends those that have no work; resolves when they are gone. */
  letGo(): Promise<void>;
  /** Resolves when no worker is left. */
  close(): Promise<void>;
}

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
  /** What does the work of attempts. @default this process, by `worker` and `environments` */
  workers?: Workers;
  /** Pursues goals; without one tasks of kind `code` are refused. @default null */
  worker?: GoalWorker | null;
  /** Prepares what repositories depend on; without it nothing is prepared. @default null */
  environments?: Environments | null;
  /** Bounds of the cache of repositories. @default those of repository-cache.ts */
  cache?: CacheBounds;
}

/** Characters of `detail` in a result. */
const detailLengthMax = 2048;

const REPOSITORIES = 'repos';

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
    this.#cache = new RepositoryCache(join(options.folder, REPOSITORIES), options.cache);
    this.#blobs = new ResultBlobs(options.blobs, options.ownsBlobs ?? false);
  }

  /** The cache of a runner with this folder and the bounds of its own, for workers. */
  static cacheIn(folder: string): { folder: string; bounds: CacheBounds } {
    return { folder: join(folder, REPOSITORIES), bounds: {} };
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
    this.#options.workers?.suspend();
  }

  resume(): void {
    this.#options.halts?.resume();
    this.#options.workers?.resume();
  }

  /** The machine is its owner's: what is kept for attempts to come is ended. */
  async letGo(): Promise<void> {
    await this.#options.workers?.letGo();
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
    await this.#options.workers?.close();
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
    const { member, time = Date.now } = this.#options;
    const startedAt = time();
    const work = await this.#folders.begin(assignment);
    const performed = await this.#perform({ assignment, work, member }, hooks, signal);
    let result: AttemptResult | null = null;
    try {
      result = await this.#concluded(assignment, performed, startedAt, signal);
      signal.throwIfAborted();
      await this.#folders.save(result);
      return result;
    } catch (error) {
      const { facts, log } = performed;
      const kept = [...returned(facts), ...(log === null ? [] : [log.blob])];
      for (const blob of result === null ? kept : blobsOf(result)) this.#blobs.release(blob);
      throw error;
    }
  }

  #perform(order: AttemptOrder, hooks: AttemptHooks, signal: AbortSignal): Promise<Performed> {
    const { sandbox, workers, worker = null, environments = null, time = Date.now } = this.#options;
    const blobs = this.#blobs;
    const cache = this.#cache;
    if (workers !== undefined) return workers.perform(order, { blobs, cache }, hooks, signal);
    return performAttempt(order, { sandbox, blobs, cache, worker, environments, time }, hooks, signal);
  }

  /**
   * The result with its envelope, whatever happens: what a receipt cannot hold makes a failure of its own, which returns
   * less; at the last a result of words alone.
   */
  async #concluded(
    assignment: Assignment,
    performed: Performed,
    startedAt: number,
    signal: AbortSignal,
  ): Promise<AttemptResult> {
    const { facts } = performed;
    const { name } = this.#options.member;
    for (let tries = 0; tries < 2; tries += 1) {
      if (performed.failure !== null && !facts.partial) dropResult(facts, assignment, this.#blobs);
      try {
        return await this.#signed(assignment, performed, startedAt);
      } catch (error) {
        signal.throwIfAborted();
        const { reason, fault, message } = unconcluded(error, name);
        const masked = new SecretMask(assignment.secrets).text(message);
        performed.failure = { reason, fault, message: masked, failedModels: [] };
        facts.checksChanged = [];
        facts.partial = false;
      }
    }
    dropResult(facts, assignment, this.#blobs);
    if (performed.log !== null) this.#blobs.release(performed.log.blob);
    performed.log = null;
    return { ...outlined(assignment, performed), commit: null };
  }

  async #signed(assignment: Assignment, performed: Performed, startedAt: number): Promise<AttemptResult> {
    const { mesh, member, sandbox, sign, time = Date.now } = this.#options;
    const result = outlined(assignment, performed);
    const limits = sandbox.limitKinds;
    const signer = { mesh, member: member.id, limits, startedAt, finishedAt: time() };
    const statement = statementOf(assignment, performed.facts, result, signer);
    if (statement !== null) result.envelope = encodeSigned(await sign(statement));
    return result;
  }
}

/** A result but for its envelope. */
function outlined(assignment: Assignment, { facts, failure, log }: Performed): AttemptResult {
  const { task, attempt, epoch, role, correlation } = assignment;
  const failedModels = [...new Set(failure?.failedModels)].slice(-failedModelsMax);
  return {
    task,
    attempt,
    epoch,
    role,
    correlation,
    outcome: failure === null ? 'succeeded' : 'failed',
    reason: failure?.reason ?? null,
    fault: failure?.fault ?? null,
    detail: failure === null ? null : printable(failure.message).slice(0, detailLengthMax),
    exitCode: facts.exitCode,
    commit: facts.commit,
    bundle: facts.bundle,
    log,
    artifacts: facts.artifacts,
    envelope: null,
    ...(facts.usage === null ? {} : { usage: facts.usage }),
    // The next attempt asks others first.
    ...(failedModels.length === 0 ? {} : { failedModels }),
  };
}

const blobsOf = (result: AttemptResult): string[] => [
  ...(result.bundle === null ? [] : [result.bundle.blob]),
  ...(result.log === null ? [] : [result.log.blob]),
  ...result.artifacts.map(({ blob }) => blob),
];

/** Who signs, and what only it knows. */
interface Signer {
  mesh: string;
  /** Peer id. */
  member: string;
  limits: LimitKinds;
  startedAt: number;
  finishedAt: number;
}

/** What is signed about an attempt; null where this machine's lack kept it from being run, or from being judged. */
function statementOf(
  assignment: Assignment,
  facts: AttemptFacts,
  result: AttemptResult,
  { mesh, member, limits, startedAt, finishedAt }: Signer,
): Uint8Array | null {
  const common = {
    mesh,
    task: assignment.task,
    epoch: assignment.epoch,
    nonce: assignment.nonce,
    checks: facts.checks,
    checksChanged: facts.checksChanged,
    ...(facts.checksFlaky.length === 0 ? {} : { checksFlaky: facts.checksFlaky }),
    commit: result.commit,
    startedAt,
    finishedAt,
  };
  if (assignment.role === 'verify') {
    if (assignment.verify === null || result.fault === 'machine') return null;
    return buildVerification({
      ...common,
      attempt: assignment.verify.attempt,
      receipt: assignment.verify.receipt,
      verifier: member,
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
    executor: member,
    spec: assignment.spec,
    sandbox: 'bubblewrap',
    limits,
    outcome: result.outcome,
    reason: result.reason,
    exitCode: result.exitCode,
    work: facts.work,
    bundle: result.bundle,
    log: result.log,
    artifacts: result.artifacts,
  });
}
