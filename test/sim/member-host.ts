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

interface Running {
  assignment: Assignment;
  stopping: boolean;
}

/** A member's process: its core, an executor that follows a script, and a disk that outlives it. */
export class MemberHost {
  readonly peer: string;
  readonly machine: Machine;
  readonly world: MemberWorld;
  readonly capacity: Capacity;
  /** Signs what is false. */
  readonly forger: boolean;
  /** Lives and dies with the founder's process, and reaches it without a network. */
  readonly inProcess: boolean;
  readonly disk = {
    ready: new Map<string, AttemptResult>(),
    ownerPaused: false,
    checkpoint: null as string | null,
  };
  core: MemberCore | null = null;
  running = new Map<string, Running>();
  session: number | null = null;
  refused = false;
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
    this.heardAt = this.machine.mono;
    const { weigh } = this.world;
    const restored = {
      mesh: this.world.mesh,
      capacity: this.capacity,
      ready: [...this.disk.ready.values()],
      ownerPaused: this.disk.ownerPaused,
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
    if (session === this.session) this.heardAt = this.machine.mono;
    this.step({ type: 'received', session, message });
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
      const left = [...this.running.values()].filter((one) => !one.stopping);
      if (act === 'pause' && left.length > 0)
        throw new Error(`${this.machine.name} runs on after its owner's stop`);
    });
  }

  step(input: MemberInput): void {
    if (this.core === null) return;
    for (const effect of this.core.step(input, this.machine.clock())) this.#perform(effect);
  }

  #perform(effect: MemberEffect): void {
    switch (effect.type) {
      case 'send':
        this.world.send(this, effect.session, effect.message);
        break;
      case 'start':
        this.#run(effect.assignment);
        break;
      case 'stop':
        this.#stop(effect.lease);
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
      case 'lenders':
        break;
      default:
        effect satisfies never;
    }
  }

  #run(assignment: Assignment): void {
    const key = leaseKey(assignment);
    if (this.running.has(key)) throw new Error(`${this.machine.name} starts ${key} twice`);
    if (this.disk.ownerPaused)
      throw new Error(`${this.machine.name} starts ${key} though its owner paused it`);
    const run: Running = { assignment, stopping: false };
    this.running.set(key, run);
    if (this.running.size > this.capacity.slots)
      throw new Error(`${this.machine.name} runs more than its slots`);
    this.world.started(this, assignment);
    const script = this.world.script(this, assignment);
    const { task, attempt, epoch } = assignment;
    const lease = { task, attempt, epoch };
    this.machine.after(script.startMs, () => {
      if (this.running.get(key) === run && script.begins) this.step({ type: 'started', lease });
    });
    this.machine.after(script.startMs + script.runMs, () => {
      if (this.running.get(key) !== run) return;
      this.running.delete(key);
      const result = script.result();
      // On the disk before anybody hears of it.
      this.disk.ready.set(key, result);
      this.step({ type: 'finished', result });
    });
  }

  #stop(lease: Lease): void {
    const key = leaseKey(lease);
    const run = this.running.get(key);
    if (run === undefined) throw new Error(`${this.machine.name} stops ${key}, which does not run`);
    if (run.stopping) throw new Error(`${this.machine.name} stops ${key} twice`);
    run.stopping = true;
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
