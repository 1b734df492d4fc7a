import type { TaskState } from '../../protocol/task.ts';
import type { IndexStore } from '../index/index-store.ts';
import type { Entry } from '../lines/entry.ts';
import { StateError } from '../state/errors.ts';
import { knownEntry } from '../state/state.ts';
import type { TaskRecord } from '../state/task-record.ts';
import type { Tasks } from '../state/task-set.ts';
import { tasksReducer } from '../state/tasks.ts';
import type { Log } from './log.ts';

/** Which of some tasks are wanted. */
export interface Selection {
  /** Numbers of the tasks, in the order in which they are looked at. */
  numbers: readonly number[];
  /** Ended in one of these; null: in any. */
  states: readonly TaskState[] | null;
  /** Sent by this member; null: by anybody. */
  by: string | null;
  /** At most so many. */
  limit: number;
}

export interface Selected {
  tasks: TaskRecord[];
  /** Numbers that were looked at: the first ones, until `limit` was reached. */
  looked: number[];
}

/** Entries read and passed over to spare another read. */
const gapMax = 64;
/** Entries about one task that are given; a task has a few dozen. */
const historyMax = 1_000;
/** Records found one by one that are remembered. */
const recentMax = 256;

/**
 * Tasks as their own entries tell of them, found by the index: what has left the replayed state is had from here. Reads
 * what is durable, one request after another, so that no more than one page of records is being made at a time.
 */
export class TaskArchive {
  readonly #log: Pick<Log, 'entries'>;
  readonly #index: IndexStore;
  readonly #recent = new Map<string, TaskRecord>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(log: Pick<Log, 'entries'>, index: IndexStore) {
    this.#log = log;
    this.#index = index;
  }

  /** The task; null where the log has no submission of it. Throws `SF_LOG_DAMAGED` where its entries contradict each other. */
  find(id: string): Promise<TaskRecord | null> {
    return this.#inTurn(async () => {
      const [found = null] = await this.#load([id]);
      if (found !== null) this.#remember(found);
      return found;
    });
  }

  /** Those that match of the tasks with these numbers. Numbers that no task has yet are passed over. */
  select({ numbers, states, by, limit }: Selection): Promise<Selected> {
    return this.#inTurn(async () => {
      const looked: number[] = [];
      const ids: string[] = [];
      for (const number of numbers) {
        if (ids.length >= limit) break;
        looked.push(number);
        const found = await this.#index.numbered(number);
        if (found === null || (by !== null && found.by !== by)) continue;
        if (states === null || (found.ended !== null && states.includes(found.ended))) ids.push(found.task);
      }
      return { tasks: await this.#load(ids), looked };
    });
  }

  /** Entries about a task in their order, the newest where they are very many; none where it is unknown. */
  history(id: string): Promise<Entry[]> {
    return this.#inTurn(async () => {
      const entries: Entry[] = [];
      const indexes = (await this.#index.history(id)).slice(-historyMax);
      for await (const entry of this.#entriesAt(indexes)) entries.push(entry);
      return entries;
    });
  }

  /** Records that `find` gave lately, the newest last. */
  get recent(): Iterable<TaskRecord> {
    return this.#recent.values();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #remember(task: TaskRecord): void {
    this.#recent.delete(task.id);
    this.#recent.set(task.id, task);
    for (const oldest of this.#recent.keys()) {
      if (this.#recent.size <= recentMax) return;
      this.#recent.delete(oldest);
    }
  }

  /** In the order of the ids; without those of which the log has no submission. */
  async #load(ids: readonly string[]): Promise<TaskRecord[]> {
    try {
      return await this.#replay(ids);
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      // Entries that the whole log may have, and these tasks' alone may not: the index named the wrong ones.
      await this.#index.rebuild();
      return this.#replay(ids);
    }
  }

  async #replay(ids: readonly string[]): Promise<TaskRecord[]> {
    const parts = new Map<number, Tasks>();
    const alone: { id: string; tasks: Tasks }[] = [];
    for (const id of ids) {
      const number = (await this.#index.task(id))?.number ?? null;
      if (number === null) continue;
      const tasks = { ...tasksReducer.initial({ endedTasks: 1 }), count: number };
      alone.push({ id, tasks });
      for (const index of await this.#index.history(id)) parts.set(index, tasks);
    }
    for await (const entry of this.#entriesAt([...parts.keys()].sort((a, b) => a - b))) {
      const known = knownEntry(entry);
      if (known !== null) tasksReducer.reduce(parts.get(entry.index)!, known);
    }
    return alone.flatMap(({ id, tasks }) => tasks.byId.get(id) ?? []);
  }

  /** The entries at these ascending indexes; near ones by one read. */
  async *#entriesAt(indexes: readonly number[]): AsyncGenerator<Entry> {
    for (let at = 0; at < indexes.length; ) {
      let end = at + 1;
      while (end < indexes.length && indexes[end]! - indexes[end - 1]! <= gapMax) end += 1;
      for await (const entry of this.#log.entries(indexes[at]!, indexes[end - 1]! + 1)) {
        if (entry.index !== indexes[at]) continue;
        at += 1;
        yield entry;
      }
      // Shorter than the index says: nothing more is there.
      if (at < end) return;
    }
  }
}
