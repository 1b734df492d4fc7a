import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { FounderContext } from '../context.ts';
import { needOf } from '../queue/queue.ts';
import { mismatch } from './fit.ts';

/**
 * Models come and go while a machine is a member, and so does the room on its disk: they are waited for. Of a machine that has
 * not been heard since the founder started nothing is known but its name.
 */
export function lacksForGood(ctx: FounderContext, task: TaskRecord, member: MemberRecord): string | null {
  const need = { ...needOf(task), goal: false, model: null, brain: null, cloud: false, avoid: [], unfit: [] };
  const live = ctx.live.get(member.peer);
  if (live === undefined || live.capacity === null) {
    return need.on === null || need.on === member.name || need.on === member.peer
      ? null
      : `is not ${need.on}`;
  }
  return mismatch(need, member, live, ctx.labelsGiven(member.peer), () => true);
}
