import { z } from 'zod';
import { messageSchema } from './frame.ts';
import { memberName, meshId, nonce, ownerName, sha256Hex } from './ids.ts';
import { entryLineBytesMax } from './limits.ts';
import { policyText } from './policy-schema.ts';

/**
 * `/superfleet/join/1.0.0`: the one protocol a stranger may speak, to the founder only. One stream is one attempt:
 *
 *     describe                                   → founder
 *     invite {secret}                            → admitted | refused
 *     request {commitment} → nonce · reveal {nonce} → pending … admitted | refused
 *
 * The peers' identities are those the connection proved; nothing here repeats them.
 */
export const JOIN_PROTOCOL = '/superfleet/join/1.0.0';

/** Largest frame of a joiner: a name, an owner and a digest. */
export const joinRequestBytesMax = 4 * 1024;
/** A roster larger than this is not sent along: the new member fetches it as a blob. */
export const joinRosterBytesMax = 128 * 1024;

const applicant = {
  mesh: meshId,
  name: memberName,
  owner: ownerName.nullable(),
  /** A person chose the name: taken, it is refused. Else (the host's name) a free one like it will do. */
  exact: z.boolean().optional(),
};

export const joinerMessage = z.discriminatedUnion('type', [
  /** Is this a founder, and of which mesh? */
  z.object({ type: z.literal('describe') }),
  z.object({ type: z.literal('invite'), ...applicant, secret: z.string().regex(/^[0-9a-f]{32}$/) }),
  /** `commitment` binds the joiner's nonce before it sees the founder's. */
  z.object({ type: z.literal('request'), ...applicant, commitment: sha256Hex }),
  z.object({ type: z.literal('reveal'), nonce }),
]);
export type JoinerMessage = z.infer<typeof joinerMessage>;
export const joinerSchema = messageSchema(joinerMessage);

export const joinAnswer = z.discriminatedUnion('type', [
  z.object({ type: z.literal('founder'), mesh: meshId, name: memberName }),
  z.object({ type: z.literal('nonce'), nonce }),
  /** Both screens show the code now; a person has this long. */
  z.object({ type: z.literal('pending'), ms: z.int().positive() }),
  z.object({
    type: z.literal('admitted'),
    /** Line of entry 0: its leaf hash is the mesh id, and it names the key that signed the rest. */
    genesis: z.string().max(entryLineBytesMax),
    /** Lines by which the mesh changed hands since. @default none */
    handovers: z.array(z.string().max(entryLineBytesMax)).max(64).optional(),
    /** DSSE envelopes as JSON text. */
    certificate: z.string().max(32 * 1024),
    roster: z.string().max(joinRosterBytesMax).nullable(),
    /** When this machine works, by the invite. @default as its owner says */
    policy: policyText.optional(),
  }),
  z.object({
    type: z.literal('refused'),
    code: z.string().max(64),
    message: z.string().max(1024),
    hint: z.string().max(1024).nullable(),
  }),
]);
export type JoinAnswer = z.infer<typeof joinAnswer>;
export const joinAnswerSchema = messageSchema(joinAnswer);
