import { defaultConfig } from '../../hub/core/config.ts';
import { FounderCore, founderAdmitted } from '../../hub/core/founder.ts';
import { EffectGate } from '../../hub/core/gate.ts';
import type { FounderEffect, FounderInput, HeldEffect } from '../../hub/core/types.ts';
import type { Entry, KnownEntry } from '../../ledger/lines/entry.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { defaultBounds } from '../../ledger/state/reducer.ts';
import { initialState, replay } from '../../ledger/state/state.ts';
import { MemberCore } from '../../node/core/member.ts';
import type { Clock, MemberEffect, MemberInput } from '../../node/core/types.ts';
import { type Assignment, type Lease, leaseKey } from '../../protocol/session.ts';
import { taskSpec } from '../../protocol/task.ts';
import { CAPACITY, LOCAL, MESH, peerOf } from '../hub/core/fleet.ts';
import { scriptOf } from './executor.ts';
import { LogChecker } from './invariants.ts';
import { Random } from './random.ts';
import { BUNDLE } from './scenario.ts';
import { Schedule } from './schedule.ts';
import { standInChecks, standInDigest } from './signer.ts';
import { StepChecker } from './step-checker.ts';

export interface ScaleOptions {
  members: number;
  tasks: number;
  /** Real ms after which it gives up. */
  limitMs: number;
  told(line: string): void;
}

export interface ScaleReport {
  members: number;
  tasks: number;
  delivered: number;
  verified: number;
  entries: number;
  seconds: number;
  tasksPerSecond: number;
  /** Time of processors, user and system, a task, ms. */
  processorMs: number;
  virtualSeconds: number;
  /** Highest resident memory seen, MiB. */
  memoryMiB: number;
  /** Steps of the founder's core by kind of input: how many, and their mean in µs. */
  steps: Record<string, { count: number; meanUs: number }>;
}

type Collect = Extract<FounderEffect, { type: 'collect' }>;

interface Node {
  peer: string;
  core: MemberCore;
  session: number | null;
  running: Map<string, Assignment>;
}

const slots = 2;
const latencyMs = 1;
const syncMs = 2;
/** Open tasks beyond those that run. */
const backlogMax = 20_000;
/** Of ten tasks so many are verified by another machine. */
const verifiedOfTen = 1;
const NO_MISHAPS = {
  task: 0,
  check: 0,
  environment: 0,
  hang: 0,
  verifierRed: 0,
  verifierEnvironment: 0,
  checksChanged: 0,
  signal: 0,
  flaky: 0,
};

/**
 * Many members and many tasks on one virtual clock, with the checkers of the log and of each step. Nothing goes wrong but that
 * each second one connection is lost and comes back: what is measured is the work of the cores.
 */
export class Scale {
  readonly #options: ScaleOptions;
  readonly #schedule = new Schedule();
  readonly #random = new Random('scale');
  readonly #nodes = new Map<string, Node>();
  readonly #honest = new Map<string, string>();
  /** What was signed for each open task. */
  readonly #signed = new Map<string, string[]>();
  readonly #log = new LogChecker(this.#honest);
  readonly #steps: StepChecker;
  readonly #gate = new EffectGate<HeldEffect>(-1);
  readonly #core: FounderCore;
  readonly #spent = new Map<string, { count: number; ms: number }>();
  /** Decided and not synced yet. */
  #written: Entry[] = [];
  #size = 0;
  #syncing = false;
  #session = 0;
  #request = 0;
  #submitted = 0;
  #ended = 0;
  #delivered = 0;
  #verified = 0;
  #memory = 0;

  constructor(options: ScaleOptions) {
    this.#options = options;
    const room = 2 * slots * options.members;
    const config = { ...defaultConfig, ringSlots: room, elasticSlots: room };
    this.#steps = new StepChecker(config, defaultBounds.endedTasks);
    const entries = this.#enrolled();
    for (const entry of entries) this.#log.take(entry);
    this.#size = entries.length;
    this.#gate.durable(this.#size - 1);
    const state = replay(entries, initialState(defaultBounds));
    this.#core = new FounderCore({ mesh: MESH, state, checks: standInChecks, config }, this.#clock());
  }

