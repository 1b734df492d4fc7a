import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseDuration } from '../../protocol/duration.ts';
import type { BlobId } from '../../protocol/ids.ts';
import { type Capacity, CLOUD_BRAIN, type Lender, type Place } from '../../protocol/session.ts';
import type { NodeObject, NodeState, PolicyObject } from '../api/objects.ts';
import { readTextOrNull, writeFileAtomic } from '../atomic-file.ts';
import type { LocalAttemptRunner } from '../attempt/run.ts';
import { CloudBrain } from '../brain/cloud.ts';
import { MemberCore } from '../core/member.ts';
import type { Clock } from '../core/types.ts';
import type { Environments, FromFounder } from '../environment/environments.ts';
import { allowedHosts } from '../environment/owner.ts';
import { SandboxRuntime } from '../environment/runtime.ts';
import type { Registry } from '../network/registry.ts';
import { TailSources } from '../network/tail-source.ts';
import { KeptAwake, toldOf } from '../offer/awake.ts';
import type { Verdict } from '../offer/policy.ts';
import { PolicyWatch } from '../offer/watch.ts';
import { workOf } from '../offer/work.ts';
import { Prompts } from '../worker/prompts.ts';
import type { WorkerOptions } from '../worker/worker.ts';
import { wakefulClock } from './clock.ts';
import { thisInstance } from './instance.ts';
import { type Machine, openEnvironments, openRunner } from './machine.ts';
import { MemberDriver } from './member.ts';
import { MemberModels } from './member-models.ts';
import { MeshPolicy } from './mesh-policy.ts';
import { OwnerPause } from './owner.ts';

export interface MemberServiceOptions {
  machine: Machine;
  mesh: string;
  /** The machine's own peer id, and its name in the mesh, which the mesh may change. */
  me: { readonly id: string; name: string };
  roles: string[];
  owner: string | null;
  /** The blob store is this member's alone (false on the founder, whose store is the mesh's). */
  ownsBlobs: boolean;
  slots: number | null;
  labels: Record<string, string>;
  /** When it works: as the owner and as the invite said; null: not said. */
  policy: { owner: string | null; invite: string | null };
  /** Its owner lets this machine be kept awake while it works. */
  inhibitSleep: boolean;
  rosterVersion: number;
  /** What leases run by. @default `wakefulClock`: they run out while this machine is suspended */
  clock?: () => Clock;
  fetch(blobs: BlobId[], signal: AbortSignal): Promise<void>;
  takeRoster(blob: BlobId): Promise<number>;
  refused(code: string, message: string): void;
  /** What is done with a checkpoint that is shown, given the newest held. @default the larger size is kept */
  weigh?(held: string | null, shown: string): 'keep' | 'pass' | 'conflict';
  /** The founder has signed two histories. @default nothing is done */
  conflict?(checkpoints: [string, string]): void;
  /** The epoch of the mesh that is known here. @default 1 */
  epoch?: number;
  /** As of the driver. @default of no interest */
  handedOver?(handovers: string[], addresses: string[]): void;
  replicas?(replicas: Place[]): void;
  /** Multiaddrs at which members that ask its models may dial it. @default none: it lends no models */
  listens?(): string[];
  /** @default nobody is asked for environments: this is the founder's machine */
  fromFounder?: FromFounder;
  /** Entries that its copy of the log is behind. @default null: it keeps none */
  lag?(): number | null;
}

interface Parts {
  runner: LocalAttemptRunner;
  core: MemberCore;
  pause: OwnerPause;
  policy: PolicyWatch;
  meshPolicy: MeshPolicy;
  models: MemberModels;
  environments: Environments;
}

/** Between two looks at signs of a person and at the load. */
const LOOK_AGAIN_MS = 1_000;
/** How often what this machine offers is measured anew. */
const MEASURE_MS = 60_000;

/** What every machine does for its mesh, the founder's among them: offers itself, runs attempts, obeys its owner. */
export class MemberService {
  readonly tails = new TailSources();
  readonly driver: MemberDriver;
  readonly models: MemberModels;
  readonly environments: Environments;
  readonly #options: MemberServiceOptions;
  readonly #core: MemberCore;
  readonly #runner: LocalAttemptRunner;
  readonly #pause: OwnerPause;
  /** Null: its owner does not let it. */
  readonly #awake: KeptAwake | null;
  readonly #measuring: NodeJS.Timeout;
  readonly #policy: PolicyWatch;
  readonly #meshPolicy: MeshPolicy;
  #capacity: Capacity;
  #meshPaused = false;
  #resuming: NodeJS.Timeout | null = null;
  #kept: Promise<void> = Promise.resolve();

