import { z } from 'zod';
import { count, labelKey, taskId } from './ids.ts';
import {
  afterMax,
  deadlineMsMax,
  groupLimitMax,
  priorityDefault,
  priorityMax,
  replicasMax,
} from './limits.ts';

/** A word that a submitter chooses for what belongs together. */
export const scheduleName = z
  .string()
  .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,62}[A-Za-z0-9])?$/, 'a name is 1–64 letters, digits, . _ / -');

/** What a machine must have as a whole, its executors and verifiers alike. How much a task may take is in its `limits`. */
export const machineNeeds = z.strictObject({
  cpus: count.min(1).max(65_536).optional(),
  memoryBytes: count.max(2 ** 50).optional(),
  /** Free where its attempts lie, as it last said. */
  diskBytes: count.max(2 ** 50).optional(),
  /** Limits that the kernel keeps, not ones that are only watched. */
  strictLimits: z.literal(true).optional(),
});
export type MachineNeeds = z.infer<typeof machineNeeds>;

/** Where tasks of one name run, seen together. */
export const spreading = z.strictObject({
  name: scheduleName,
  /** Machines with the same value of this label count as one; null: each machine for itself. */
  over: labelKey.nullable(),
  /** Never two at one time on one of these; else: where the fewest of them run. */
  strict: z.boolean(),
});
export type Spreading = z.infer<typeof spreading>;

/**
 * When and where a task may run. The founder's business alone: it stands in the log, and is neither sent to members nor signed
 * by them. What is left out asks for nothing.
 */
export const schedule = z.strictObject({
  /** Higher ones go first; above the default it is the operator's to give. @default 50 */
  priority: z.int().min(0).max(priorityMax).optional(),
  /** Ends `failed` with reason `timeout` unless it was done so long after it was submitted. */
  deadlineMs: count.min(1).max(deadlineMsMax).optional(),
  /** The same unless a machine had begun it by then. */
  queueMs: count.min(1).max(deadlineMsMax).optional(),
  /** Tasks that must have been delivered before; where one ends otherwise, this one fails with reason `refused`. */
  after: z.array(taskId).min(1).max(afterMax).optional(),
  /** At most `limit` tasks of this name run at one time. */
  group: z.strictObject({ name: scheduleName, limit: z.int().min(1).max(groupLimitMax) }).optional(),
  spread: spreading.optional(),
  needs: machineNeeds.optional(),
  /** Delivered only when so many machines ran its command and made the same, whoever executed it among them. @default one runs it */
  replicas: z.int().min(2).max(replicasMax).optional(),
  /** Sent again by the same submitter with the same words, it is the same task. */
  key: scheduleName.optional(),
});
export type Schedule = z.infer<typeof schedule>;

export const priorityOf = (asked: Schedule | undefined): number => asked?.priority ?? priorityDefault;
