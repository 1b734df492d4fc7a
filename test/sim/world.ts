import { defaultConfig } from '../../hub/core/config.ts';
import { founderAdmitted } from '../../hub/core/founder.ts';
import type { FounderEffect, Operation } from '../../hub/core/types.ts';
import { canonicalJson } from '../../ledger/canonical-json.ts';
import type { Actor } from '../../ledger/events.ts';
import { defaultBounds, type StateBounds } from '../../ledger/state/reducer.ts';
import { initialState, replay, saveState } from '../../ledger/state/state.ts';
import type { ErrorObject } from '../../protocol/errors.ts';
import {
  type Assignment,
  type AttemptResult,
  type FounderMessage,
  leaseKey,
  type MemberMessage,
  URGENT,
} from '../../protocol/session.ts';
import { CAPACITY, MESH, peerOf } from '../hub/core/fleet.ts';
import { heard } from './eviction.ts';
import { scriptOf } from './executor.ts';
import { FounderHost, type FounderWorld } from './founder-host.ts';
import { LogChecker } from './invariants.ts';
import { LeaseWatch } from './lease-watch.ts';
import { Machine } from './machine.ts';
import { MemberHost } from './member-host.ts';
import { type Direction, type Link, Session } from './network.ts';
import { OldFounder } from './old-founder.ts';
import { Random } from './random.ts';
import type { MemberPlan, Scenario } from './scenario.ts';
import { Schedule } from './schedule.ts';
import { standInChecks, standInDigest } from './signer.ts';
import { StepChecker } from './step-checker.ts';
import { Violation } from './violation.ts';

export const OPERATOR: Actor = { kind: 'local', user: 'olga', claimed: true };

interface Ask {
  operation: Operation;
  answered: (result: unknown, error: ErrorObject | null) => void;
}

/** Machines, the ways between them, and what was promised to those outside. */
export class World {
  readonly schedule = new Schedule();
  readonly random: Random;
  readonly scenario: Scenario;
  readonly founder: FounderHost;
  readonly members = new Map<string, MemberHost>();
  readonly plans = new Map<string, MemberPlan>();
  readonly links = new Map<string, Link>();
  readonly sessions = new Map<number, { peer: string; session: Session<MemberMessage, FounderMessage> }>();
  /** Tasks whose submission was answered. */
  readonly acknowledged = new Set<string>();
  /** Digests of receipts that were truly made → the lease and member they were made for. */
  readonly honest = new Map<string, string>();
  faulty = true;
  /** When the operator was told that the mesh is paused; null: it is not. */
  pausedAt: number | null = null;
  /** How often a resume was asked for. */
  resumes = 0;
  readonly trace: (text: string) => void;
  readonly log: LogChecker;
  readonly #steps: StepChecker;
  readonly #leases: LeaseWatch;
  /** Results that were sent, the newest last: what a liar may say again. */
  readonly said: AttemptResult[] = [];
  /** Members that take the founder of the epoch before for the one that leads. */
  readonly #misled = new Set<string>();
  readonly #oldFounder: OldFounder;
  readonly #asks = new Map<number, Ask>();
  readonly #seed: string;
  readonly #wallSeed: string;
  #request = 0;
  #session = 0;

  constructor(
    seed: string,
    wallSeed: string,
    scenario: Scenario,
    trace: ((text: string) => void) | null,
    bounds: StateBounds = defaultBounds,
  ) {
    this.#seed = seed;
    this.#wallSeed = wallSeed;
    this.random = new Random(`${seed}/world`);
    this.scenario = scenario;
    this.trace = (text) => trace?.(`${(this.schedule.now / 1000).toFixed(3).padStart(9)}  ${text}`);
    const config = { ...defaultConfig, ...scenario.config };
    this.log = new LogChecker(this.honest);
    this.#steps = new StepChecker(config, bounds.endedTasks);
    const founder = this.#machine('founder');
    const host: FounderWorld = {
      mesh: MESH,
      checks: standInChecks,
      send: (peer, id, message) => {
        this.trace(`founder → ${this.nameOf(peer)} ${brief(message)}`);
        this.sessions.get(id)?.session.send('toMember', message, URGENT.has(message.type));
      },
      close: (_peer, id) => this.sessions.get(id)?.session.close('founder'),
      fetch: (effect) => this.#fetch(effect),
      answered: (request, result, error) => {
        this.#asks.get(request)?.answered(result, error);
        this.#asks.delete(request);
      },
      released: (effect) => this.#released(effect),
      synced: (entry) => this.log.take(entry),
      stepped: (core, events, peer) => this.#steps.check(core, events, peer, this.schedule.now),
      trace: this.trace,
    };
    this.founder = new FounderHost(founder, host, bounds, config);
    this.#oldFounder = new OldFounder(this.#machine('old founder'), MESH, scenario.epoch - 1);
    this.#genesis();
    this.founder.boot();
    for (const plan of scenario.members) if (!plan.later) this.join(plan);
    this.#leases = new LeaseWatch(this);
  }

