import { SuperfleetError } from '../../protocol/errors.ts';
import { noFacts } from '../attempt/context.ts';
import { asFailure } from '../attempt/failure.ts';
import { type AttemptOrder, type Performed, returned } from '../attempt/perform.ts';
import type { ResultBlobs } from '../attempt/result-blobs.ts';
import type { Workers } from '../attempt/run.ts';
import type { AttemptHooks } from '../attempt/types.ts';
import type { Environments } from '../environment/environments.ts';
import type { CacheBounds, RepositoryCache } from '../git/repository-cache.ts';
import type { SandboxOptions } from '../sandbox/bubblewrap.ts';
import type { CgroupSlots } from '../sandbox/limits/cgroup.ts';
import { isTimed } from '../timing.ts';
import type { WorkerOptions } from '../worker/worker.ts';
import type { Answer, Hearer, Service } from './answers.ts';
import { AttemptService, BlobService } from './attempt-services.ts';
import type { Served } from './calls.ts';
import { EnvironmentService } from './environment-service.ts';
import { ModelService } from './model-service.ts';
import type { WorkerOrder } from './order.ts';
import { performedOf } from './performed.ts';
import { SupervisedWorker, type WorkerLimits, WorkerLost } from './supervised.ts';

export interface WorkerPoolOptions {
  /** Asked for with each attempt. */
  sandbox(): SandboxOptions & { cgroups: CgroupSlots };
  cache: { folder: string; bounds: CacheBounds };
  /** @default null: nothing is prepared */
  environments?: Environments | null;
  /** What goals are pursued with. @default null: goals are refused */
  goals?: WorkerOptions | null;
  /** Idle workers are kept at most: slots of this machine. */
  idleMax(): number;
  /** An idle worker goes after this, ms. @default 30 s */
  idleMs?: number;
  /** @default 6 pings, 5 s apart: 30 s */
  limits?: WorkerLimits;
  /** @default the worker's own */
  program?: URL;
  /** One that has not said by then that its attempt is stopped is ended, ms; its sandboxes are at once. @default 5 s */
  graceMs?: number;
  /** What workers print, and how those end that nobody ended; for the log. */
  warn(message: string, detail: { pid: number | undefined; line?: string }): void;
}

const idleMsDefault = 30_000;
const graceMsDefault = 5_000;
const limitsDefault: WorkerLimits = { pingMs: 5_000, silentMax: 6 };

interface Member {
  worker: SupervisedWorker;
  /** What its attempt may ask; empty: it has none. */
  services: readonly Service[];
  /** When it goes, where it is idle. */
  going: NodeJS.Timeout | null;
}

/**
 * Workers of a node: child processes that come with the first work, do one attempt at a time, and go when they are idle. One that
 * crashes, stands still or talks nonsense is a failed attempt of this machine's fault, and nothing else.
 */
