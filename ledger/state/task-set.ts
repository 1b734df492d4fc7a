import { TERMINAL_STATES } from '../../protocol/task.ts';
import { loadPairs, type StateBounds, savePairs } from './reducer.ts';
import type { TaskRecord } from './task-record.ts';

/** Faults the log holds against one member. */
export interface Blame {
  machine: number;
  task: number;
}

/** The tasks that are open and those that ended last; of older ones the log alone tells. */
export interface Tasks {
  /** In order of submission. */
  byId: Map<string, TaskRecord>;
  /** The same, by number. */
  byNumber: Map<number, TaskRecord>;
  /** Tasks ever submitted: the number of the next one. */
  count: number;
  /** Ids of tasks not in a terminal state. */
  open: Set<string>;
  /**
   * Ids of the others in `byId`, at most `endedMax`: that of the n-th task that ended, from 0, at `n % endedMax`. So the oldest
   * gives way without the others being moved.
   */
  ended: string[];
  endedMax: number;
  /** By member. */
  blame: Map<string, Blame>;
}

type Saved = Pick<Tasks, 'count' | 'ended' | 'endedMax'> & {
  byId: [string, TaskRecord][];
  blame: [string, Blame][];
};

export const initialTasks = ({ endedTasks }: StateBounds): Tasks => ({
  byId: new Map(),
  byNumber: new Map(),
  count: 0,
  open: new Set(),
  ended: [],
  endedMax: endedTasks,
  blame: new Map(),
});

/** Whether tasks have left the state: one that is not in it may then be in the log. */
export const hasArchived = ({ byId, count }: Tasks): boolean => byId.size < count;

/** Adds the next task, which is open and whose number is `count`. */
export function addTask(state: Tasks, task: TaskRecord): void {
  state.count += 1;
  state.byId.set(task.id, task);
  state.byNumber.set(task.number, task);
  state.open.add(task.id);
}

/** An open task has ended; the one that ended first of those that are kept leaves where they are too many. */
export function endTask(state: Tasks, id: string): void {
  const place = nextEnded(state);
  const oldest = state.ended[place];
  state.ended[place] = id;
  state.open.delete(id);
  if (oldest === undefined) return;
  state.byNumber.delete(state.byId.get(oldest)!.number);
  state.byId.delete(oldest);
}

/** Where the next task that ends has its place in `ended`. */
const nextEnded = ({ count, open, endedMax }: Tasks): number => (count - open.size) % endedMax;

/** Ids of the ended tasks that are kept, in the order in which they ended. */
export function keptEnded(state: Tasks): string[] {
  const oldest = nextEnded(state);
  return [...state.ended.slice(oldest), ...state.ended.slice(0, oldest)];
}

export const saveTasks = (state: Tasks): Saved => ({
  byId: savePairs(state.byId),
  count: state.count,
  ended: keptEnded(state),
  endedMax: state.endedMax,
  blame: savePairs(state.blame),
});

/** The inverse of `saveTasks`. */
export function loadTasks(saved: unknown): Tasks {
  const { byId: pairs, count, ended: inOrder, endedMax, blame } = saved as Saved;
  const byId = loadPairs<TaskRecord>(pairs);
  const kept = [...byId.values()];
  const open = new Set(kept.filter(({ state }) => !TERMINAL_STATES.has(state)).map(({ id }) => id));
  const byNumber = new Map(kept.map((task) => [task.number, task]));
  const newest = inOrder.length - ((count - open.size) % endedMax);
  const ended = [...inOrder.slice(newest), ...inOrder.slice(0, newest)];
  return { byId, byNumber, count, open, ended, endedMax, blame: loadPairs<Blame>(blame) };
}
