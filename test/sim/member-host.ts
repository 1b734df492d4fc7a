import { MemberCore } from '../../node/core/member.ts';
import type { MemberEffect, MemberInput } from '../../node/core/types.ts';
import {
  type Assignment,
  type AttemptResult,
  type Capacity,
  type FounderMessage,
  type Lease,
  leaseKey,
  type MemberMessage,
} from '../../protocol/session.ts';
import type { Script } from './executor.ts';
import type { Machine } from './machine.ts';
import { Running } from './running.ts';
import { Violation } from './violation.ts';

/** What a member's driver needs of the world. */
export interface MemberWorld {
  mesh: string;
  /** Opens a session if the founder can be reached; says so later by `connected`. */
  dial(member: MemberHost): void;
  send(member: MemberHost, session: number, message: MemberMessage): void;
  close(member: MemberHost, session: number): void;
  script(member: MemberHost, assignment: Assignment): Script;
  started(member: MemberHost, assignment: Assignment): void;
  ticked(member: MemberHost): void;
  /** What it does with a checkpoint that it is shown. @default the larger is kept */
  weigh?(member: MemberHost, held: string | null, shown: string): 'keep' | 'pass' | 'conflict';
  /** The mesh's epoch, as its folder says. @default 1 */
  epoch?(member: MemberHost): number;
  /** It was shown two histories. @default that is a fault of the world */
  conflict?(member: MemberHost, checkpoints: [string, string]): void;
  /** The founder said who leads the mesh from here on. */
  handedOver?(member: MemberHost, handovers: string[]): void;
  trace(text: string): void;
}

/** Attempts that ended without the founder's knowledge, and slots. */
const heldMax = 256 + 64;

/** A disk without room keeps no result: the attempt failed by its machine, and nothing is signed. */
const unstored = (result: AttemptResult): AttemptResult => ({
  ...result,
  outcome: 'failed',
  reason: 'environment',
  fault: 'machine',
  detail: 'the disk is full',
  exitCode: null,
  commit: null,
  bundle: null,
  log: null,
  artifacts: [],
  envelope: null,
});

/** How long what is suspended is kept before it is ended, and by how much later that may be seen. */
const evictMs = 6_000;
const evictSlackMs = 1_000;

/** A member's process: its core, an executor that follows a script, and a disk that outlives it. */
export class MemberHost {
  readonly peer: string;
  readonly machine: Machine;
  readonly world: MemberWorld;
  readonly capacity: Capacity;
  /** Signs what is false. */
  forger: boolean;
  /** Lives and dies with the founder's process, and reaches it without a network. */
  readonly inProcess: boolean;
  readonly disk = {
    ready: new Map<string, AttemptResult>(),
    ownerPaused: false,
    /** What the owner's policy bars work by; null: nothing. */
    bar: null as string | null,
    /** That is for a moment: what runs is suspended, and not ended at once. */
    brief: false,
    checkpoint: null as string | null,
  };
  core: MemberCore | null = null;
  running = new Map<string, Running>();
  session: number | null = null;
  refused = false;
  /** It says what is not so (its capacity, leases of others): what it says of itself proves nothing. */
  liar = false;
  /** What it says that it offers, in place of what it does. */
  boast: Capacity | null = null;
  diskIsFull = false;
  /** How often its owner sat down while something ran, and attempts that came to their end by that. */
  readonly owned = { suspended: 0, evicted: 0 };
  /** The founder has told this process that the mesh is paused. */
  #toldPaused = false;
  /** What its disk held at a time before. */
  #olds: Map<string, AttemptResult>[] = [];
  /** By this machine's monotonic clock: when a word of the founder was last taken in. */
  heardAt = 0;
  #dialing = false;
  #boots = 0;

  constructor(
    peer: string,
    machine: Machine,
    world: MemberWorld,
    options: { capacity: Capacity; forger: boolean; inProcess: boolean },
  ) {
    this.peer = peer;
    this.machine = machine;
    this.world = world;
    this.capacity = options.capacity;
    this.forger = options.forger;
    this.inProcess = options.inProcess;
  }

