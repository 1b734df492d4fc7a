import { z } from 'zod';
import { handoverBody } from '../../protocol/handover.ts';
import {
  blobId,
  commitId,
  correlationId,
  count,
  labels,
  memberName,
  meshId,
  nonce,
  ownerName,
  peerId,
  roles,
  secretName,
  sha256Hex,
  taskId,
} from '../../protocol/ids.ts';
import {
  answerCharactersMax,
  artifactsMax,
  capacityMax,
  durabilityMax,
  questionCharactersMax,
} from '../../protocol/limits.ts';
import { lesson, memoryId, notePath, noteText, noteTopic, rememberedMax } from '../../protocol/memory.ts';
import { policyText } from '../../protocol/policy-schema.ts';
import { schedule } from '../../protocol/schedule.ts';
import { attemptRole, goalStart, resultBlob } from '../../protocol/session.ts';
import {
  artifact,
  failureReason,
  fault,
  modelName,
  repositoryBundle,
  repositoryInput,
  taskSpec,
} from '../../protocol/task.ts';
import { loggedGrant, loggedPool, loggedPrice, loggedUsage } from '../../protocol/usage.ts';

/**
 * What can stand in the log, by type. An entry of a type that is not here is kept, replicated, proved, and
 * skipped by every reducer, so an older program can hold a newer log.
 */

/** Who did a thing: an authenticated peer, the OS user of the founder's socket (a claim), or the founder itself. */
export const actor = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('peer'), peer: peerId }),
  z.strictObject({ kind: z.literal('local'), user: z.string().max(64), claimed: z.literal(true) }),
  z.strictObject({ kind: z.literal('founder') }),
]);
export type Actor = z.infer<typeof actor>;

/** What a limit is of: all work of a day (UTC), each task, a model in a day, the work of a member in a day. */
const budgetScope = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('day') }),
  z.strictObject({ kind: z.literal('session') }),
  z.strictObject({ kind: z.literal('model'), model: modelName }),
  z.strictObject({ kind: z.literal('member'), member: peerId }),
]);
export type BudgetScope = z.infer<typeof budgetScope>;
/** Of every sum of money; null: none was ever named. */
const currency = z
  .string()
  .regex(/^[A-Z]{3}$/)
  .nullable();

const publicKey = z.base64().length(44);
/** Tasks of one kind on one repository with one program or check. */
const taskClass = {
  kind: z.string().max(32),
  repository: repositoryInput.pick({ id: true, name: true }).nullable(),
  word: z.string().max(128),
};
const attempt = { task: taskId, attempt: count.min(1), correlation: correlationId };

