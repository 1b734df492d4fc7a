import type { KnownEntry } from '../lines/entry.ts';
import { loadPairs, type Reducer, savePairs } from './reducer.ts';

/** So many valid results in a row make a member a trusted one. */
export const trustedAfter = 10;

/** What a member's results were found to be. */
export interface TrustRecord {
  /** Valid results in a row, as the founder or a trusted member found them. */
  valid: number;
  /** Results that were found invalid, ever. */
  invalid: number;
  /** The task of the last of them. */
  invalidIn: string | null;
  /** Since when it is in quarantine, by the log; null: it is in none. */
  quarantined: number | null;
}

/** What is known of the result of an open task until it is judged. */
interface Judged {
  executor: string;
  /** Its checks can prove it. */
  provable: boolean;
  verifier: string | null;
  /** The attempt of that verifier. */
  attempt: number;
  /** The lot of the accepted result. */
  lot: { attempt: number; verify: boolean } | null;
}

/**
 * Who may be believed, as the log tells it. A valid word counts where the founder or a trusted member says it, and, where the
 * mesh has several owners, one of another owner: so members cannot make each other trusted. An invalid word counts whoever
 * says it: it makes that more is checked, not less.
 */
export interface Trust {
  founder: string | null;
  sampling: boolean;
  members: Map<string, TrustRecord>;
  /** Of active members. */
  owners: Map<string, string>;
  open: Map<string, Judged>;
}

const nobody: TrustRecord = { valid: 0, invalid: 0, invalidIn: null, quarantined: null };

/** What the log says of this member; of one that it says nothing of, that. */
export const trustRecord = ({ members }: Trust, peer: string): TrustRecord => members.get(peer) ?? nobody;

/** Whether its word on others counts: the founder's always does. */
export function isTrusted(trust: Trust, peer: string): boolean {
  if (peer === trust.founder) return true;
  const { valid, quarantined } = trustRecord(trust, peer);
  return valid >= trustedAfter && quarantined === null;
}

/** The lot of this attempt's result; null: none was drawn. */
export function lotOf({ open }: Trust, task: string, attempt: number): Judged['lot'] {
  const lot = open.get(task)?.lot ?? null;
  return lot?.attempt === attempt ? lot : null;
}

export const trustReducer: Reducer<Trust> = {
  name: 'trust',
  version: 2,
  initial: () => ({
    founder: null,
    sampling: false,
    members: new Map(),
    owners: new Map(),
    open: new Map(),
  }),
  reduce(trust, entry: KnownEntry) {
    switch (entry.type) {
      case 'attempt.assigned':
        assigned(trust, entry.body);
        break;
      case 'task.executed': {
        const judged = trust.open.get(entry.body.task);
        if (judged !== undefined) judged.provable &&= entry.body.checksChanged.length === 0;
        break;
      }
      case 'task.flaky': {
        const judged = trust.open.get(entry.body.task);
        if (judged?.attempt === entry.body.attempt) judged.provable = false;
        break;
      }
      case 'task.replicated': {
        // A command that does not always make the same proves nothing, for nobody and against nobody.
        const judged = trust.open.get(entry.body.task);
        if (judged?.attempt === entry.body.attempt && !entry.body.agrees) judged.provable = false;
        break;
      }
      case 'task.verified':
        verified(trust, entry.body);
        break;
      case 'task.sampled': {
        const { task, attempt, verify } = entry.body;
        const judged = trust.open.get(task);
        if (judged !== undefined) judged.lot = { attempt, verify };
        break;
      }
      case 'task.converged':
        trust.open.delete(entry.body.task);
        break;
      case 'mesh.created':
      case 'epoch.handover':
        trust.founder = entry.body.founder;
        break;
      case 'member.admitted':
        trust.owners.set(entry.body.peer, entry.body.owner);
        break;
      case 'member.left':
      case 'member.revoked':
        trust.owners.delete(entry.body.peer);
        break;
      case 'member.quarantined':
        invalid(trust, entry.body.peer, entry.body.task);
        recordOf(trust, entry.body.peer).quarantined = entry.time;
        break;
      case 'member.trusted': {
        const { peer, vouched } = entry.body;
        const record = recordOf(trust, peer);
        record.quarantined = null;
        if (vouched) record.valid = Math.max(record.valid, trustedAfter);
        break;
      }
      case 'trust.sampling':
        trust.sampling = entry.body.on;
        break;
    }
    return trust;
  },
  save: ({ members, owners, open, ...rest }) => ({
    ...rest,
    members: savePairs(members),
    owners: savePairs(owners),
    open: savePairs(open),
  }),
  load(saved) {
    const trust = structuredClone(saved) as Trust;
    return {
      ...trust,
      members: loadPairs(trust.members),
      owners: loadPairs(trust.owners),
      open: loadPairs(trust.open),
    };
  },
};

type Body<T extends KnownEntry['type']> = Extract<KnownEntry, { type: T }>['body'];

function assigned({ open }: Trust, { task, role, member, attempt }: Body<'attempt.assigned'>): void {
  if (role === 'execute') {
    open.set(task, { executor: member, provable: true, verifier: null, attempt, lot: null });
    return;
  }
  const judged = open.get(task);
  if (judged === undefined) return;
  judged.verifier = member;
  judged.attempt = attempt;
}

function verified(trust: Trust, { task, attempt, passed, sameOwner }: Body<'task.verified'>): void {
  const judged = trust.open.get(task);
  // What a flaky check says proves nothing, for nobody and against nobody.
  if (judged === undefined || judged.verifier === null || judged.attempt !== attempt) return;
  if (!judged.provable) return;
  if (!passed) invalid(trust, judged.executor, task);
  else if (isTrusted(trust, judged.verifier) && (!sameOwner || hasOneOwner(trust)))
    recordOf(trust, judged.executor).valid += 1;
}

function hasOneOwner({ owners }: Trust): boolean {
  let first: string | undefined;
  for (const owner of owners.values()) {
    first ??= owner;
    if (owner !== first) return false;
  }
  return true;
}

/** Of one task it counts once: a quarantine follows the word that it rests on. */
function invalid(trust: Trust, peer: string, task: string): void {
  const record = recordOf(trust, peer);
  record.valid = 0;
  if (record.invalidIn !== task) record.invalid += 1;
  record.invalidIn = task;
}

function recordOf({ members }: Trust, peer: string): TrustRecord {
  let record = members.get(peer);
  if (record === undefined) {
    record = { ...nobody };
    members.set(peer, record);
  }
  return record;
}