  run(): ScaleReport {
    const { tasks, limitMs, told } = this.#options;
    const began = Date.now();
    let toldAt = began;
    this.#founderTicks();
    for (const node of this.#nodes.values()) this.#begin(node);
    this.#schedule.after(100, () => this.#submitMore());
    this.#schedule.after(5_000, () => this.#disturb());
    for (let events = 0; this.#ended < tasks && this.#schedule.step(); events += 1) {
      if (events % 4096 !== 0) continue;
      const now = Date.now();
      if (now - toldAt < 10_000) continue;
      toldAt = now;
      this.#look();
      const rate = Math.round((1000 * this.#ended) / (now - began));
      told(`${this.#ended} of ${tasks} tasks, ${rate} a second, ${this.#memory} MiB`);
      if (now - began > limitMs) throw new Error(`${this.#ended} of ${tasks} tasks in ${limitMs} ms`);
    }
    this.#look();
    return this.#report(Date.now() - began);
  }

  #clock = (): Clock => ({
    now: this.#schedule.now + 1_000,
    time: 1_700_000_000_000 + Math.floor(this.#schedule.now),
    random: this.#random.bytes,
  });

  #enrolled(): Entry[] {
    const founder = peerOf('founder');
    const key = (byte: number): string => Buffer.alloc(32, byte).toString('base64');
    const keys = { logKey: key(1), recoveryKey: key(2) };
    const admitted = { owner: 'olga', roles: ['operator' as const], labels: {} };
    const events: LogEvent[] = [
      {
        type: 'mesh.created',
        body: { format: 1, name: 'scale', founder, ...keys, parent: null, nonce: '0'.repeat(32) },
      },
      founderAdmitted({ peer: founder, name: 'founder', ...admitted }),
    ];
    for (let number = 0; number < this.#options.members; number += 1) {
      const peer = peerOf(`m${number}`);
      const restored = {
        mesh: MESH,
        capacity: { ...CAPACITY, slots },
        ready: [],
        ownerPaused: false,
        checkpoint: null,
        rosterVersion: 0,
      };
      const core = new MemberCore(restored, this.#clock());
      this.#nodes.set(peer, { peer, core, session: null, running: new Map() });
      events.push({
        type: 'member.admitted',
        body: {
          peer,
          name: `m${number}`,
          owner: `owner${number % 100}`,
          roles: ['worker'],
          labels: {},
          via: { kind: 'approval', code: 'scale' },
          by: { kind: 'founder' },
        },
      });
    }
    return events.map((event, index) => ({ index, epoch: 1, time: 1_700_000_000_000, ...event }));
  }

  // ── the founder ───────────────────────────────────────────────────────────────────────────────────────────
  #step(input: FounderInput): void {
    const began = performance.now();
    const effects = this.#core.step(input, this.#clock());
    const ms = performance.now() - began;
    const kind = input.type === 'received' ? input.message.type : input.type;
    const spent = this.#spent.get(kind) ?? { count: 0, ms: 0 };
    spent.count += 1;
    spent.ms += ms;
    this.#spent.set(kind, spent);
    const outward: HeldEffect[] = [];
    const events: LogEvent[] = [];
    for (const effect of effects) {
      if (effect.type !== 'append') {
        if (effect.type === 'collect') this.#collect(effect);
        else outward.push(effect);
        continue;
      }
      for (const { entry, line } of effect.made) {
        // As a reader of the log gets it.
        this.#written.push(JSON.parse(line) as Entry);
        this.#size += 1;
        events.push(entry as KnownEntry);
      }
    }
    this.#steps.check(this.#core, events, 'peer' in input ? input.peer : null, this.#schedule.now);
    this.#gate.hold(outward);
    this.#release();
    if (this.#written.length > 0 && !this.#syncing) this.#sync();
  }

  #sync(): void {
    this.#syncing = true;
    const batch = this.#written;
    this.#written = [];
    this.#schedule.after(syncMs, () => {
      this.#syncing = false;
      for (const entry of batch) this.#synced(entry);
      const index = this.#log.size - 1;
      this.#gate.durable(index);
      this.#step({ type: 'durable', index, checkpoint: null, root: 'root' });
      this.#release();
    });
  }

  #synced(entry: Entry): void {
    this.#log.take(entry);
    if (entry.type !== 'task.converged') return;
    const body = entry.body as { task: string; state: string; verified: boolean };
    this.#ended += 1;
    for (const digest of this.#signed.get(body.task) ?? []) this.#honest.delete(digest);
    this.#signed.delete(body.task);
    if (body.state === 'delivered') this.#delivered += 1;
    if (body.verified) this.#verified += 1;
    if (this.#ended % 256 === 0) this.#submitMore();
  }

  #release(): void {
    for (const effect of this.#gate.release()) {
      if (effect.type === 'send') {
        const node = this.#nodes.get(effect.peer)!;
        const { session, message } = effect;
        this.#schedule.after(latencyMs, () => this.#tell(node, { type: 'received', session, message }));
      } else if (effect.type === 'answer' && effect.error !== null) throw new Error(effect.error.message);
    }
  }

  #collect({ peer, lease }: Collect): void {
    const envelopeBlob = 'e'.repeat(64);
    this.#schedule.after(latencyMs, () =>
      this.#step({ type: 'collected', peer, lease, envelopeBlob, failure: null }),
    );
  }

  #founderTicks(): void {
    this.#schedule.after(250, () => {
      this.#step({ type: 'tick' });
      this.#founderTicks();
    });
  }

  #submitMore(): void {
    const room = this.#options.members * slots + backlogMax;
    while (this.#submitted < this.#options.tasks && this.#submitted - this.#ended < room) {
      this.#submitted += 1;
      this.#request += 1;
      const checked = this.#submitted % 10 < verifiedOfTen;
      const operation = { op: 'task.submit' as const, ...(checked ? CHECKED : PLAIN), correlation: null };
      this.#step({ type: 'request', request: this.#request, by: LOCAL, operation });
    }
  }

  // ── the members ───────────────────────────────────────────────────────────────────────────────────────────
  #begin(node: Node): void {
    this.#schedule.after(this.#random.between(0, 1_000), () => {
      this.#connect(node);
      this.#ticks(node);
    });
  }

  #connect(node: Node): void {
    this.#session += 1;
    node.session = this.#session;
    this.#tell(node, { type: 'connected', session: this.#session });
  }

  #ticks(node: Node): void {
    this.#schedule.after(1_000, () => {
      this.#tell(node, { type: 'tick' });
      this.#ticks(node);
    });
  }

  /** A connection is lost on both sides, and made anew. */
  #disturb(): void {
    const node = this.#random.pick([...this.#nodes.values()]);
    const { peer, session } = node;
    if (session !== null) {
      node.session = null;
      this.#tell(node, { type: 'disconnected', session });
      this.#step({ type: 'disconnected', peer, session });
      this.#schedule.after(500, () => this.#connect(node));
    }
    this.#schedule.after(1_000, () => this.#disturb());
  }

  #tell(node: Node, input: MemberInput): void {
    for (const effect of node.core.step(input, this.#clock())) this.#perform(node, effect);
  }

  #perform(node: Node, effect: MemberEffect): void {
    const { peer } = node;
    if (effect.type === 'send') {
      const { message, session } = effect;
      this.#schedule.after(latencyMs, () => {
        if (session !== node.session) return;
        if (message.type === 'hello') this.#step({ type: 'connected', peer, session, hello: message });
        else this.#step({ type: 'received', peer, session, message });
      });
    } else if (effect.type === 'start') this.#execute(node, effect.assignment);
    else if (effect.type === 'stop') this.#stop(node, effect.lease);
  }

  #execute(node: Node, assignment: Assignment): void {
    const key = leaseKey(assignment);
    const { task, attempt, epoch } = assignment;
    node.running.set(key, assignment);
    const script = scriptOf(MESH, 'scale', { peer: node.peer, forger: false }, assignment, NO_MISHAPS);
    this.#schedule.after(1, () => this.#tell(node, { type: 'started', lease: { task, attempt, epoch } }));
    this.#schedule.after(this.#random.between(200, 4_000), () => {
      if (!node.running.delete(key)) return;
      const result = script.result();
      const digest = standInDigest(result.envelope!);
      this.#honest.set(digest, `${key} by ${node.peer}`);
      this.#signed.set(task, [...(this.#signed.get(task) ?? []), digest]);
      this.#tell(node, { type: 'finished', result });
    });
  }

  #stop(node: Node, lease: Lease): void {
    node.running.delete(leaseKey(lease));
    this.#schedule.after(1, () => this.#tell(node, { type: 'gone', lease }));
  }

  // ── what came of it ───────────────────────────────────────────────────────────────────────────────────────
  #look(): void {
    this.#memory = Math.max(this.#memory, Math.round(process.memoryUsage().rss / 2 ** 20));
  }

  #report(ms: number): ScaleReport {
    const kinds = [...this.#spent].sort(([, one], [, other]) => other.ms - one.ms);
    const mean = ({ count, ms: all }: { count: number; ms: number }): number =>
      Math.round((10_000 * all) / count) / 10;
    const { user, system } = process.cpuUsage();
    return {
      members: this.#options.members,
      tasks: this.#options.tasks,
      delivered: this.#delivered,
      verified: this.#verified,
      entries: this.#size,
      seconds: Math.round(ms / 100) / 10,
      tasksPerSecond: Math.round((1000 * this.#ended) / ms),
      processorMs: Math.round((user + system) / this.#ended) / 1000,
      virtualSeconds: Math.round(this.#schedule.now / 1000),
      memoryMiB: this.#memory,
      steps: Object.fromEntries(
        kinds.map(([kind, spent]) => [kind, { count: spent.count, meanUs: mean(spent) }]),
      ),
    };
  }
}

const PLAIN = { spec: taskSpec.parse({ kind: 'command', argv: ['true'] }), bundle: null };
const CHECKED = {
  spec: taskSpec.parse({
    kind: 'command',
    argv: ['true'],
    checks: ['true'],
    repository: { id: 'a'.repeat(40), name: 'app', ref: 'HEAD', base: BUNDLE.commit },
  }),
  bundle: BUNDLE,
};