export const EVENT_BODIES = {
  /** Genesis, index 0: its leaf hash is the mesh id. Keys are raw 32-byte Ed25519 public keys in base64. */
  'mesh.created': z.strictObject({
    format: z.literal(1),
    name: memberName,
    founder: peerId,
    logKey: publicKey,
    recoveryKey: publicKey,
    /** A fork names what it was forked from. */
    parent: z.strictObject({ mesh: meshId, checkpoint: z.string() }).nullable(),
    /** 128 random bits, so that two meshes made alike differ. */
    nonce,
  }),
  /** The founder's last entry, or the first of a promoted one: alone in its batch, whose checkpoint the same key signs. */
  'epoch.handover': handoverBody,
  /**
   * The state at an earlier checkpoint, as a file beside the log holds it. Changes nothing: whoever replays from that file,
   * or comes past that checkpoint, can compare.
   */
  'log.snapshot': z.strictObject({
    /** Entries under the checkpoint, and its root. */
    size: count.min(1),
    root: sha256Hex,
    /** RFC 6962 roots of the perfect subtrees of a tree of that size, largest first. */
    frontier: z.array(sha256Hex).min(1).max(53),
    /** SHA-256 of the canonical JSON (RFC 8785) of each reducer's state. */
    reducers: z
      .array(z.strictObject({ name: z.string().max(64), version: count, digest: sha256Hex }))
      .max(64),
  }),
  'mesh.paused': z.strictObject({ by: actor }),
  'mesh.resumed': z.strictObject({ by: actor }),
  /** Nothing more is given out; what runs is let finish. Ended by `mesh.resumed`. */
  'mesh.draining': z.strictObject({ by: actor }),
  /** Attempts that may run in the whole mesh: at any time, and while work waits. */
  'mesh.capacity': z.strictObject({
    ring: count.min(1).max(capacityMax),
    elastic: count.min(1).max(capacityMax),
    by: actor,
  }),
  /** When every machine works at most, whatever its owner says; null: as owners and invites say. */
  'mesh.policy': z.strictObject({ policy: policyText.nullable(), by: actor }),
  /** So many replicas must have synced an entry, besides the founder, before what rests on it leaves; 0: none. */
  'mesh.durability': z.strictObject({ replicas: count.max(durabilityMax), by: actor }),

  'invite.created': z.strictObject({
    /** SHA-256 of the secret; the secret itself is never written down. */
    invite: sha256Hex,
    /** Unix ms on the founder's clock. */
    expiresAt: count,
    uses: count.min(1),
    roles,
    labels,
    owner: ownerName.nullable(),
    /** When machines let in by it work, whatever their owners add. @default as their owners say */
    policy: policyText.optional(),
    /** The member whose place the machine takes that joins by it: its name, roles, labels and owner; it is shut out then. */
    replaces: peerId.optional(),
    by: actor,
  }),
  'member.admitted': z.strictObject({
    peer: peerId,
    name: memberName,
    owner: ownerName,
    roles,
    labels,
    /** Of the invite, handed to the machine with its admission. @default as its owner says */
    policy: policyText.optional(),
    via: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('genesis') }),
      z.strictObject({ kind: z.literal('invite'), invite: sha256Hex }),
      z.strictObject({ kind: z.literal('approval'), code: z.string().max(16) }),
    ]),
    by: actor,
  }),
  /** `eligible` false: drained; running work goes on, nothing new is given. */
  'member.eligibility': z.strictObject({
    peer: peerId,
    eligible: z.boolean(),
    /** Of one that is drained: what still runs there then (Unix ms) is taken away. @default it may run to its end */
    evictAt: count.optional(),
    by: actor,
  }),
  /** From here on it has this name, and its old one is free. Certificates say what was true when it was admitted. */
  'member.renamed': z.strictObject({ peer: peerId, name: memberName, by: actor }),
  'member.rejected': z.strictObject({ peer: peerId, name: memberName, by: actor }),
  'member.revoked': z.strictObject({ peer: peerId, reason: z.string().max(512).nullable(), by: actor }),
  'member.left': z.strictObject({ peer: peerId, by: actor }),

  /** Its word was proved wrong: nothing is given to it until a person trusts it again (`member.trusted`). */
  'member.quarantined': z.strictObject({
    peer: peerId,
    /** Of the task and the attempt that show it. */
    task: taskId,
    attempt: count.min(1),
    why: z.string().max(512),
  }),
  /** A person ends its quarantine. `vouched`: its results count from here on like those of a member with a long valid record. */
  'member.trusted': z.strictObject({ peer: peerId, vouched: z.boolean(), by: actor }),
  /** Whether results of members with a long valid record are verified by sample only. @default off */
  'trust.sampling': z.strictObject({ on: z.boolean(), by: actor }),

  'secret.set': z.strictObject({ name: secretName, by: actor }),
  'secret.removed': z.strictObject({ name: secretName, by: actor }),

  'task.submitted': z.strictObject({
    task: taskId,
    correlation: correlationId,
    spec: taskSpec,
    /** What the submitter sent so that `spec.repository.base` can be had; null: the mesh held it already. */
    bundle: repositoryBundle.nullable(),
    /** The task this one repeats (`task rerun`). */
    rerunOf: taskId.nullable(),
    /** What it begins with, of the task that it continues (`task continue`). @default the base */
    continues: z.strictObject(goalStart.shape).optional(),
    /** When and where it may run. @default at any time, anywhere */
    schedule: schedule.optional(),
    by: actor,
  }),
  /** A lease of a task to one member; its epoch is the entry's. */
  'attempt.assigned': z.strictObject({ ...attempt, role: attemptRole, member: peerId, nonce }),
  'attempt.started': z.strictObject({ ...attempt }),
  /** The lease is over without an accepted result. */
  'attempt.ended': z.strictObject({
    ...attempt,
    fault,
    reason: failureReason,
    detail: z.string().max(2048).nullable(),
    exitCode: z.int().nullable(),
    /** Digest of the receipt where the executor signed one for its failure, and the blob that holds it. */
    receipt: sha256Hex.nullable(),
    envelope: blobId.nullable(),
    log: resultBlob.nullable(),
  }),
  /** The one accepted result of a task. Every blob named is synced on the founder's disk. */
  'task.executed': z.strictObject({
    ...attempt,
    exitCode: z.int().nullable(),
    commit: commitId.nullable(),
    receipt: sha256Hex,
    envelope: blobId,
    bundle: resultBlob.nullable(),
    log: resultBlob.nullable(),
    artifacts: z.array(artifact).max(artifactsMax),
    checksChanged: z.array(z.string().max(512)).max(64),
  }),
  /** A verifier's signed word on a receipt. */
  'task.verified': z.strictObject({
    ...attempt,
    receipt: sha256Hex,
    verification: sha256Hex,
    envelope: blobId,
    passed: z.boolean(),
    sameOwner: z.boolean(),
    detail: z.string().max(2048).nullable(),
  }),
  /** The word of one of the machines that are to run a task's command and agree, where more of them are to be asked. */
  'task.replicated': z.strictObject({
    ...attempt,
    receipt: sha256Hex,
    verification: sha256Hex,
    envelope: blobId,
    /** It came to the same as the accepted result. */
    agrees: z.boolean(),
    detail: z.string().max(2048).nullable(),
  }),
  /** By lot: whether the accepted result of this attempt is verified, where such results are only with this probability. */
  'task.sampled': z.strictObject({
    ...attempt,
    member: peerId,
    /** Valid results in a row that it had by then. */
    valid: count,
    probability: z.number().min(0).max(1),
    verify: z.boolean(),
  }),
  /** What was delivered and rests on the word of `of` alone, which is in quarantine since, is to be verified again by this member. */
  'reverification.assigned': z.strictObject({ ...attempt, member: peerId, nonce, of: peerId }),
  /** That lease is over without a word on the result. */
  'reverification.ended': z.strictObject({
    ...attempt,
    fault,
    reason: failureReason,
    detail: z.string().max(2048).nullable(),
  }),
  /**
   * What came of it. The task stays as it ended. `unavailable`: nobody can say, and `detail` says why; attempt, `by` and what they
   * signed are null then.
   */
  'task.reverified': z.strictObject({
    task: taskId,
    correlation: correlationId,
    /** Whose word it rested on. */
    of: peerId,
    outcome: z.enum(['confirmed', 'contradicted', 'unavailable']),
    attempt: count.min(1).nullable(),
    by: peerId.nullable(),
    /** Of the accepted result. */
    receipt: sha256Hex,
    verification: sha256Hex.nullable(),
    envelope: blobId.nullable(),
    sameOwner: z.boolean().nullable(),
    detail: z.string().max(2048).nullable(),
  }),
  /** A result that came too late, or of a lease that was not the task's: kept, and nothing changed. */
  'task.evidence': z.strictObject({
    ...attempt,
    epoch: count,
    member: peerId,
    receipt: sha256Hex.nullable(),
    envelope: blobId.nullable(),
    why: z.string().max(512),
  }),
  /** A model needs to know something before it can go on: the task waits for a person's answer when the attempt has ended. */
  'task.asked': z.strictObject({ ...attempt, question: z.string().min(1).max(questionCharactersMax) }),
  /** A model is not sure of what it did in this attempt, which is about to be accepted. */
  'task.doubted': z.strictObject({ ...attempt }),
  /** Checks, by their place in the task, that said both red and green of the same files in this attempt: they prove nothing. */
  'task.flaky': z.strictObject({ ...attempt, checks: z.array(count.max(63)).min(1).max(64) }),
  /** A model refused the task in this attempt, which is about to end: another is to look at it. */
  'task.rejected': z.strictObject({ ...attempt, model: z.string().max(128) }),
  /** What a model did of its goal before it said, in this attempt, that it goes no further. The bundle is synced on the founder's disk. */
  'task.partial': z.strictObject({
    ...attempt,
    commit: commitId,
    bundle: resultBlob,
    left: z.string().max(questionCharactersMax),
  }),
  'task.answered': z.strictObject({
    task: taskId,
    correlation: correlationId,
    text: z.string().min(1).max(answerCharactersMax),
    by: actor,
  }),
  'task.cancelled': z.strictObject({ task: taskId, correlation: correlationId, by: actor }),
  /** The convergence record: the log's summary of a finished task, and the entry that finishes it. */
  'task.converged': z.strictObject({
    task: taskId,
    correlation: correlationId,
    state: z.enum(['delivered', 'failed', 'cancelled', 'rejected']),
    reason: failureReason.nullable(),
    detail: z.string().max(2048).nullable(),
    verified: z.boolean(),
    confidence: z.number().min(0).max(1),
    executor: peerId.nullable(),
    verifier: peerId.nullable(),
    sameOwner: z.boolean().nullable(),
    attempts: count,
    commit: commitId.nullable(),
    exitCode: z.int().nullable(),
    receipt: sha256Hex.nullable(),
    verification: sha256Hex.nullable(),
    /** What later tasks may be taught by: measured facts only. */
    learned: z.strictObject({
      queuedMs: count.nullable(),
      runMs: count.nullable(),
      faults: z.array(z.strictObject({ member: peerId, reason: failureReason, fault })).max(32),
    }),
  }),
  /** What an attempt at a goal changed and what was red, as its executor signed it; the attempt is about to end. */
  'task.learned': z.strictObject({ ...attempt, ...lesson.shape }),
  /** Records that are sent with an attempt at a goal, the best first. */
  'memory.recalled': z.strictObject({ ...attempt, records: z.array(memoryId).min(1).max(rememberedMax) }),
  /** Somebody leaves a note: a claim, for tasks of the same submitter. Its id is `n` and the index of this entry. */
  'memory.noted': z.strictObject({
    /** Null: about any work of this submitter. */
    repository: repositoryInput.pick({ id: true, name: true }).nullable(),
    file: notePath.nullable(),
    topic: noteTopic.nullable(),
    text: noteText,
    by: actor,
  }),
  /** Sent with no attempt from here on; what the log says of it stays. */
  'memory.forgotten': z.strictObject({ record: memoryId, by: actor }),
  /** A person merged, cherry-picked or checked out a result. */
  'task.applied': z.strictObject({ task: taskId, commit: commitId, by: actor }),

  /** So many tasks of a class failed in a row by their own fault that new ones of it wait for a person. */
  'class.frozen': z.strictObject({ ...taskClass, failures: count.min(1) }),
  'class.thawed': z.strictObject({ ...taskClass, by: actor }),

  /** From here on this is all of what may be taken there; null: there is no limit. */
  'budget.set': z.strictObject({ scope: budgetScope, limit: loggedPool.nullable(), currency, by: actor }),
  /** What a model in a cloud costs; null: it has no price, and is not asked. */
  'budget.priced': z.strictObject({ model: modelName, price: loggedPrice.nullable(), currency, by: actor }),
  /** An attempt was given out with this allowance, which is kept for it until it ends. */
  'budget.reserved': z.strictObject({ ...attempt, member: peerId, allowance: loggedGrant }),
  /** What models were asked for an attempt, as its member counted; comes before the attempt's end. */
  'budget.spent': z.strictObject({ ...attempt, member: peerId, usage: loggedUsage }),
  /** For the first time since `since` (Unix ms; of a task: since it was sent) all of it was taken. */
  'budget.reached': z.strictObject({
    scope: budgetScope,
    /** The task, where the limit is that of each. */
    session: taskId.nullable(),
    since: count,
    limit: loggedPool,
    spent: loggedPool,
  }),
} as const;

export type EventType = keyof typeof EVENT_BODIES;
export type EventBody<T extends EventType> = z.infer<(typeof EVENT_BODIES)[T]>;
/** An event a core decided on, before the log gives it index, epoch and time. */
export type LogEvent = { [T in EventType]: { type: T; body: EventBody<T> } }[EventType];

const EVENT_TYPES: ReadonlySet<string> = new Set(Object.keys(EVENT_BODIES));
export const isEventType = (type: string): type is EventType => EVENT_TYPES.has(type);
