import { defaultConfig } from '../../hub/core/config.ts';
import { founderAdmitted } from '../../hub/core/founder.ts';
import type { FounderEffect, Operation } from '../../hub/core/types.ts';
import type { Actor } from '../../ledger/lines/events.ts';
import { defaultBounds, type StateBounds } from '../../ledger/state/reducer.ts';
import type { ErrorObject } from '../../protocol/errors.ts';
import { type Assignment, type AttemptResult, leaseKey, type MemberMessage } from '../../protocol/session.ts';
import { CAPACITY, MESH, peerOf } from '../hub/core/fleet.ts';
import { scriptOf } from './executor.ts';
import { FounderHost, type FounderWorld } from './founder-host.ts';
import { LogChecker } from './invariants.ts';
import { LeaseWatch } from './lease-watch.ts';
import { Machine } from './machine.ts';
import { MemberHost } from './member-host.ts';
import { OldFounder } from './old-founder.ts';
import { Random } from './random.ts';
import type { MemberPlan, Scenario } from './scenario.ts';
import { Schedule } from './schedule.ts';
import { standInChecks, standInDigest } from './signer.ts';
import { StepChecker } from './step-checker.ts';
import { checkReleased } from './watch.ts';
import { Ways } from './ways.ts';

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
  readonly ways: Ways;
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
  readonly leases: LeaseWatch;
  readonly #steps: StepChecker;
  /** Results that were sent, the newest last: what a liar may say again. */
  readonly said: AttemptResult[] = [];
  readonly #asks = new Map<number, Ask>();
  readonly #seed: string;
  readonly #wallSeed: string;
  #request = 0;

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
      send: (peer, id, message) => this.ways.answer(peer, id, message),
      close: (_peer, id) => this.ways.close(id, 'founder'),
      fetch: (effect) => this.#fetch(effect),
      answered: (request, result, error) => {
        this.#asks.get(request)?.answered(result, error);
        this.#asks.delete(request);
      },
      released: (effect) => checkReleased(this, effect),
      synced: (entry) => this.log.take(entry),
      stepped: (core, events, peer) => this.#steps.check(core, events, peer, this.schedule.now),
      trace: this.trace,
    };
    this.founder = new FounderHost(founder, host, bounds, config);
    this.ways = new Ways(this, new OldFounder(this.#machine('old founder'), MESH, scenario.epoch - 1));
    this.#genesis();
    this.founder.boot();
    for (const plan of scenario.members) if (!plan.later) this.join(plan);
    this.leases = new LeaseWatch(this);
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
    this.ways.lay(peer, latencyMs);
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
      dial: (member: MemberHost) => this.ways.dial(member),
      send: (member: MemberHost, id: number, message: MemberMessage) => this.ways.tell(member, id, message),
      close: (_member: MemberHost, id: number) => this.ways.close(id, 'member'),
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
      ticked: (member: MemberHost) => this.leases.checkAlone(member),
      trace: this.trace,
    };
  }

  /** A person at the founder's own socket; `answered` is not called if the founder dies first. */
  ask(operation: Operation, answered: Ask['answered'] = () => {}): void {
    this.#request += 1;
    this.#asks.set(this.#request, { operation, answered });
    this.trace(`operator: ${operation.op}`);
    this.founder.request(this.#request, OPERATOR, operation);
  }

  crashFounder(): void {
    this.leases.founderDied();
    this.founder.crash();
    const own = this.members.get(peerOf('founder'));
    own?.crash();
    this.ways.reset(null);
  }

  bootFounder(): void {
    if (this.founder.machine.alive) return;
    this.founder.boot();
    this.members.get(peerOf('founder'))?.boot();
  }

  #fetch(effect: Extract<FounderEffect, { type: 'collect' }>): 'ok' | 'gone' | 'bad' | 'disk' {
    const member = this.members.get(effect.peer);
    if (this.founder.diskIsFull) return 'disk';
    const there = member?.machine.alive && !member.machine.frozen && this.ways.reachable(effect.peer);
    if (!there || !member.disk.ready.has(leaseKey(effect.lease))) return 'gone';
    const { badTransfers } = this.scenario;
    if (badTransfers && this.faulty && this.random.chance(0.1))
      return this.random.pick(['disk', 'gone', 'bad']);
    return 'ok';
  }
}
