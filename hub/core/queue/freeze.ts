import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FounderContext } from '../context.ts';
import { settle } from '../lifecycle.ts';

/** Whether a queued task waits for a person's word to a plugin. */
export function isFrozen(ctx: FounderContext, task: TaskRecord): boolean {
  if (ctx.plugins.park(ctx, task) === null) {
    ctx.frozen.delete(task.id);
    return false;
  }
  ctx.frozen.add(task.id);
  ctx.holds.leave(task);
  return true;
}

/** A person has changed something: those that need wait no longer go on. */
export function thaw(ctx: FounderContext): void {
  for (const id of [...ctx.frozen]) {
    const task = ctx.state.tasks.byId.get(id);
    if (task !== undefined && ctx.plugins.park(ctx, task) === null) settle(ctx, task);
  }
}
