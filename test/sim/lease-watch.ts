import { graceMs, leaseMs } from '../../protocol/limits.ts';
import { type Lease, leaseKey } from '../../protocol/session.ts';
import type { MemberHost } from './member-host.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

/** Drift of the clocks, ticks, and what was under way. */
const slackMs = 2_000;
/** Two machines that are well and connected agree on what runs after at most so long. */
const agreeMs = 12_000;
/** So long after the last fault a machine, its way and the founder count as well. */
const wellMs = 20_000;
const lookMs = 500;

interface OpenLease {
  key: string;
  member: string;
}

/**
 * Leases in true time, looked at twice a second: one of a member that cannot be heard ends, one whose connection closed ends
 * with its grace, and founder and member come to agree on what runs (promises 10 and 16).
 */
export class LeaseWatch {
  readonly #world: World;
  /** When each lease was given out. */
  readonly #given = new Map<string, number>();
  /** Members the founder cannot hear → since when. */
  readonly #silentSince = new Map<string, number>();
  /** Members whose session the founder saw end → when. */
  readonly #goneSince = new Map<string, number>();
  /** Leases about which member and founder differ → since when. */
  #differ = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
    this.#again();
  }

  given(lease: Lease): void {
    this.#given.set(leaseKey(lease), this.#world.schedule.now);
  }

  /** The founder took in that this session is open, or that it ended. */
  session(peer: string, open: boolean): void {
    if (open) this.#goneSince.delete(peer);
    else this.#goneSince.set(peer, this.#world.schedule.now);
  }

  founderDied(): void {
    this.#goneSince.clear();
  }

  /** Promise 10's other half: who lost the founder stops its own work within a lease. */
  checkAlone(member: MemberHost): void {
    for (const { assignment, stopping } of member.running.values()) {
      const silentMs = member.machine.mono - member.heardAt;
      if (stopping || silentMs < leaseMs) continue;
      const name = this.#world.nameOf(member.peer);
      throw new Violation(
        '10 one result',
        `${name} holds ${leaseKey(assignment)} after ${silentMs} ms alone`,
      );
    }
  }

  #again(): void {
    this.#world.schedule.after(lookMs, () => {
      this.#look();
      this.#again();
    });
  }

  #look(): void {
    const { founder, members, schedule } = this.#world;
    const { links } = this.#world.ways;
    for (const [peer, { machine }] of members) {
      const heard = machine.alive && !machine.frozen && !links.get(peer)!.down.toFounder;
      if (heard) this.#silentSince.delete(peer);
      else if (!this.#silentSince.has(peer)) this.#silentSince.set(peer, schedule.now);
    }
    const { core, machine } = founder;
    if (core === null || machine.frozen) return;
    const open = new Map<string, OpenLease[]>();
    for (const id of [...core.state.tasks.open, ...core.verifyingAgain]) {
      for (const { number, epoch, member, end } of core.state.tasks.byId.get(id)?.attempts ?? []) {
        if (end !== null) continue;
        const lease = { key: `${id}.${number}.${epoch}`, member };
        this.#unheard(lease);
        const leases = open.get(member);
        if (leases === undefined) open.set(member, [lease]);
        else leases.push(lease);
      }
    }
    for (const peer of this.#goneSince.keys()) this.#grace(peer, open.get(peer) ?? []);
    this.#agree(open);
  }

  #unheard({ key, member }: OpenLease): void {
    const { founder, members, schedule } = this.#world;
    const { links } = this.#world.ways;
    const { now } = schedule;
    const since = Math.max(
      this.#silentSince.get(member) ?? now,
      this.#given.get(key) ?? now,
      founder.machine.disturbedAt,
      // Between two looks it may have been well for a moment, and heard.
      members.get(member)?.machine.disturbedAt ?? 0,
      links.get(member)?.disturbedAt ?? 0,
    );
    if (now - since <= leaseMs + slackMs) return;
    const name = this.#world.nameOf(member);
    throw new Violation(
      '16 nothing lost',
      `${key} is still leased to ${name}, unheard for ${now - since} ms`,
    );
  }

  #grace(peer: string, open: OpenLease[]): void {
    const { founder, schedule } = this.#world;
    const since = this.#goneSince.get(peer)!;
    const until = Math.max(since + graceMs, founder.machine.disturbedAt + leaseMs) + slackMs;
    if (open.length === 0 || schedule.now <= until) return;
    const name = this.#world.nameOf(peer);
    const aloneMs = schedule.now - since;
    throw new Violation('16 nothing lost', `${open[0]!.key} waits for ${name}, gone for ${aloneMs} ms`);
  }

  /** What runs on a member is leased to it, and what is leased to it runs there or has its result. */
  #agree(open: ReadonlyMap<string, OpenLease[]>): void {
    const { now } = this.#world.schedule;
    const differ = new Map<string, number>();
    const note = (key: string, promise: string, why: string): void => {
      const since = this.#differ.get(key) ?? now;
      differ.set(key, since);
      if (now - since > agreeMs) throw new Violation(promise, `${why} for ${now - since} ms`);
    };
    for (const member of this.#world.members.values()) {
      if (!this.#well(member)) continue;
      const name = this.#world.nameOf(member.peer);
      const leased = new Set((open.get(member.peer) ?? []).map(({ key }) => key));
      for (const [key, { stopping }] of member.running) {
        if (!stopping && !leased.has(key))
          note(`runs ${key}`, '10 one result', `${name} runs ${key}, which is over,`);
      }
      for (const key of leased) {
        if (!member.running.has(key) && !member.disk.ready.has(key))
          note(`lacks ${key}`, '16 nothing lost', `${key} is leased to ${name}, which has not heard of it,`);
      }
    }
    this.#differ = differ;
  }

  #well({ peer, machine, core, liar }: MemberHost): boolean {
    const { founder, schedule, ways } = this.#world;
    const link = ways.links.get(peer)!;
    if (liar || !machine.alive || machine.frozen || !ways.reachable(peer) || core?.online !== true)
      return false;
    if ((link.loss ?? 0) > 0 || founder.diskIsBad) return false;
    const disturbedAt = Math.max(
      founder.machine.disturbedAt,
      founder.disturbedAt,
      machine.disturbedAt,
      link.disturbedAt,
    );
    return schedule.now - disturbedAt > wellMs;
  }
}
