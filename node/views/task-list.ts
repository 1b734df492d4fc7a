import type { Actor } from '../../ledger/lines/events.ts';
import type { Selection } from '../../ledger/log/archive.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { pageItemsMax } from '../../protocol/limits.ts';
import { type TaskState, TERMINAL_STATES } from '../../protocol/task.ts';
import type { Page, TaskObject } from '../api/objects.ts';
import { taskObject } from './task.ts';

/** Tasks looked at for one page; a page may be short and still have a `next`. */
const scannedMax = 20_000;
/** Tasks of one page that are read from the log because they have left the state. */
const recalledTasksMax = 256;
/** Tasks looked at in the log's index for one page; about a third of a second. The page may be short and have a `next`. */
const lookedUpMax = 4_096;

/** Which tasks are asked for, and whose the asker may see. */
export interface TaskQuery {
  /** null: in any. */
  states: readonly TaskState[] | null;
  /** Sent with this id; null: with any. */
  correlation: string | null;
  /** Number of the last task of the page before; null: the newest first. */
  cursor: string | null;
  limit: number;
  mayRead(submitter: Actor): boolean;
}

/** Tasks that were read from the log because they have left the state, and the numbers that were looked at for it. */
export interface Archived {
  tasks: Iterable<TaskRecord>;
  looked: readonly number[];
}

/**
 * A page, newest first. Of tasks that have left the state it has those that were read from the log, and ends before the
 * first that was not `looked` at.
 */
export function listTasks(state: MeshState, query: TaskQuery, archived: Archived): Page<TaskObject> {
  const { numbers, more } = candidates(state, query);
  const recalled = new Map([...archived.tasks].map((task) => [task.number, task]));
  const passed = new Set(archived.looked);
  const itemsMax = itemsOf(query);
  const items: TaskObject[] = [];
  for (const [at, number] of numbers.entries()) {
    if (items.length >= itemsMax) return { items, next: String(numbers[at - 1]) };
    const task = state.tasks.byNumber.get(number) ?? recalled.get(number);
    if (task !== undefined && isListed(query, task)) items.push(taskObject(state, task));
    if (task === undefined && !passed.has(number)) return { items, next: String(number + 1) };
  }
  return { items, next: more ? String(numbers.at(-1)) : null };
}

/** What is to be read from the log for this page; null: nothing. `by`: only what this member sent, where that is known. */
export function wantedForList(state: MeshState, query: TaskQuery, by: string | null): Selection | null {
  const itemsMax = itemsOf(query);
  const numbers: number[] = [];
  let held = 0;
  for (const number of candidates(state, query).numbers) {
    const task = state.tasks.byNumber.get(number);
    if (task === undefined) numbers.push(number);
    else if (isListed(query, task)) held += 1;
    if (held >= itemsMax || numbers.length >= lookedUpMax) break;
  }
  if (numbers.length === 0) return null;
  return { numbers, states: query.states, by, limit: Math.min(itemsMax, recalledTasksMax) };
}

/** Numbers of the tasks that are looked at for a page, and whether there are others after them. */
function candidates(state: MeshState, { states, cursor }: TaskQuery): { numbers: number[]; more: boolean } {
  const { count, byId, open } = state.tasks;
  const before = Math.min(count, cursor === null ? count : numberOf(cursor));
  // Where only open tasks are asked for, the finished ones of years are not looked at.
  if (states?.every((wanted) => !TERMINAL_STATES.has(wanted))) {
    const all = [...open].map((id) => byId.get(id)!.number).filter((number) => number < before);
    all.sort((a, b) => b - a);
    return { numbers: all.slice(0, scannedMax), more: all.length > scannedMax };
  }
  const length = Math.min(before, scannedMax);
  return { numbers: Array.from({ length }, (_, at) => before - 1 - at), more: before > length };
}

const itemsOf = ({ limit }: TaskQuery): number => Math.max(1, Math.min(limit, pageItemsMax));

const isListed = ({ states, correlation, mayRead }: TaskQuery, task: TaskRecord): boolean =>
  (states === null || states.includes(task.state)) &&
  (correlation === null || task.correlation === correlation) &&
  mayRead(task.by);

function numberOf(cursor: string): number {
  if (/^(0|[1-9][0-9]{0,14})$/.test(cursor)) return Number(cursor);
  throw new SuperfleetError('SF_USAGE', 'no such cursor', {
    expected: 'the `next` of the page before',
    got: cursor,
  });
}
