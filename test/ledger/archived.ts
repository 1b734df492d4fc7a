import type { Recalled, Wanted } from '../../hub/core/types.ts';
import type { Entry } from '../../ledger/lines/entry.ts';
import { initialState, type MeshState, replay } from '../../ledger/state/state.ts';

/** The state that keeps every task. */
export const replayAll = (entries: Iterable<Entry>): MeshState =>
  replay(entries, initialState({ endedTasks: Number.MAX_SAFE_INTEGER }));

/** What an archive answers, found by a replay of everything. */
export function recalledFrom(entries: Iterable<Entry>, wanted: Wanted): Recalled {
  const { byId, byNumber } = replayAll(entries).tasks;
  if ('task' in wanted) {
    const task = byId.get(wanted.task);
    return { tasks: task === undefined ? [] : [task] };
  }
  const { numbers, states, by, limit } = wanted;
  const found: Recalled & { looked: number[] } = { tasks: [], looked: [] };
  for (const number of numbers) {
    if (found.tasks.length >= limit) break;
    found.looked.push(number);
    const task = byNumber.get(number);
    if (task === undefined || (by !== null && !(task.by.kind === 'peer' && task.by.peer === by))) continue;
    if (states === null || states.includes(task.state)) found.tasks.push(task);
  }
  return found;
}
