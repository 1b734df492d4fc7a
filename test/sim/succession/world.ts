import { founderAdmitted } from '../../../hub/core/founder.ts';
import type { Operation } from '../../../hub/core/types.ts';
import type { Actor, EventBody } from '../../../ledger/lines/events.ts';
import { Log } from '../../../ledger/log/log.ts';
import { weighCheckpoint } from '../../../ledger/proofs/witness.ts';
import type { Session as NetSession, SessionHandlers } from '../../../node/network/session.ts';
import type { ErrorObject } from '../../../protocol/errors.ts';
import { newSigningKey, publicKeyToBase64, type SigningKey } from '../../../protocol/keys.ts';
import { type FounderMessage, leaseKey, type MemberMessage } from '../../../protocol/session.ts';
import { CAPACITY, peerOf } from '../../hub/core/fleet.ts';
import { scriptOf } from '../executor.ts';
import type { FounderWorld } from '../founder-host.ts';
import { Machine } from '../machine.ts';
import { MemberHost, type MemberWorld } from '../member-host.ts';
import { type Link, Session } from '../network.ts';
import { Random } from '../random.ts';
import { Schedule } from '../schedule.ts';
import { standInChecks } from '../signer.ts';
import type { Plan } from './scenario.ts';
import { Site } from './site.ts';
import type { Ways } from './streams.ts';
import { Watch } from './watch.ts';

const OPERATOR: Actor = { kind: 'local', user: 'olga', claimed: true };

interface OpenSession {
  from: Site;
  to: Site;
  session: Session<MemberMessage, FounderMessage>;
  link: Link;
}

/** Machines that may each lead the mesh, their disks, and the directed ways between them. */
export class SuccessionWorld implements Ways {
  readonly schedule = new Schedule();
  readonly random: Random;
  readonly plan: Plan;
  readonly watch = new Watch(this);
  readonly sites: Site[] = [];
  readonly recoveryKey: SigningKey;
  readonly trace: (text: string) => void;
  genesisLine = '';
  mesh = '';
  /** Members whose disk was set back. */
  readonly rewound = new Set<string>();
  /** An operator opened one epoch twice. */
  parted = false;
  /** Epochs that somebody has opened. */
  readonly opened = new Set<number>();
  /** Tasks whose submission was answered. */
  readonly acknowledged = new Set<string>();
  faulty = true;
  loss = 0;
  readonly #seed: string;
  readonly #wallSeed: string;
  readonly #keys: Random;
  /** Directed ways that are down: `from>to`. */
  readonly #down = new Set<string>();
  readonly #disturbed = new Map<string, number>();
  readonly #sessions = new Map<number, OpenSession>();
  readonly #asks = new Map<number, (result: unknown, error: ErrorObject | null) => void>();
  #request = 0;
  #session = 0;
  #broken: unknown = null;

  private constructor(seed: string, wallSeed: string, plan: Plan, trace: ((text: string) => void) | null) {
    this.#seed = seed;
    this.#wallSeed = wallSeed;
    this.random = new Random(`${seed}/ways`);
    this.#keys = new Random(`${seed}/keys`);
    this.plan = plan;
    this.recoveryKey = this.newKey();
    this.trace = (text) => trace?.(`${(this.schedule.now / 1000).toFixed(3).padStart(9)}  ${text}`);
  }

  static async make(
    seed: string,
    wallSeed: string,
    plan: Plan,
    trace: ((text: string) => void) | null,
  ): Promise<SuccessionWorld> {
    const world = new SuccessionWorld(seed, wallSeed, plan, trace);
    await world.#genesis();
    return world;
  }

  newKey(): SigningKey {
    return newSigningKey(this.#keys.bytes);
  }

  async #genesis(): Promise<void> {
    const key = this.newKey();
    const genesis: EventBody<'mesh.created'> = {
      format: 1,
      name: 'sim',
      founder: peerOf('founder'),
      logKey: publicKeyToBase64(key.publicKey),
      recoveryKey: publicKeyToBase64(this.recoveryKey.publicKey),
      parent: null,
      nonce: '0'.repeat(32),
    };
    const time = 1_600_000_000_000;
    // The same line as `Log.create` writes, before there is a site to hold it.
    this.genesisLine = JSON.stringify({ index: 0, epoch: 1, time, type: 'mesh.created', body: genesis });
    for (const { name, replica } of this.plan.members) this.#add(name, peerOf(name), replica);
    const founder = this.sites[0]!;
    founder.folder.kind = 'hub';
    founder.folder.logKey = key;
    founder.machine.start();
    const { storage } = founder.disk;
    const { sync } = storage.faults;
    delete storage.faults.sync;
    const log = await Log.create({ storage, genesis, key, time });
    this.mesh = log.meshId;
    const admissions = this.plan.members.map(({ name, roles }) =>
      name === 'founder'
        ? founderAdmitted({ peer: peerOf(name), name, owner: 'olga', roles, labels: {} })
        : {
            type: 'member.admitted' as const,
            body: {
              peer: peerOf(name),
              name,
              owner: name,
              roles,
              labels: {},
              via: { kind: 'approval' as const, code: 'sim' },
              by: { kind: 'founder' as const },
            },
          },
    );
    for (const event of admissions) await log.append([event as never], time, 1).durable;
    await log.close();
    storage.faults.sync = sync!;
    founder.disk.syncedBytes = founder.disk.bytes.length;
    founder.machine.kill();
    for (const site of this.sites) {
      site.folder.mark = null;
      site.boot();
    }
  }

