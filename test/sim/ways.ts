import { type FounderMessage, leaseKey, type MemberMessage, URGENT } from '../../protocol/session.ts';
import { heard } from './eviction.ts';
import type { MemberHost } from './member-host.ts';
import { type Direction, type End, type Link, Session } from './network.ts';
import type { OldFounder } from './old-founder.ts';
import type { World } from './world.ts';

type MemberSession = Session<MemberMessage, FounderMessage>;

/** The ways between members and the founder, the sessions on them, and what happens to them. */
export class Ways {
  readonly links = new Map<string, Link>();
  readonly #world: World;
  readonly #oldFounder: OldFounder;
  readonly #sessions = new Map<number, { peer: string; session: MemberSession }>();
  /** Members that take the founder of the epoch before for the one that leads. */
  readonly #misled = new Set<string>();
  #session = 0;

  constructor(world: World, oldFounder: OldFounder) {
    this.#world = world;
    this.#oldFounder = oldFounder;
  }

  /** Begins with a way that nothing has disturbed. */
  lay(peer: string, latencyMs: number): void {
    this.links.set(peer, { latencyMs, down: { toFounder: false, toMember: false }, disturbedAt: -1 });
  }

  reachable(peer: string): boolean {
    const link = this.links.get(peer);
    return link !== undefined && !link.down.toFounder && !link.down.toMember;
  }

  /** A member's word on one of its sessions, or on one that it had. */
  tell(member: MemberHost, session: number, message: MemberMessage): void {
    this.#world.trace(`${this.#world.nameOf(member.peer)} → founder ${brief(message)}`);
    this.#sessions.get(session)?.session.send('toFounder', message, URGENT.has(message.type));
  }

  /** The founder's word on one of a member's sessions. */
  answer(peer: string, session: number, message: FounderMessage): void {
    this.#world.trace(`founder → ${this.#world.nameOf(peer)} ${brief(message)}`);
    this.#sessions.get(session)?.session.send('toMember', message, URGENT.has(message.type));
  }

  close(session: number, by: 'member' | 'founder'): void {
    this.#sessions.get(session)?.session.close(by);
  }

  dial(member: MemberHost): void {
    const { schedule, founder } = this.#world;
    const link = this.links.get(member.peer)!;
    schedule.after(link.latencyMs * 2, () => {
      const old = this.#misled.has(member.peer) && member.machine.alive;
      if (!old && (!this.reachable(member.peer) || !founder.machine.alive)) {
        member.machine.after(500, () => member.dialFailed());
        return;
      }
      if (!member.machine.alive) return;
      this.#session += 1;
      const id = this.#session;
      const session = old ? this.#openOld(id, member, link) : this.#open(id, member, link);
      this.#sessions.set(id, { peer: member.peer, session });
      member.machine.deliver(() => member.connected(id));
    });
  }

  #open(id: number, member: MemberHost, link: Link): MemberSession {
    const { peer } = member;
    const { schedule, random, founder, leases } = this.#world;
    return new Session(id, link, schedule, random, {
      toFounder: {
        machine: founder.machine,
        message: (message) => {
          if (message.type !== 'hello') {
            const step = (): void => founder.step({ type: 'received', peer, session: id, message });
            heard(founder, peer, message, step);
            return;
          }
          founder.step({ type: 'connected', peer, session: id, hello: message });
          if (founder.core?.hasSession(peer, id)) leases.session(peer, true);
        },
        closed: () => {
          if (founder.core?.hasSession(peer, id)) leases.session(peer, false);
          founder.step({ type: 'disconnected', peer, session: id });
        },
      },
      toMember: memberEnd(id, member),
    });
  }

  #openOld(id: number, member: MemberHost, link: Link): MemberSession {
    const { schedule, random } = this.#world;
    const session: MemberSession = new Session(id, link, schedule, random, {
      toFounder: this.#oldFounder.end((message) => {
        this.#world.trace(`old founder → ${this.#world.nameOf(member.peer)} ${brief(message)}`);
        session.send('toMember', message, URGENT.has(message.type));
      }),
      toMember: memberEnd(id, member),
    });
    return session;
  }

  /** A direction that is down keeps what is sent until it is up again. */
  setDown(peer: string, directions: Direction[], down: boolean): void {
    const link = this.links.get(peer)!;
    link.disturbedAt = this.#world.schedule.now;
    for (const direction of directions) link.down[direction] = down;
    if (down) return;
    for (const { peer: of, session } of this.#sessions.values()) {
      if (of === peer) for (const direction of directions) session.pump(direction);
    }
  }

  /** Connections of this member are lost; null: of all. */
  reset(peer: string | null): void {
    for (const { peer: of, session } of this.#sessions.values()) {
      if (peer !== null && of !== peer) continue;
      this.links.get(of)!.disturbedAt = this.#world.schedule.now;
      session.reset();
    }
  }

  /** The member has lost its newest connection and the founder does not know. */
  sever(member: MemberHost): void {
    const open = this.#sessions.get(member.session ?? -1);
    if (open === undefined) return;
    this.links.get(member.peer)!.disturbedAt = this.#world.schedule.now;
    open.session.sever(this.#world.random.between(0, 4_000));
  }

  /** The member is led to the founder of the epoch before, or back. */
  mislead(peer: string, on: boolean): void {
    if (this.#misled.has(peer) === on) return;
    if (on) this.#misled.add(peer);
    else this.#misled.delete(peer);
    this.reset(peer);
  }
}

const memberEnd = (id: number, member: MemberHost): End<FounderMessage> => ({
  machine: member.machine,
  message: (message) => member.received(id, message),
  closed: () => member.closed(id),
});

/** A message in a line of the trace. */
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
