import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { count } from '../../protocol/ids.ts';
import { workDone } from '../../protocol/receipt.ts';
import { attemptResult } from '../../protocol/session.ts';
import { failureReason, fault } from '../../protocol/task.ts';
import { usage } from '../../protocol/usage.ts';
import type { Performed } from '../attempt/perform.ts';

const { exitCode, commit, bundle, log, artifacts } = attemptResult.shape;

/** What a worker says came of an attempt. Of a receipt's bounds, the receipt itself is asked. */
const performed = z.strictObject({
  facts: z.strictObject({
    exitCode,
    ran: z.boolean(),
    checks: z.array(z.strictObject({ line: z.string(), exitCode })).max(64),
    checksChanged: z.array(z.string()),
    checksFlaky: z.array(count.max(63)).max(64),
    commit,
    bundle,
    artifacts,
    partial: z.boolean(),
    work: workDone.nullable(),
    usage: usage.nullable(),
  }),
  failure: z
    .strictObject({ reason: failureReason, fault, message: z.string(), failedModels: z.array(z.string()) })
    .nullable(),
  log,
});

/** `SF_FRAME` where it is not of the form. */
export function performedOf(said: unknown): Performed {
  const read = performed.safeParse(said);
  if (read.success) return read.data as Performed;
  const { path, message } = read.error.issues[0]!;
  throw new SuperfleetError(
    'SF_FRAME',
    `a worker's result is not of the form: ${path.join('.')}: ${message}`,
  );
}