  #add(name: string, peer: string, isReplica: boolean): Site {
    const machine = new Machine(name, this.#seed, this.#wallSeed, this.schedule);
    const site = new Site(this, machine, peer, isReplica, {
      kind: 'node',
      handovers: [],
      logKey: null,
      nextKey: this.newKey(),
      proof: null,
      mark: null,
      place: name,
    });
    site.host.peer = peer;
    this.sites.push(site);
    if (this.plan.members.some((one) => one.name === name)) {
      const { slots } = this.plan.members.find((one) => one.name === name)!;
      site.member = new MemberHost(peer, machine, this.#memberWorld(site), {
        capacity: { ...CAPACITY, slots },
        forger: false,
        inProcess: false,
      });
    }
    return site;
  }

  /** A copy of a founder's folder is started on another machine. */
  copyBeside(of: Site): Site {
    const copy = this.#add(`copy${this.sites.length}`, of.peer, true);
    copy.folder.kind = 'hub';
    copy.folder.logKey = of.folder.logKey;
    copy.disk.put(of.disk.bytes.subarray(0, of.disk.syncedBytes));
    this.watch.excused = true;
    this.watch.lossExcused = true;
    copy.boot();
    return copy;
  }

  // ── ways ──────────────────────────────────────────────────────────────────────────────────────────────────
  up = (from: { name: string }, to: { name: string }): boolean => !this.#down.has(`${from.name}>${to.name}`);
  both = (one: { name: string }, other: { name: string }): boolean =>
    this.up(one, other) && this.up(other, one);
  latencyMs = (from: { name: string }, to: { name: string }): number =>
    from.name === to.name ? 0 : this.plan.latencyMs;
  lossy = (): number => this.loss;

  find(peer: string, from: { name: string }): Site | null {
    const there = this.sites.filter(
      (site) => site.peer === peer && site.machine.alive && this.both(from, site),
    );
    return there.length === 0 ? null : this.random.pick(there);
  }

  disturbed(one: { name: string }, other: { name: string }): number {
    return Math.max(
      this.#disturbed.get(`${one.name}>${other.name}`) ?? -1,
      this.#disturbed.get(`${other.name}>${one.name}`) ?? -1,
    );
  }

  setDown(from: Site, to: Site, down: boolean): void {
    const key = `${from.name}>${to.name}`;
    this.#disturbed.set(key, this.schedule.now);
    if (down) this.#down.add(key);
    else this.#down.delete(key);
    for (const one of this.#sessions.values()) {
      const { session } = one;
      if (one.from === from && one.to === to && !down) session.pump('toFounder');
      if (one.from === to && one.to === from && !down) session.pump('toMember');
    }
  }

  get peers(): string[] {
    return [...new Set(this.sites.map(({ peer }) => peer))];
  }

  get replicaPeers(): string[] {
    return [...new Set(this.sites.filter((site) => site.isReplica).map(({ peer }) => peer))];
  }

  nameOf(peer: string): string {
    return this.sites.find((site) => site.peer === peer)?.name ?? peer;
  }

  // ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────
  /** The founder's machine that this member has a session with; null: none. */
  sessionOf(site: Site): Site | null {
    const session = site.member?.session ?? null;
    return session === null ? null : (this.#sessions.get(session)?.to ?? null);
  }

  /** A process ended: its sessions break. */
  closed(site: Site): void {
    for (const { from, to, session } of this.#sessions.values())
      if (from === site || to === site) session.reset();
  }

  #memberWorld(site: Site): MemberWorld {
    const world = this;
    return {
      // The id of the mesh is known once its first entry is written.
      get mesh() {
        return world.mesh;
      },
      dial: () => this.#dial(site),
      send: (_member, id, message) => this.#sessions.get(id)?.session.send('toFounder', message),
      close: (_member, id) => this.#sessions.get(id)?.session.close('member'),
      script: (member, assignment) => scriptOf(this.mesh, this.#seed, member, assignment, this.plan.mishaps),
      started: (_member, assignment) => {
        this.trace(`${site.name} runs ${leaseKey(assignment)}`);
        this.watch.started(site, assignment);
      },
      ticked: () => {},
      weigh: (_member, held, shown) => {
        this.watch.shown(site, held, shown);
        return weighCheckpoint(site.leadership, held, shown);
      },
      epoch: () => site.leadership.epoch,
      conflict: (_member, checkpoints) => site.freeze(checkpoints),
      handedOver: (_member, handovers) => site.takeHandovers(handovers),
      trace: this.trace,
    };
  }

  #dial(site: Site): void {
    const member = site.member!;
    const { life } = site.machine;
    const far = site.folder.proof === null ? this.find(site.leadership.founder, site) : null;
    this.schedule.after(2 * this.plan.latencyMs, () => {
      if (site.machine.life !== life) return;
      const open = far?.machine.alive === true && far.guard !== null && this.both(site, far);
      if (!open || (far === site && far.leader === null)) {
        site.machine.after(500, () => member.dialFailed());
        return;
      }
      this.#session += 1;
      const id = this.#session;
      this.#open(id, site, far);
      site.machine.deliver(() => member.connected(id));
    });
  }

  #open(id: number, from: Site, to: Site): void {
    const world = this;
    const link: Link = {
      latencyMs: this.latencyMs(from, to),
      down: {
        get toFounder() {
          return !world.up(from, to);
        },
        get toMember() {
          return !world.up(to, from);
        },
      },
      disturbedAt: -1,
    };
    let handlers: SessionHandlers<MemberMessage> | null = null;
    const member = from.member!;
    const session = new Session<MemberMessage, FounderMessage>(id, link, this.schedule, this.random, {
      toFounder: {
        machine: to.machine,
        message: (message) => {
          if (message.type === 'hello') {
            handlers = to.guard?.attach(this.#sessionAt(id, from), message) ?? null;
          } else void handlers?.onMessage(message);
        },
        closed: () => handlers?.onClosed({ code: 'SF_UNREACHABLE', message: 'closed', by: 'network' }),
      },
      toMember: {
        machine: from.machine,
        message: (message) => member.received(id, message),
        closed: () => member.closed(id),
      },
    });
    this.#sessions.set(id, { from, to, session, link });
  }

  #sessionAt(id: number, from: Site): NetSession<FounderMessage> {
    const { session } = this.#sessions.get(id)!;
    return {
      id,
      peer: from.peer,
      send: (message) => {
        session.send('toMember', message);
        return true;
      },
      close: () => session.close('founder'),
      closed: new Promise(() => {}),
    };
  }

  founderWorld(site: Site): FounderWorld {
    return {
      mesh: this.mesh,
      checks: standInChecks,
      send: (_peer, id, message) => this.#sessions.get(id)?.session.send('toMember', message),
      close: (_peer, id) => this.#sessions.get(id)?.session.close('founder'),
      fetch: (effect) => {
        const member = this.sites.find((one) => one.peer === effect.peer && one.member !== null);
        const there = member?.machine.alive === true && this.both(site, member);
        return there && member.member!.disk.ready.has(leaseKey(effect.lease)) ? 'ok' : 'gone';
      },
      answered: (request, result, error) => {
        this.#asks.get(request)?.(result, error);
        this.#asks.delete(request);
      },
      released: (effect) => this.watch.released(site, effect.after),
      trace: this.trace,
    };
  }

  /** A person at this founder; not answered where it dies first. */
  ask(
    site: Site,
    operation: Operation,
    answered: (result: unknown, error: ErrorObject | null) => void,
  ): void {
    this.#request += 1;
    this.#asks.set(this.#request, answered);
    site.leader?.request(this.#request, OPERATOR, operation);
  }

  /** The founder that works, of the newest epoch; null: none does. */
  leading(): Site | null {
    const epochs = this.sites.map(({ leadership }) => leadership.epoch);
    const newest = Math.max(...epochs);
    const working = this.sites.filter((site) => site.leader?.core != null && site.leader.log.epoch >= newest);
    return working[0] ?? null;
  }

  // ── time ──────────────────────────────────────────────────────────────────────────────────────────────────
  /** Something in a process went wrong that no process may do. */
  broke(error: unknown): void {
    this.#broken ??= error;
  }

  /** Runs the next event and all that follows from it at once; false: there is none. */
  async step(): Promise<boolean> {
    const ran = this.schedule.step();
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (this.#broken !== null) throw this.#broken;
    return ran;
  }
}