  private constructor(
    options: MemberServiceOptions,
    { runner, core, pause, policy, meshPolicy, models, environments }: Parts,
    capacity: Capacity,
  ) {
    const { machine } = options;
    this.#options = options;
    this.#runner = runner;
    this.#core = core;
    this.#pause = pause;
    this.#policy = policy;
    this.#meshPolicy = meshPolicy;
    this.models = models;
    this.environments = environments;
    models.changed = () => this.#measure();
    this.#capacity = capacity;
    this.#awake = options.inhibitSleep ? new KeptAwake() : null;
    this.driver = new MemberDriver({
      core,
      runner: this.#awake === null ? runner : toldOf(runner, this.#awake),
      forget: (lease) => runner.forget(lease),
      fetch: options.fetch,
      roster: options.takeRoster,
      tails: this.tails,
      keepCheckpoint: (checkpoint) => this.#keepCheckpoint(checkpoint),
      renamed: (name) => {
        machine.logger.warn(`the mesh knows this machine as ${name}, no longer as ${options.me.name}`);
        options.me.name = name;
        machine.configure({ name }).catch((cause: unknown) => {
          machine.logger.warn({ cause: String(cause) }, 'the new name could not be kept');
        });
      },
      refused: options.refused,
      ...(options.conflict === undefined ? {} : { conflict: options.conflict }),
      handedOver: (handovers, addresses) => options.handedOver?.(handovers, addresses),
      replicas: (replicas) => options.replicas?.(replicas),
      meshPaused: (paused) => this.#onMeshPaused(paused),
      meshPolicy: (next) => this.#onMeshPolicy(next),
      lenders: (lenders: Lender[]) => models.learn(lenders),
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      warn: (message, cause) => machine.logger.warn({ cause: String(cause) }, message),
    });
    this.#measuring = setInterval(() => void this.#measure(), MEASURE_MS);
    this.#planResume();
    // Where nothing can run there is nothing to keep from running.
    if (machine.report.works) policy.begin((verdict) => this.#onPolicy(verdict));
  }

  static async start(options: MemberServiceOptions): Promise<MemberService> {
    const { machine, mesh, me, ownsBlobs, clock = wakefulClock() } = options;
    const pause = await OwnerPause.load(join(machine.folder.paths.root, 'owner.json'));
    const meshPolicy = await MeshPolicy.load(join(machine.folder.paths.root, 'mesh-policy.json'), mesh);
    const policy = new PolicyWatch({ ...options.policy, mesh: meshPolicy.policy });
    const models = new MemberModels({ machine, me, listens: () => options.listens?.() ?? [] });
    let runtime: Promise<SandboxRuntime> | null = null;
    const goals: WorkerOptions = {
      brains: async () => [
        ...(await models.brains()),
        ...machine.config.cloud.map((config) => new CloudBrain(config)),
      ],
      agents: () => machine.config.agents,
      runtime: () => {
        runtime ??= SandboxRuntime.open(join(machine.folder.paths.root, 'runtime'));
        return runtime;
      },
      mcp: () => machine.config.mcp,
      hosts: () => allowedHosts(machine.config.environment),
      speeds: models.speeds,
      prompts: new Prompts(join(machine.folder.paths.root, 'prompts')),
    };
    const environments = await openEnvironments(machine, options.fromFounder);
    let service: MemberService | null = null;
    const slots = (): number => service?.slots ?? 1;
    const runner = await openRunner(machine, mesh, me, ownsBlobs, goals, environments, slots);
    const capacity = await machine.measure(await offerOf(options, pause, policy, models));
    const core = new MemberCore(
      {
        mesh,
        capacity,
        ready: await runner.restoreResults(),
        ownerPaused: pause.paused,
        bar: machine.report.works ? policy.verdict.told : null,
        evictMs: parseDuration(machine.config.evictAfter),
        checkpoint: await readTextOrNull(machine.folder.paths.checkpoint),
        rosterVersion: options.rosterVersion,
        epoch: options.epoch ?? 1,
        name: me.name,
        instance: thisInstance(machine.folder.paths.root),
        ...(options.weigh === undefined ? {} : { weigh: options.weigh }),
      },
      clock(),
    );
    const parts = { runner, core, pause, policy, meshPolicy, models, environments };
    service = new MemberService({ ...options, clock }, parts, capacity);
    return service;
  }

  /** Lends the models of this machine to members, as long as its owner lets it work, and asks theirs. */
  async openModels(registry: Registry): Promise<void> {
    await this.models.open(registry, () => !this.#stopped && !this.#meshPaused);
  }

  get online(): boolean {
    return this.#core.online;
  }

  /** Tasks can run here, whether or not they may now. */
  get able(): boolean {
    return this.#options.machine.report.works;
  }

  /** Attempts that may run here at a time. */
  get slots(): number {
    return this.#capacity.slots;
  }

  get paused(): boolean {
    return this.#pause.paused;
  }

  /** The newest checkpoint of the log this machine saw. */
  get checkpoint(): string | null {
    return this.#core.checkpoint;
  }

  status(): NodeObject {
    const { me, roles, owner } = this.#options;
    const { slots, models, tools, labels, limits } = this.#capacity;
    const state: NodeState = this.#stopped ? 'paused' : this.#core.online ? 'online' : 'offline';
    return {
      id: me.id,
      name: me.name,
      owner,
      roles,
      state,
      code: null,
      slots: { used: this.#core.busy, total: slots },
      models,
      tools,
      labels,
      limits,
      policy: this.#policy.inForce.policy,
      work: this.#work(),
      lag: this.#options.lag?.() ?? null,
    };
  }

  /** What the owner has set of the machine itself, and how it is kept. */
  get settings(): { name: string; says: string }[] {
    const { settings } = this.#options.machine;
    return this.#awake === null ? settings : [...settings, { name: 'sleep', says: this.#awake.says }];
  }

  /** What the owner reads and writes of when it works. */
  readonly owner = {
    show: async (test?: string | null): Promise<PolicyObject> => {
      // Of signs that nobody asked for so far one look says little.
      const { said } = this.#policy;
      const owner = test === undefined ? said.owner : test;
      this.#policy.examine(owner);
      await delay(LOOK_AGAIN_MS);
      const { verdict, conditions, signals, policy, from } = this.#policy.examine(owner);
      const endsInMs = this.#pause.endsInMs;
      return {
        policy,
        from,
        owner,
        invite: said.invite,
        mesh: said.mesh,
        holds: verdict.holds,
        why: verdict.why,
        conditions: conditions.map(({ condition, mesh, verdict: { holds, why } }) => ({
          condition,
          holds,
          why,
          mesh,
        })),
        signals,
        paused: this.#pause.paused,
        pausedUntil: endsInMs === null ? null : Date.now() + endsInMs,
        evictMs: parseDuration(this.#options.machine.config.evictAfter),
      };
    },
    set: async (policy: string | null): Promise<PolicyObject> => {
      // In force first, kept second: a full disk is no reason to work where the owner does not want it.
      this.#policy.setOwner(policy);
      await this.#measure();
      await this.#options.machine.configure({ policy });
      return this.owner.show();
    },
  };

  /** By its owner, or by when it works. */
  get #stopped(): boolean {
    return this.#pause.paused || (this.able && !this.#policy.verdict.holds);
  }

  #work(): string {
    const { report } = this.#options.machine;
    return workOf({
      roles: this.#options.roles,
      lack: report.works ? null : (report.lacks[0]?.what ?? 'there is no working sandbox'),
      pause: this.#pause.paused ? { endsInMs: this.#pause.endsInMs } : null,
      policy: this.#policy.inForce,
      verdict: this.#policy.verdict,
      slots: this.#capacity.slots,
      suspended: this.#core.attempts.filter(({ suspended }) => suspended).length,
    });
  }

  #onPolicy({ holds, why, told, brief = false }: Verdict): void {
    this.driver.policy(told, brief);
    // When its hours end is told anew with each beginning.
    if (holds) void this.#measure();
    if (holds) this.models.measureSpeeds();
    else void this.#letGo();
    const { policy } = this.#policy.inForce;
    this.#options.machine.logger.info(
      { policy },
      `${holds ? 'takes tasks again' : 'takes no tasks now'}: ${why}`,
    );
  }

