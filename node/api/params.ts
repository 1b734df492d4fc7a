import { z } from 'zod';
import { taskId } from '../../protocol/ids.ts';
import { pageItemsMax } from '../../protocol/limits.ts';
import { TASK_STATES } from '../../protocol/task.ts';

/** What stands in paths and queries of `/v1` that only reads. */
export const taskParam = taskId;

export const nodeParam = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'a node is named by its name or peer id');

export const listQuery = z.strictObject({
  state: z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(TASK_STATES)).max(TASK_STATES.length))
    .nullable()
    .default(null),
  correlation: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, '1–64 letters, digits, . _ -')
    .nullable()
    .default(null),
  cursor: z.string().max(256).nullable().default(null),
  limit: z.coerce.number().int().min(1).max(pageItemsMax).default(100),
});
