import { z } from 'zod';
import { labelsMax } from './limits.ts';

const TASK_ID = /^[a-z2-7]{12}$/;

/** Mesh id: hex SHA-256 leaf hash of the genesis entry, which is the log's root at size one. */
export const meshId = z.string().regex(/^[0-9a-f]{64}$/, 'a mesh id is 64 hex digits');
/** Peer id: base58 text of an Ed25519 libp2p identity. */
export const peerId = z
  .string()
  .regex(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/, 'a peer id begins with 12D3KooW');
/** Task id: 12 characters of lower-case base32 (60 bits from the core's random source). */
export const taskId = z.string().regex(TASK_ID, 'a task id is 12 characters a–z, 2–7');
/** Whether a text has the form of a task id. */
export const isTaskId = (text: string): boolean => TASK_ID.test(text);
/** SHA-256 in hex. */
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'a digest is 64 hex digits');
/** Blob id: SHA-256 of the blob's manifest, in hex. */
export const blobId = sha256Hex;
/** A git commit: SHA-1 or SHA-256 object name. */
export const commitId = z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/, 'a commit is 40 or 64 hex digits');
/** Correlation id: carried by every message and entry from the submission on. */
export const correlationId = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/);
/**
 * Member names: what a person types, unique in a mesh. Wherever a node is named its name or its peer id will do, so no
 * name may look like a peer id: who took another's would be given what was meant for that one.
 */
export const memberName = z
  .string()
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, 'a name is 1–63 letters, digits, . _ -')
  .refine((name) => !/^12D3KooW/i.test(name), 'a name does not begin as a peer id does (12D3KooW)');
export const ownerName = z.string().regex(/^[^\p{C}]{1,64}$/u, 'an owner is 1–64 printable characters');
export const secretName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'a secret name is an identifier');
export const labelKey = z.string().regex(/^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/);
export const labelValue = z.string().regex(/^[^\p{C}]{0,63}$/u);
export const labels = z
  .record(labelKey, labelValue)
  .refine((all) => Object.keys(all).length <= labelsMax, `at most ${labelsMax} labels`);
/** 128-bit nonce in hex. */
export const nonce = z.string().regex(/^[0-9a-f]{32}$/);
/** A count, an index, a size, a duration in ms: an integer from 0 to 2^53 − 1. */
export const count = z.int().nonnegative();

export const ROLES = ['worker', 'replica', 'submitter', 'viewer', 'operator'] as const;
export const role = z.enum(ROLES);
export const roles = z.array(role).max(ROLES.length);

export type PeerIdText = z.infer<typeof peerId>;
export type TaskId = z.infer<typeof taskId>;
export type BlobId = z.infer<typeof blobId>;
export type Role = z.infer<typeof role>;

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

/** Source of random bytes; the drivers pass the system's, the simulator a seeded one. */
export type RandomBytes = (length: number) => Uint8Array;

export function newTaskId(random: RandomBytes): TaskId {
  let id = '';
  for (const byte of random(12)) id += BASE32[byte & 31];
  return id;
}

export function newNonce(random: RandomBytes): string {
  const { buffer, byteOffset, byteLength } = random(16);
  return Buffer.from(buffer, byteOffset, byteLength).toString('hex');
}