  /** In force first, kept second, as the owner's own. */
  #onMeshPolicy(policy: string | null): void {
    if (policy === this.#policy.said.mesh) return;
    this.#policy.setMesh(policy);
    void this.#measure();
    this.#meshPolicy.keep(policy).catch((cause: unknown) => {
      this.#warn('the mesh’s policy could not be kept for the next start', cause);
    });
  }

  /** The operator's kill switch ends what is lent to others, too (promise 15). */
  #onMeshPaused(paused: boolean): void {
    this.#meshPaused = paused;
    if (paused) void this.#letGo();
    else this.models.measureSpeeds();
  }

  /** The owner's stop: resolves when nothing of a task runs on this machine any more (promise 15). */
  async pause(ms: number | null): Promise<void> {
    this.models.drop();
    await this.driver.owner('pause');
    // Stopped first, written second: a full disk is no reason to keep the owner waiting.
    await this.#pause.pause(ms);
    await this.#letGo();
    this.#planResume();
    await this.#measure();
  }

  /** The machine is its owner's: nobody is given an answer, and the memory of models and of idle workers is free. */
  async #letGo(): Promise<void> {
    this.models.drop();
    void this.models.used.letGo();
    await this.#runner.letGo();
  }

  async resume(): Promise<void> {
    await this.#pause.resume();
    this.#planResume();
    await this.driver.owner('resume');
    this.models.measureSpeeds();
    await this.#measure();
  }

  async stop(): Promise<void> {
    const modelsClosed = this.models.close();
    clearInterval(this.#measuring);
    this.#policy.close();
    if (this.#resuming !== null) clearTimeout(this.#resuming);
    await this.driver.stop();
    await this.#awake?.close();
    await this.#runner.close();
    await modelsClosed;
    await this.#kept.catch(() => {});
  }

  #planResume(): void {
    if (this.#resuming !== null) clearTimeout(this.#resuming);
    const ms = this.#pause.endsInMs;
    // Timers of more than 24.8 days fire at once: look again then.
    this.#resuming = ms === null ? null : setTimeout(() => this.#resumeIfDue(), Math.min(ms, 2 ** 31 - 1));
  }

  #resumeIfDue(): void {
    if ((this.#pause.endsInMs ?? 1) > 0) this.#planResume();
    else this.resume().catch((cause: unknown) => this.#warn('the pause could not be ended', cause));
  }

  async #measure(): Promise<void> {
    const { machine } = this.#options;
    try {
      const offer = await offerOf(this.#options, this.#pause, this.#policy, this.models);
      this.#capacity = await machine.measure(offer);
      this.driver.capacity(this.#capacity);
    } catch (cause) {
      this.#warn('what this machine offers could not be measured', cause);
    }
  }

  /** One write at a time; of those that wait only the newest counts. */
  #keepCheckpoint(checkpoint: string): void {
    this.#newest = checkpoint;
    if (this.#keeping) return;
    this.#keeping = true;
    this.#kept = this.#keep().finally(() => {
      this.#keeping = false;
    });
  }

  #newest: string | null = null;
  #keeping = false;

  async #keep(): Promise<void> {
    try {
      for (let next = this.#newest; next !== null; next = this.#newest) {
        this.#newest = null;
        await writeFileAtomic(this.#options.machine.folder.paths.checkpoint, next);
      }
    } catch (cause) {
      this.#warn('the newest checkpoint could not be kept', cause);
    }
  }

  #warn(message: string, cause: unknown): void {
    this.#options.machine.logger.warn({ cause: String(cause) }, message);
  }
}

async function offerOf(
  { slots, labels, machine }: MemberServiceOptions,
  pause: OwnerPause,
  policy: PolicyWatch,
  models: MemberModels,
): Promise<Parameters<Machine['measure']>[0]> {
  const lent = await models.servers.offer();
  return {
    slots,
    labels,
    ownerPaused: pause.paused,
    seat: policy.seat,
    lent: lent.models,
    brains: [
      ...lent.brains,
      ...machine.config.agents.map(({ name }) => name),
      ...(machine.config.cloud.length === 0 ? [] : [CLOUD_BRAIN]),
    ],
    policy: policy.inForce.policy,
    worksUntil: policy.worksUntil,
    lends: (names) => models.lends(names),
  };
}