  nameOf(peer: string): string {
    return this.plans.get(peer)?.name ?? peer;
  }

  #machine(name: string): Machine {
    return new Machine(name, this.#seed, this.#wallSeed, this.schedule);
  }

  #genesis(): void {
    const founder = peerOf('founder');
    const key = (byte: number): string => Buffer.alloc(32, byte).toString('base64');
    const keys = { logKey: key(1), recoveryKey: key(2) };
    this.founder.write({
      type: 'mesh.created',
      body: { format: 1, name: 'sim', founder, ...keys, parent: null, nonce: '0'.repeat(32) },
    });
    const plan = this.scenario.members.find((member) => member.inProcess)!;
    const { name, owner, roles } = plan;
    // As `mesh-hub init` writes it: labels are what machines say of themselves here, and the operator gives none.
    const admitted = founderAdmitted({ peer: founder, name, owner, roles, labels: {} });
    // That another led it in the epoch before stands in no log here: what is shown is what a number that is lower is worth.
    this.founder.write(admitted, this.scenario.epoch);
  }

  /** Enrols a machine (its join protocol is not simulated) and starts it. */
  join(plan: MemberPlan): void {
    const peer = peerOf(plan.name);
    if (this.members.has(peer)) return;
    this.plans.set(peer, plan);
    // The founder's own member is in its process: a machine of the same name has the same monotonic clock.
    const host = new MemberHost(peer, this.#machine(plan.name), this.#memberWorld(), {
      capacity: { ...CAPACITY, slots: plan.slots, labels: plan.labels, models: plan.models },
      forger: plan.forger,
      inProcess: plan.inProcess,
    });
    const latencyMs = plan.inProcess ? 0 : this.random.pick([0.3, 2, 40]);
    this.links.set(peer, { latencyMs, down: { toFounder: false, toMember: false }, disturbedAt: -1 });
    this.members.set(peer, host);
    if (plan.inProcess) {
      host.boot();
      return;
    }
    const { name, owner, roles } = plan;
    const via = { kind: 'approval' as const, code: 'sim', roles };
    this.ask({ op: 'member.admit', peer, name, owner, via }, () => {
      if (!host.machine.alive) host.boot();
    });
  }

  /** A machine that left comes back, with its disk. */
  rejoin(host: MemberHost): void {
    const { name, owner, roles } = this.plans.get(host.peer)!;
    const via = { kind: 'approval' as const, code: 'sim', roles };
    this.ask({ op: 'member.admit', peer: host.peer, name, owner, via }, (_result, error) => {
      if (error !== null) return;
      if (host.machine.alive) host.crash();
      host.forgive();
      host.boot();
    });
  }

  #memberWorld() {
    return {
      mesh: MESH,
      epoch: () => this.scenario.epoch,
      dial: (member: MemberHost) => this.#dial(member),
      send: (member: MemberHost, id: number, message: MemberMessage) => {
        this.tell(member, id, message);
      },
      close: (_member: MemberHost, id: number) => this.sessions.get(id)?.session.close('member'),
      script: (member: MemberHost, assignment: Assignment) => {
        const script = scriptOf(MESH, this.#seed, member, assignment, this.scenario.mishaps);
        const { task, attempt, epoch } = assignment;
        return {
          ...script,
          result: () => {
            const result = script.result();
            if (result.envelope !== null) {
              this.said.push(result);
              if (this.said.length > 64) this.said.shift();
            }
            if (result.envelope !== null && !member.forger) {
              this.honest.set(
                standInDigest(result.envelope),
                `${task}.${attempt}.${epoch} by ${member.peer}`,
              );
            }
            return result;
          },
        };
      },
      started: (member: MemberHost, assignment: Assignment) => {
        this.trace(`${this.nameOf(member.peer)} runs ${leaseKey(assignment)} ${assignment.role}`);
      },
      ticked: (member: MemberHost) => this.#leases.checkAlone(member),
      trace: this.trace,
    };
  }

  /** A member's word on one of its sessions, or on one that it had. */
  tell(member: MemberHost, session: number, message: MemberMessage): void {
    this.trace(`${this.nameOf(member.peer)} → founder ${brief(message)}`);
    this.sessions.get(session)?.session.send('toFounder', message, URGENT.has(message.type));
  }

  /** A person at the founder's own socket; `answered` is not called if the founder dies first. */
  ask(operation: Operation, answered: Ask['answered'] = () => {}): void {
    this.#request += 1;
    this.#asks.set(this.#request, { operation, answered });
    this.trace(`operator: ${operation.op}`);
    this.founder.request(this.#request, OPERATOR, operation);
  }

  reachable(peer: string): boolean {
    const link = this.links.get(peer);
    return link !== undefined && !link.down.toFounder && !link.down.toMember;
  }

  /** The member is led to the founder of the epoch before, or back. */
  mislead(peer: string, on: boolean): void {
    if (this.#misled.has(peer) === on) return;
    if (on) this.#misled.add(peer);
    else this.#misled.delete(peer);
    this.reset(peer);
  }

  #dial(member: MemberHost): void {
    const link = this.links.get(member.peer)!;
    this.schedule.after(link.latencyMs * 2, () => {
      if (this.#misled.has(member.peer) && member.machine.alive) {
        this.#session += 1;
        const id = this.#session;
        this.sessions.set(id, { peer: member.peer, session: this.#openOld(id, member, link) });
        member.machine.deliver(() => member.connected(id));
        return;
      }
      if (!this.reachable(member.peer) || !this.founder.machine.alive) {
        member.machine.after(500, () => member.dialFailed());
        return;
      }
      if (!member.machine.alive) return;
      this.#session += 1;
      const id = this.#session;
      const session = this.#openSession(id, member, link);
      this.sessions.set(id, { peer: member.peer, session });
      member.machine.deliver(() => member.connected(id));
    });
  }

  #openSession(id: number, member: MemberHost, link: Link): Session<MemberMessage, FounderMessage> {
    const { peer } = member;
    return new Session(id, link, this.schedule, this.random, {
      toFounder: {
        machine: this.founder.machine,
        message: (message) => {
          if (message.type !== 'hello') {
            const step = (): void => this.founder.step({ type: 'received', peer, session: id, message });
            heard(this.founder, peer, message, step);
            return;
          }
          this.founder.step({ type: 'connected', peer, session: id, hello: message });
          if (this.founder.core?.hasSession(peer, id)) this.#leases.session(peer, true);
        },
        closed: () => {
          if (this.founder.core?.hasSession(peer, id)) this.#leases.session(peer, false);
          this.founder.step({ type: 'disconnected', peer, session: id });
        },
      },
      toMember: {
        machine: member.machine,
        message: (message) => member.received(id, message),
        closed: () => member.closed(id),
      },
    });
  }

  #openOld(id: number, member: MemberHost, link: Link): Session<MemberMessage, FounderMessage> {
    const session: Session<MemberMessage, FounderMessage> = new Session(
      id,
      link,
      this.schedule,
      this.random,
      {
        toFounder: this.#oldFounder.end((message) => {
          this.trace(`old founder → ${this.nameOf(member.peer)} ${brief(message)}`);
          session.send('toMember', message, URGENT.has(message.type));
        }),
        toMember: {
          machine: member.machine,
          message: (message) => member.received(id, message),
          closed: () => member.closed(id),
        },
      },
    );
    return session;
  }

  setDown(peer: string, directions: Direction[], down: boolean): void {
    const link = this.links.get(peer)!;
    link.disturbedAt = this.schedule.now;
    for (const direction of directions) link.down[direction] = down;
    if (down) return;
    for (const { peer: of, session } of this.sessions.values()) {
      if (of === peer) for (const direction of directions) session.pump(direction);
    }
  }

  reset(peer: string | null): void {
    for (const { peer: of, session } of this.sessions.values()) {
      if (peer !== null && of !== peer) continue;
      this.links.get(of)!.disturbedAt = this.schedule.now;
      session.reset();
    }
  }

  /** The member has lost its newest connection and the founder does not know. */
  sever(member: MemberHost): void {
    const open = this.sessions.get(member.session ?? -1);
    if (open === undefined) return;
    this.links.get(member.peer)!.disturbedAt = this.schedule.now;
    open.session.sever(this.random.between(0, 4_000));
  }

  crashFounder(): void {
    this.#leases.founderDied();
    this.founder.crash();
    const own = this.members.get(peerOf('founder'));
    own?.crash();
    this.reset(null);
  }

  bootFounder(): void {
    if (this.founder.machine.alive) return;
    this.founder.boot();
    this.members.get(peerOf('founder'))?.boot();
  }

  #fetch(effect: Extract<FounderEffect, { type: 'collect' }>): 'ok' | 'gone' | 'bad' | 'disk' {
    const member = this.members.get(effect.peer);
    if (this.founder.diskIsFull) return 'disk';
    const there = member?.machine.alive && !member.machine.frozen && this.reachable(effect.peer);
    if (!there || !member.disk.ready.has(leaseKey(effect.lease))) return 'gone';
    const { badTransfers } = this.scenario;
    if (badTransfers && this.faulty && this.random.chance(0.1))
      return this.random.pick(['disk', 'gone', 'bad']);
    return 'ok';
  }

  // ── what is watched while it runs ─────────────────────────────────────────────────────────────────────────
  #released(effect: Exclude<FounderEffect, { type: 'append' }>): void {
    const { durable } = this.founder;
    if (effect.after >= durable)
      throw new Violation(
        '1 durable first',
        `a ${effect.type} left before entry ${effect.after} was durable`,
      );
    if (effect.type === 'send' && effect.message.type === 'assign') {
      const { nonce } = effect.message.assignment;
      this.#leases.given(effect.message.assignment);
      if (!this.log.gave(nonce))
        throw new Violation('1 durable first', 'an assignment left before its entry was durable');
    }
  }

  /** Promise 15: a person was told that the task is stopped; soon nothing of it runs on any machine that could be told. */
  checkStopped(task: string): void {
    const since = this.schedule.now;
    this.schedule.after(1_000, () => {
      for (const { member, assignment } of this.#running(since))
        if (assignment.task === task)
          throw new Violation(
            '15 stops',
            `${this.nameOf(member.peer)} runs ${leaseKey(assignment)}, which was stopped`,
          );
    });
  }

  /** What runs, and is not being stopped, on machines that have been well since then, as the founder and their ways have. */
  *#running(since: number): Iterable<{ member: MemberHost; assignment: Assignment }> {
    if (this.founder.machine.disturbedAt >= since) return;
    for (const member of this.members.values()) {
      const link = this.links.get(member.peer)!;
      const { alive, frozen, disturbedAt } = member.machine;
      const well = alive && !frozen && disturbedAt < since && this.reachable(member.peer);
      if (!well || link.disturbedAt >= since || (link.loss ?? 0) > 0 || !member.core?.online) continue;
      for (const { assignment, stopping } of member.running.values())
        if (!stopping) yield { member, assignment };
    }
  }

  /** Promise 15: a second after the operator was told, nothing runs on any machine that could be told. */
  checkPaused(since: number): void {
    if (this.pausedAt !== since) return;
    for (const { member, assignment } of this.#running(since))
      throw new Violation(
        '15 stops',
        `${this.nameOf(member.peer)} runs ${leaseKey(assignment)} in a paused mesh`,
      );
  }

  /** State is reduce(entries): what the founder decides on is what anybody reads from its log (promise 9). */
  checkReplay(): void {
    const { core } = this.founder;
    if (core === null) return;
    // What came through a snapshot has its keys in the canonical order.
    const text: (of: unknown) => string = this.founder.fromSnapshots ? canonicalJson : JSON.stringify;
    const own = text(saveState(core.state));
    const state = replay(this.founder.entries(), initialState(this.founder.bounds));
    const replayed = text(saveState(state));
    if (own !== replayed) throw new Violation('9 replay', 'the founder’s state is not the one its log gives');
  }
}

function brief(message: FounderMessage | MemberMessage): string {
  switch (message.type) {
    case 'assign':
      return `assign ${message.assignment.role} ${leaseKey(message.assignment)}`;
    case 'result':
      return `result ${message.result.role} ${leaseKey(message.result)} ${message.result.outcome}`;
    case 'hello':
      return `hello held ${message.held.map(leaseKey).join(' ')} ready ${message.ready.map(leaseKey).join(' ')}`;
    case 'welcome':
      return `welcome resume ${message.resume.map(leaseKey).join(' ')}`;
    case 'started':
    case 'progress':
      return `${message.type} ${leaseKey(message)}`;
    case 'stopped':
    case 'cancel':
      return `${message.type} ${leaseKey(message)} ${message.why}`;
    case 'settled':
      return `settled ${leaseKey(message)} ${message.accepted} ${message.why ?? ''}`;
    default:
      return message.type;
  }
}
