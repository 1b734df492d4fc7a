import { type WrittenEvent, writtenEvent } from '../../../ledger/lines/line.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import type { Lesson } from '../../../protocol/memory.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import type { ReceiptFacts } from './checks.ts';

/**
 * Logs what an attempt at a goal measured, where its machine told of it: what it changed, and which checks were red. Before the entry
 * that ends the attempt, and in one step with it.
 */
export function learn(ctx: FounderContext, { lease, correlation }: LiveLease, { work }: ReceiptFacts): void {
  const { task, attempt } = lease;
  if (work?.lesson === undefined || ctx.task(task).spec.kind !== 'code') return;
  const body = { task, attempt, correlation, ...wellFormed(work.lesson) };
  let event: WrittenEvent;
  try {
    event = writtenEvent({ type: 'task.learned', body });
  } catch (thrown) {
    // Within its bounds, but longer than a line when written: a result is not refused for it.
    if (thrown instanceof SuperfleetError) return;
    throw thrown;
  }
  ctx.append(event);
}

/** Texts that a line of the log can hold. */
const wellFormed = ({ files, failures, note }: Lesson): Lesson => ({
  files: files.map((path) => path.toWellFormed()),
  failures: failures.map((failure) => ({ ...failure, pattern: failure.pattern.toWellFormed() })),
  ...(note === undefined ? {} : { note: note.toWellFormed() }),
});