  boot(): void {
    this.machine.start();
    this.running = new Map();
    this.session = null;
    this.#dialing = false;
    this.#boots += 1;
    this.#toldPaused = false;
    this.heardAt = this.machine.mono;
    const { weigh } = this.world;
    const restored = {
      mesh: this.world.mesh,
      capacity: this.capacity,
      ready: [...this.disk.ready.values()],
      ownerPaused: this.disk.ownerPaused,
      bar: this.disk.bar,
      evictMs,
      checkpoint: this.disk.checkpoint,
      rosterVersion: 0,
      epoch: this.world.epoch?.(this) ?? 1,
      // Another process at each boot, in the same place: never taken for a second machine.
      ...(weigh === undefined
        ? {}
        : { weigh: (held: string | null, shown: string) => weigh.call(this.world, this, held, shown) }),
      instance: { process: `${this.#boots}`.padStart(32, '0'), place: '0'.repeat(64), host: 'host' },
    };
    this.core = new MemberCore(restored, this.machine.clock());
    this.#redial();
    this.#tick();
  }

  /** Tasks die with it (`--die-with-parent`); its disk stays. */
  crash(): void {
    this.core = null;
    this.running = new Map();
    this.session = null;
    this.machine.kill();
  }

  connected(session: number): void {
    this.#dialing = false;
    this.session = session;
    this.step({ type: 'connected', session });
  }

  dialFailed(): void {
    this.#dialing = false;
    this.#redial();
  }

  received(session: number, message: FounderMessage): void {
    const own = session === this.session;
    if (own) this.heardAt = this.machine.mono;
    this.step({ type: 'received', session, message });
    if (!own || this.core?.online !== true) return;
    if (message.type === 'welcome') {
      this.#toldPaused = message.paused;
      const known = this.world.epoch?.(this) ?? 1;
      if (message.epoch < known)
        throw new Violation(
          '8 epochs',
          `${this.machine.name} obeys epoch ${message.epoch} and knows of ${known}`,
        );
    }
    if (message.type === 'pause') this.#toldPaused = true;
    if (message.type === 'resume') this.#toldPaused = false;
    this.#check();
  }

  /** It comes back with the disk that it had some time ago: results that were settled since are there again. */
  restoreOld(): void {
    const old = this.#olds.shift();
    if (old !== undefined) this.disk.ready = new Map(old);
  }

  /** It may be admitted again. */
  forgive(): void {
    this.refused = false;
  }

  /** `brief`: what runs is suspended, and ended only after a grace. */
  policy(bar: string | null, brief = false): void {
    this.machine.deliver(() => {
      this.disk.bar = bar;
      this.disk.brief = brief;
      this.step({ type: 'policy', bar, brief });
    });
  }

  /** What it offers has changed: says so, truly or not. */
  offer(boast: Capacity | null): void {
    this.boast = boast;
    this.machine.deliver(() => this.step({ type: 'capacity', capacity: this.capacity }));
  }

  closed(session: number): void {
    if (session !== this.session) return;
    this.session = null;
    this.step({ type: 'disconnected', session });
    this.#redial();
  }

  /** It wants nothing more of this founder. */
  hangUp(): void {
    const { session } = this;
    if (session === null) return;
    this.world.close(this, session);
    this.closed(session);
  }

  owner(act: 'pause' | 'resume'): void {
    this.machine.deliver(() => {
      this.disk.ownerPaused = act === 'pause';
      this.step({ type: 'owner', act });
    });
  }

  step(input: MemberInput): void {
    if (this.core === null) return;
    for (const effect of this.core.step(input, this.machine.clock())) this.#perform(effect);
    this.#check();
  }

