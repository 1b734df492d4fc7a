import { z } from 'zod';
import { nodeParam } from '../../node/api/params.ts';
import { commitId, labels, memberName, ownerName, roles, sha256Hex } from '../../protocol/ids.ts';
import {
  afterMax,
  answerCharactersMax,
  batchMax,
  capacityMax,
  durabilityMax,
  inviteMs,
} from '../../protocol/limits.ts';
import { knownPolicy } from '../../protocol/policy-schema.ts';
import { schedule, scheduleName } from '../../protocol/schedule.ts';
import { repositoryBundle, taskSpec } from '../../protocol/task.ts';

export { listQuery, nodeParam, taskParam } from '../../node/api/params.ts';

/** Bodies and queries of `/v1`; unknown fields are refused. */

/** The longest an invite may live. */
const inviteMsMax = 366 * 86_400_000;
/** Commits a submitter may ask about at once. */
export const knownCommitsMax = 256;

export const handoverBody = z.strictObject({ node: nodeParam });
export const submitBody = z.strictObject({
  spec: taskSpec,
  bundle: repositoryBundle.nullable().default(null),
  schedule: schedule
    .refine(
      ({ deadlineMs, queueMs = 0 }) => deadlineMs === undefined || queueMs <= deadlineMs,
      'a queueMs of at most the deadlineMs: both count from the submission',
    )
    .optional(),
  /** Refused where the same submitter has the same task open already. @default false */
  once: z.boolean().optional(),
});
/** A founder of an older release takes no heed of it, and queues. */
export const submitQuery = z.strictObject({ unmet: z.enum(['refuse', 'say']).optional() });
/** All of them or none. */
export const wholeBatchBody = z.strictObject({
  items: z
    .array(
      submitBody.extend({
        name: scheduleName.optional(),
        /** Names of others of the batch, or ids of tasks. */
        after: z.array(scheduleName).max(afterMax).optional(),
      }),
    )
    .min(1)
    .max(batchMax),
});
export const dryRunBody = submitBody.pick({ spec: true, schedule: true });
export const answerBody = z.strictObject({ text: z.string().trim().min(1).max(answerCharactersMax) });
export const continueBody = z.strictObject({ text: answerBody.shape.text.nullable().default(null) });
export const appliedBody = z.strictObject({ commit: commitId });
export const knownBody = z.strictObject({ commits: z.array(commitId).max(knownCommitsMax) });
export const inviteBody = z.strictObject({
  lifetimeMs: z.int().min(1000).max(inviteMsMax).default(inviteMs),
  uses: z.int().min(1).max(4096).default(1),
  roles: roles.min(1).default(['worker', 'submitter']),
  labels: labels.default({}),
  owner: ownerName.nullable().default(null),
  policy: knownPolicy.nullable().default(null),
  replace: nodeParam.nullable().default(null),
});
export const approveBody = z.strictObject({
  name: memberName.nullable().default(null),
  owner: ownerName.nullable().default(null),
  roles: roles.min(1).default(['worker', 'submitter']),
});
export const pauseBody = z.strictObject({ drain: z.boolean().default(false) });
const attempts = z.int().min(1).max(capacityMax);
export const capacityBody = z
  .strictObject({ ring: attempts.optional(), elastic: attempts.optional() })
  .refine(({ ring, elastic }) => ring !== undefined || elastic !== undefined, 'expected ring or elastic');
export const policyDefaultBody = z.strictObject({ policy: knownPolicy.nullable() });
export const durabilityBody = z.strictObject({ replicas: z.int().min(0).max(durabilityMax) });
/** What still runs on a drained machine after so long is taken away; null: it runs to its end. At most a year. */
export const drainBody = z.strictObject({
  deadlineMs: z.int().min(0).max(inviteMsMax).nullable().default(null),
});
export const trustBody = z.strictObject({ vouch: z.boolean().default(false) });
export const samplingBody = z.strictObject({ on: z.boolean() });
export const renameBody = z.strictObject({ name: memberName });
export const revokeBody = z.strictObject({ reason: z.string().max(512).nullable().default(null) });

export const tailQuery = z.strictObject({
  from: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  follow: z.enum(['0', '1']).default('0'),
});
const place = z.coerce.number().int().max(Number.MAX_SAFE_INTEGER);
/** Of an entry by its index, or that the log grew since it had so many entries. */
export const proofQuery = z.union([
  z.strictObject({ index: place.min(0) }),
  z.strictObject({ since: place.min(1) }),
]);
export const followQuery = z.strictObject({ follow: z.enum(['0', '1']).default('0') });

export const blobParam = sha256Hex;
export const codeParam = z
  .string()
  .regex(/^\d[\d-]{6,14}\d$/, 'a code is what both screens show: 123-456-789');