export class WorkerPool implements Workers {
  readonly #options: WorkerPoolOptions;
  readonly #members = new Set<Member>();
  #suspended = false;
  #closed = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
  }

  /** Processes there are, by what they do. */
  get count(): { idle: number; busy: number } {
    const idle = [...this.#members].filter(({ going }) => going !== null).length;
    return { idle, busy: this.#members.size - idle };
  }

  /** Their pids, for whoever looks at them. */
  get pids(): number[] {
    return [...this.#members].flatMap(({ worker }) => worker.pid ?? []);
  }

  async perform(
    order: AttemptOrder,
    { blobs, cache }: { blobs: ResultBlobs; cache: RepositoryCache },
    hooks: AttemptHooks,
    signal: AbortSignal,
  ): Promise<Performed> {
    signal.throwIfAborted();
    let member: Member;
    try {
      member = this.#taken();
    } catch (error) {
      return this.#failed(error, order, undefined);
    }
    const { worker } = member;
    const { environments = null, goals = null, graceMs = graceMsDefault } = this.#options;
    const held = new BlobService(blobs);
    member.services = [
      new AttemptService(hooks, cache),
      held,
      ...(environments === null ? [] : [new EnvironmentService(environments, () => worker.calls)]),
      ...(goals === null ? [] : [new ModelService(goals)]),
    ];
    let grace: NodeJS.Timeout | null = null;
    const stop = (): void => {
      void worker.endSandboxes();
      // Nothing of a stopped attempt is kept, so it may be ended anywhere.
      grace = setTimeout(() => worker.end('was ended, for it did not stop its attempt in time'), graceMs);
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      const said = await worker.work('attempt', [this.#orderOf(order)], signal);
      const performed = performedOf(said);
      const { facts, log } = performed;
      if (held.keep([...returned(facts), ...(log === null ? [] : [log.blob])])) return performed;
      throw new SuperfleetError('SF_FRAME', 'a worker returned blobs that it does not hold');
    } catch (error) {
      if (signal.aborted && worker.lost === null && !(error instanceof WorkerLost)) throw signal.reason;
      // Whatever it was: nothing of it is to go on in a worker that is used again.
      worker.end('was ended, for its attempt broke');
      await worker.ended;
      signal.throwIfAborted();
      return this.#failed(error, order, worker.pid);
    } finally {
      signal.removeEventListener('abort', stop);
      if (grace !== null) clearTimeout(grace);
      const { services } = member;
      member.services = [];
      await Promise.all(services.map((service) => service.close()));
      this.#rest(member);
    }
  }

  #failed(error: unknown, order: AttemptOrder, pid: number | undefined): Performed {
    const performed = lost(error, order);
    const line = performed.failure?.message ?? '';
    this.#options.warn('an attempt failed with its worker', { pid, line });
    return performed;
  }

  suspend(): void {
    this.#suspended = true;
    for (const { worker } of this.#members) worker.calls.tell('suspend');
  }

  resume(): void {
    this.#suspended = false;
    for (const { worker } of this.#members) worker.calls.tell('resume');
  }

  async letGo(): Promise<void> {
    await this.#end([...this.#members].filter(({ going }) => going !== null));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#end([...this.#members]);
  }

  async #end(members: readonly Member[]): Promise<void> {
    for (const { worker } of members) worker.end('was let go');
    await Promise.all(members.map(({ worker }) => worker.ended));
  }

  #orderOf({ assignment, work, member: { id, name } }: AttemptOrder): WorkerOrder {
    const { sandbox, cache, environments = null, goals = null } = this.#options;
    const hosts = (goals ?? { hosts: undefined }).hosts?.() ?? [];
    return {
      assignment,
      work,
      member: { id, name },
      sandbox: sandbox(),
      cache,
      environments: environments === null ? null : { hosts: environments.hosts() },
      goals:
        goals === null
          ? null
          : {
              agents: goals.agents?.() ?? [],
              mcp: goals.mcp?.() ?? [],
              hosts,
              runtime: goals.runtime !== undefined,
            },
      timed: isTimed(),
    };
  }

  /** One that is idle, the last that worked first, or a new one. */
  #taken(): Member {
    const idle = [...this.#members].filter(({ going, worker }) => going !== null && worker.usable);
    const member = idle.at(-1) ?? this.#started();
    if (member.going !== null) clearTimeout(member.going);
    member.going = null;
    // The order of the set is that of their work.
    this.#members.delete(member);
    this.#members.add(member);
    return member;
  }

  #started(): Member {
    const { sandbox, limits = limitsDefault, program, warn } = this.#options;
    const served: Served = {
      ask: (of, args, signal) => answerTo(member.services, of)(args, signal),
      tell: (of, args) => hearerOf(member.services, of)(args),
    };
    const print = (line: string): void => warn('a worker says', { pid: worker.pid, line });
    const worker = new SupervisedWorker(served, sandbox().cgroups, limits, print, program);
    const member: Member = { worker, services: [], going: null };
    if (this.#suspended) worker.calls.tell('suspend');
    this.#members.add(member);
    void worker.ended.then(() => {
      if (member.going !== null) clearTimeout(member.going);
      this.#members.delete(member);
    });
    return member;
  }

  #rest(member: Member): void {
    if (!member.worker.usable) return;
    const { idleMs = idleMsDefault, idleMax } = this.#options;
    if (this.#closed || this.count.idle >= idleMax()) {
      member.worker.end('was let go');
      return;
    }
    member.going = setTimeout(() => void this.#end([member]), idleMs);
    member.going.unref();
  }
}

const sayable = (of: string): SuperfleetError =>
  new SuperfleetError('SF_FRAME', `a worker may not say ${JSON.stringify(of.slice(0, 64))} now`);

/** What answers a question. Throws where there is none that the worker may ask now. */
function answerTo(services: readonly Service[], of: string): Answer {
  for (const { asks } of services) if (Object.hasOwn(asks, of)) return asks[of]!;
  throw sayable(of);
}

/** As for questions; what comes after the end of an attempt is of no interest any more. */
function hearerOf(services: readonly Service[], of: string): Hearer {
  if (services.length === 0) return () => {};
  for (const { tells } of services) if (Object.hasOwn(tells, of)) return tells[of]!;
  throw sayable(of);
}

/** What is left of an attempt whose worker is gone: no log, nothing to be signed, and whose fault it is. */
function lost(error: unknown, { member }: AttemptOrder): Performed {
  const { reason, fault, message } = asFailure(
    error instanceof WorkerLost ? `the worker of this attempt ${error.message}` : error,
    member.name,
  );
  // A crash says nothing of what the task needs: it may be tried here again.
  const why = error instanceof WorkerLost ? 'lost' : reason;
  return { facts: noFacts(), failure: { reason: why, fault, message, failedModels: [] }, log: null };
}