  /** After every step: whoever was told to stop has stopped (promise 15), and what it holds is bounded (promise 18). */
  #check(): void {
    const { ownerPaused, bar, brief } = this.disk;
    const ended = ownerPaused || (bar !== null && !brief);
    const stop = ended ? 'its owner' : this.#toldPaused ? 'the operator' : null;
    if (stop !== null) {
      for (const [key, { stopping }] of this.running)
        if (!stopping)
          throw new Violation('15 stops', `${this.machine.name} runs ${key} against the stop of ${stop}`);
    }
    for (const [key, run] of this.running) if (!run.stopping) this.#checkOwner(key, run);
    const held = this.core?.attempts.length ?? 0;
    if (held > heldMax + this.disk.ready.size)
      throw new Violation('18 bounds', `${this.machine.name} holds ${held} attempts`);
  }

  /** While its owner is there an attempt makes no progress, and is ended after the grace; when the owner goes, it goes on. */
  #checkOwner(key: string, { suspendedAt, assignment }: Running): void {
    const { name, mono, schedule, disturbedAt } = this.machine;
    const fail = (why: string): never => {
      throw new Violation('owners', `${name} ${why}`);
    };
    if (suspendedAt === null) {
      if (this.disk.bar !== null) fail(`works on ${key} while its owner is there`);
      return;
    }
    if (this.disk.bar === null) fail(`keeps ${key} suspended, and its owner has gone`);
    if (assignment.role === 'execute' && assignment.spec.kind === 'code')
      fail(`keeps ${key} suspended, whose model goes on`);
    const awake = schedule.now - disturbedAt > evictSlackMs;
    if (awake && mono - suspendedAt > evictMs + evictSlackMs) fail(`has kept ${key} suspended for too long`);
  }

  #perform(effect: MemberEffect): void {
    switch (effect.type) {
      case 'send':
        this.world.send(this, effect.session, this.#said(effect.message));
        break;
      case 'start':
        this.#run(effect.assignment);
        break;
      case 'stop':
        this.#stop(effect.lease, effect.why);
        break;
      case 'forget':
        this.disk.ready.delete(leaseKey(effect.lease));
        break;
      case 'close':
        this.world.close(this, effect.session);
        if (this.session === effect.session) {
          this.session = null;
          this.#redial();
        }
        break;
      case 'refused':
        this.refused = true;
        break;
      case 'keepCheckpoint':
        this.disk.checkpoint = effect.checkpoint;
        break;
      case 'fetchRoster':
      case 'renamed':
        break;
      case 'conflict':
        if (this.world.conflict === undefined)
          throw new Error(`two histories were signed: ${effect.checkpoints.join(' and ')}`);
        this.world.conflict(this, effect.checkpoints);
        break;
      case 'handedOver':
        this.world.handedOver?.(this, effect.handovers);
        break;
      case 'replicas':
      case 'meshPaused':
      case 'meshPolicy':
      case 'lenders':
        break;
      case 'suspend':
        this.owned.suspended += 1;
        for (const run of this.running.values()) if (!run.stopping) run.suspend();
        break;
      case 'resume':
        for (const run of this.running.values()) if (!run.stopping) run.resume();
        break;
      default:
        effect satisfies never;
    }
  }

  #said(message: MemberMessage): MemberMessage {
    const { boast } = this;
    const offers = message.type === 'hello' || message.type === 'capacity';
    return boast !== null && offers ? { ...message, capacity: { ...message.capacity, ...boast } } : message;
  }

  #run(assignment: Assignment): void {
    const key = leaseKey(assignment);
    if (this.running.has(key))
      throw new Violation('10 one result', `${this.machine.name} starts ${key} twice`);
    if (this.running.size >= this.capacity.slots)
      throw new Violation('18 bounds', `${this.machine.name} runs more than its slots`);
    this.world.started(this, assignment);
    const script = this.world.script(this, assignment);
    const { task, attempt, epoch } = assignment;
    const lease = { task, attempt, epoch };
    const begin = (): void => {
      if (this.running.get(key) === run && script.begins) this.step({ type: 'started', lease });
    };
    const finish = (): void => {
      if (this.running.get(key) === run) this.#finish(key, script);
    };
    const { startMs, runMs } = script;
    const run = new Running(this.machine, assignment, [
      { at: startMs, run: begin },
      { at: startMs + runMs, run: finish },
    ]);
    this.running.set(key, run);
  }

  #finish(key: string, script: Script): void {
    this.running.delete(key);
    const result = this.diskIsFull ? unstored(script.result()) : script.result();
    // On the disk before anybody hears of it.
    this.#olds = [...this.#olds, new Map(this.disk.ready)].slice(-3);
    if (!this.diskIsFull) this.disk.ready.set(key, result);
    this.step({ type: 'finished', result });
  }

  #stop(lease: Lease, why: string): void {
    const key = leaseKey(lease);
    const run = this.running.get(key);
    if (run === undefined) throw new Error(`${this.machine.name} stops ${key}, which does not run`);
    if (run.stopping) throw new Error(`${this.machine.name} stops ${key} twice`);
    run.stopping = true;
    if (run.suspendedAt !== null && why === 'policy') this.owned.evicted += 1;
    this.machine.after(this.machine.random.between(1, 800), () => {
      if (this.running.get(key) !== run) return;
      this.running.delete(key);
      this.step({ type: 'gone', lease });
    });
  }

  #redial(): void {
    if (this.#dialing || this.refused || this.session !== null || !this.machine.alive) return;
    this.#dialing = true;
    this.machine.after(this.inProcess ? 1 : this.machine.random.between(100, 1500), () =>
      this.world.dial(this),
    );
  }

  #tick(): void {
    this.machine.after(250, () => {
      this.step({ type: 'tick' });
      this.world.ticked(this);
      this.#tick();
    });
  }
}
