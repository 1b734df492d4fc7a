import { z } from 'zod';
import {
  type Envelope,
  encodeEnvelope,
  openEnvelope,
  parseDocument,
  parseEnvelope,
  signEnvelope,
} from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { type Leadership, logKeys } from './handover.ts';
import { count, memberName, meshId, ownerName, peerId, roles } from './ids.ts';
import type { SigningKey } from './keys.ts';
import { membersMax } from './limits.ts';

/**
 * The signed roster: who is a member now and who never again. Member-to-member access and revocation rest on it. A
 * member keeps the newest it saw and never goes back, so that nobody can hand it one from before a revocation.
 */
export const ROSTER_PAYLOAD_TYPE = 'application/vnd.superfleet.roster+json';
/** Peers refused for good; past it the founder must begin a new mesh. Bounds the roster with `membersMax`. */
export const revokedMax = 16_384;
/** 10,000 members of at most 400 bytes and 16,384 revoked of 55, in base64. */
export const rosterBytesMax = 8 * 1024 * 1024;

const schema = z.strictObject({
  mesh: meshId,
  epoch: count.min(1),
  /** Rises with every change of membership within an epoch. */
  version: count,
  members: z
    .array(z.strictObject({ peer: peerId, name: memberName, owner: ownerName, roles }))
    .max(membersMax),
  revoked: z.array(peerId).max(revokedMax),
});
export type Roster = z.infer<typeof schema>;
export type RosterMember = Roster['members'][number];

/** Deterministic: members and revoked peers are ordered by peer id. */
export function signRoster(roster: Roster, logKey: SigningKey): Envelope {
  const by = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  const ordered = schema.parse({
    ...roster,
    members: [...roster.members].sort((a, b) => by(a.peer, b.peer)),
    revoked: [...roster.revoked].sort(by),
  });
  return signEnvelope(ROSTER_PAYLOAD_TYPE, Buffer.from(JSON.stringify(ordered)), logKey);
}

export const encodeRoster = encodeEnvelope;

/** A roster from the bytes of its blob, signed by the mesh's log key (raw) for this mesh; else `SF_NOT_PROVED`. */
export function openRoster(text: string | Uint8Array, logKey: Uint8Array, mesh: string): Roster {
  const payload = openEnvelope(parseEnvelope(text, rosterBytesMax), ROSTER_PAYLOAD_TYPE, logKey);
  const roster = parseDocument(payload, schema, rosterBytesMax, 'the roster');
  if (roster.mesh !== mesh) {
    throw new SuperfleetError('SF_NOT_PROVED', 'the roster is of another mesh', {
      expected: mesh,
      got: roster.mesh,
    });
  }
  return roster;
}

/** A roster of this mesh signed by the log key of its epoch; else `SF_NOT_PROVED`. */
export function openRosterOf(leadership: Leadership, text: string | Uint8Array): Roster {
  const keys = logKeys(leadership);
  let why: unknown = null;
  for (let epoch = keys.length; epoch > 0; epoch -= 1) {
    try {
      const roster = openRoster(text, keys[epoch - 1]!, leadership.genesis.mesh);
      if (roster.epoch === epoch) return roster;
      throw new SuperfleetError(
        'SF_NOT_PROVED',
        `a roster of epoch ${roster.epoch} is signed by that of ${epoch}`,
      );
    } catch (error) {
      why ??= error;
    }
  }
  throw why;
}

/** The roster to hold on to: `next` only where it is newer than `held` (by epoch, then version). */
export function newerRoster(held: Roster | null, next: Roster): Roster {
  if (held === null || next.epoch > held.epoch) return next;
  return next.epoch === held.epoch && next.version > held.version ? next : held;
}

/** The member of this peer id; null for strangers and the revoked. */
export function rosterMember(roster: Roster, peer: string): RosterMember | null {
  if (roster.revoked.includes(peer)) return null;
  return roster.members.find((member) => member.peer === peer) ?? null;
}
