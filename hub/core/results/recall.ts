import type { Actor } from '../../../ledger/lines/events.ts';
import { hasArchived } from '../../../ledger/state/task-set.ts';
import { wantedForList } from '../answers/queries.ts';
import type { FounderContext } from '../context.ts';
import type { Operation, Recalled, Wanted } from '../types.ts';

/** Tasks that have left the state and that this operation is about; null where it needs none from the log. */
export function wantedFor(ctx: FounderContext, by: Actor, operation: Operation): Wanted | null {
  const { tasks } = ctx.state;
  if (!hasArchived(tasks)) return null;
  switch (operation.op) {
    case 'task.get':
    case 'task.why':
    case 'task.stop':
    case 'task.rerun':
    case 'task.answer':
    case 'task.continue':
    case 'task.applied':
      return tasks.byId.has(operation.task) ? null : { task: operation.task };
    case 'task.list':
      return wantedForList(ctx, by, operation);
    default:
      return null;
  }
}

/** What `work` gives where the core can see these tasks besides those of its state. */
export function withRecalled<T>(ctx: FounderContext, { tasks }: Recalled, work: () => T): T {
  ctx.recalled = new Map(tasks.map((task) => [task.id, task]));
  try {
    return work();
  } finally {
    ctx.recalled = new Map();
  }
}
