import type { Role } from '../../protocol/ids.ts';
import type { KnownEntry } from '../lines/entry.ts';
import { StateError } from './errors.ts';
import { loadPairs, type Reducer, savePairs } from './reducer.ts';

/** What the log says of one machine. Whether it is online is nobody's log entry. */
export interface MemberRecord {
  peer: string;
  name: string;
  /** What the entry that admitted it calls it, and so its certificate. */
  admittedAs: string;
  owner: string;
  roles: Role[];
  labels: Record<string, string>;
  /** The invite's; absent where it named none, so that states of logs without any are as they were. */
  policy?: string;
  /** False: drained. */
  eligible: boolean;
  /** Of one that is drained: what still runs there then (Unix ms) is taken away. @default it may run to its end */
  evictAt?: number;
  /** Nothing is given to it, and why; kept when it leaves and comes back. @default it is in no quarantine */
  quarantined?: { at: number; task: string; why: string };
  /** `rejected`: a person refused its request to join; it never was a member. */
  standing: 'active' | 'left' | 'revoked' | 'rejected';
  reason: string | null;
  admittedAt: number | null;
  /** Index and epoch of the entry that admitted it: what its certificate names. */
  admittedIndex: number | null;
  admittedEpoch: number | null;
}

export interface Members {
  byPeer: Map<string, MemberRecord>;
  /** Name → peer of active members; unique at any time. */
  byName: Map<string, string>;
}

export const membersReducer: Reducer<Members> = {
  name: 'members',
  version: 2,
  initial: () => ({ byPeer: new Map(), byName: new Map() }),
  reduce(state, entry: KnownEntry) {
    switch (entry.type) {
      case 'member.admitted': {
        const { peer, name, owner, roles, labels, policy } = entry.body;
        requireFree(state, entry, name, peer);
        const before = state.byPeer.get(peer);
        if (before?.standing === 'revoked') throw new StateError(entry, `${peer} was revoked`);
        release(state, peer);
        state.byName.set(name, peer);
        state.byPeer.set(peer, {
          peer,
          name,
          admittedAs: name,
          owner,
          roles,
          labels,
          ...(policy === undefined ? {} : { policy }),
          ...keptOf(before),
          eligible: true,
          standing: 'active',
          reason: null,
          admittedAt: entry.time,
          admittedIndex: entry.index,
          admittedEpoch: entry.epoch,
        });
        break;
      }
      case 'member.eligibility': {
        const { peer, eligible, evictAt } = entry.body;
        const member = active(state, entry, peer);
        member.eligible = eligible;
        delete member.evictAt;
        if (evictAt !== undefined && !eligible) member.evictAt = evictAt;
        break;
      }
      case 'member.quarantined': {
        const { peer, task, why } = entry.body;
        // Of one that has left, too: it may come back.
        const member = state.byPeer.get(peer);
        if (member?.standing !== 'left') active(state, entry, peer);
        member!.quarantined = { at: entry.time, task, why };
        break;
      }
      case 'member.trusted':
        delete active(state, entry, entry.body.peer).quarantined;
        break;
      case 'member.renamed': {
        const { peer, name } = entry.body;
        const member = active(state, entry, peer);
        requireFree(state, entry, name, peer);
        release(state, peer);
        member.name = name;
        state.byName.set(name, peer);
        break;
      }
      case 'member.rejected': {
        const { peer, name } = entry.body;
        const before = state.byPeer.get(peer);
        if (before?.standing === 'active') throw new StateError(entry, `${peer} is a member`);
        state.byPeer.set(peer, {
          peer,
          name,
          admittedAs: name,
          owner: name,
          roles: [],
          labels: {},
          ...keptOf(before),
          eligible: false,
          standing: 'rejected',
          reason: null,
          admittedAt: null,
          admittedIndex: null,
          admittedEpoch: null,
        });
        break;
      }
      case 'member.revoked':
      case 'member.left': {
        const member = active(state, entry, entry.body.peer);
        release(state, member.peer);
        member.standing = entry.type === 'member.revoked' ? 'revoked' : 'left';
        member.reason = entry.type === 'member.revoked' ? entry.body.reason : null;
        break;
      }
    }
    return state;
  },
  save: (state) => ({ byPeer: savePairs(state.byPeer) }),
  load(saved) {
    const byPeer = loadPairs<MemberRecord>((saved as { byPeer: unknown }).byPeer);
    const byName = new Map<string, string>();
    for (const member of byPeer.values()) {
      if (member.standing === 'active') byName.set(member.name, member.peer);
    }
    return { byPeer, byName };
  },
};

/** The active member of this name or peer id, if there is one. */
export function resolveMember(members: Members, nameOrPeer: string): MemberRecord | null {
  const member = members.byPeer.get(members.byName.get(nameOrPeer) ?? nameOrPeer);
  return member?.standing === 'active' ? member : null;
}

/** Those that belong to the mesh now, in the order in which they came. */
export const activeMembers = ({ byPeer }: Members): MemberRecord[] =>
  [...byPeer.values()].filter(({ standing }) => standing === 'active');

/** As it is called in the mesh; of one that the mesh does not know its id. */
export const nameOf = ({ byPeer }: Members, peer: string): string => byPeer.get(peer)?.name ?? peer;

/** What is known of a machine however it comes and goes. */
const keptOf = (before: MemberRecord | undefined): Pick<MemberRecord, 'quarantined'> =>
  before?.quarantined === undefined ? {} : { quarantined: before.quarantined };

function active(state: Members, entry: KnownEntry, peer: string): MemberRecord {
  const member = state.byPeer.get(peer);
  if (member?.standing !== 'active') throw new StateError(entry, `${peer} is no member`);
  return member;
}

function requireFree(state: Members, entry: KnownEntry, name: string, peer: string): void {
  const holder = state.byName.get(name);
  if (holder !== undefined && holder !== peer) {
    throw new StateError(entry, `the name ${name} belongs to ${holder}`);
  }
}

function release(state: Members, peer: string): void {
  const old = state.byPeer.get(peer);
  if (old !== undefined && state.byName.get(old.name) === peer) state.byName.delete(old.name);
}
