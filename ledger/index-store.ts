import { rm } from 'node:fs/promises';
import { Level } from 'level';
import { z } from 'zod';
import { SuperfleetError } from '../protocol/errors.ts';
import { count, meshId, sha256Hex, taskId } from '../protocol/ids.ts';
import { TASK_STATES, type TaskState, TERMINAL_STATES } from '../protocol/task.ts';
import type { Entry } from './entry.ts';
import type { DurableBatch, Log } from './log.ts';

/** What the store asks of a level: `Level` on disk and `MemoryLevel` both have it. */
export interface IndexDatabase {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
  /** All of it or, after a crash, none. */
  batch(changes: IndexChange[]): Promise<void>;
  keys(range: { gte: string; lte?: string; limit?: number }): { all(): Promise<string[]> };
  clear(range: { gte: string; lt: string }): Promise<void>;
  close(): Promise<void>;
}

export type IndexChange = { type: 'put'; key: string; value: string } | { type: 'del'; key: string };

/** What the store asks of a log. */
export type IndexedLog = Pick<Log, 'meshId' | 'size' | 'checkpointAt' | 'batches'>;

/** What is kept of a task besides which entries are about it. */
export interface IndexedTask {
  task: string;
  /** Submissions before it; null: the log has no submission of it. */
  number: number | null;
  /** Peer id of the member that sent it; null: nobody's, or the founder's own. */
  by: string | null;
  /** In which it ended; null: it has not. */
  ended: TaskState | null;
}

const marker = z.strictObject({
  format: z.literal(2),
  mesh: meshId,
  size: count,
  root: sha256Hex,
  /** Tasks submitted so far: they have the numbers below it. */
  tasks: count,
});
const about = z.strictObject({
  /** Entries about it. */
  entries: count,
  number: count.nullable(),
  by: z.string().nullable(),
  ended: z.enum(TASK_STATES).nullable(),
});
type About = z.infer<typeof about>;

const MARKER = 'built';
const INDEX_DIGITS = 16;
/** Open tasks whose facts are kept in memory. */
const recentMax = 4_096;
/** Keys of one read. */
const keysMax = 10_000;

/**
 * What can be rebuilt from the log and is kept to save the time: which entries are about a task.
 * It carries the checkpoint it was built to, and counts beside what it counts, because LevelDB can come back from a
 * flipped bit with keys missing and not say so. Losing it, whole or in part, loses nothing.
 */
export class IndexStore {
  readonly #db: IndexDatabase;
  readonly #log: IndexedLog;
  #built = 0;
  #tasks = 0;
  /** What stands in the database of open tasks that had entries last, the latest at the end. */
  readonly #recent = new Map<string, About>();
  #catchingUp: Promise<void> | null = null;
  #closing = false;

  private constructor(db: IndexDatabase, log: IndexedLog) {
    this.#db = db;
    this.#log = log;
  }

  /**
   * Takes up what was built before where it is of a beginning of this log, and starts anew where it is not.
   */
  static async open(db: IndexDatabase, log: IndexedLog): Promise<IndexStore> {
    const store = new IndexStore(db, log);
    const found = parsed(marker, await db.get(MARKER));
    const known = found !== null && found.mesh === log.meshId ? await log.checkpointAt(found.size) : null;
    if (found !== null && known?.root === found.root) {
      store.#built = found.size;
      store.#tasks = found.tasks;
    } else await store.#forget();
    return store;
  }

  /** Entries indexed so far. */
  get built(): number {
    return this.#built;
  }

  /** Indexes whatever became durable since. Cheap where there is nothing; calls at one time share the work. */
  catchUp(): Promise<void> {
    this.#catchingUp ??= this.#catchUp().finally(() => {
      this.#catchingUp = null;
    });
    return this.#catchingUp;
  }

  /** Indexes of the durable entries about a task, ascending. Rebuilds itself first where keys went missing. */
  history(task: string): Promise<number[]> {
    return this.#sound(`task ${task}`, () => this.#history(task));
  }

  /** What the durable entries say of a task; null where none is about it. */
  async task(id: string): Promise<IndexedTask | null> {
    await this.catchUp();
    const found = await this.#about(id);
    if (found === null) return null;
    const { entries: _, ...facts } = found;
    return { task: id, ...facts };
  }

  /** The task with this number; null where so many were not submitted yet. Rebuilds itself first where keys went missing. */
  async numbered(number: number): Promise<IndexedTask | null> {
    await this.catchUp();
    if (number >= this.#tasks) return null;
    return this.#sound(`task number ${number}`, async () => {
      const id = await this.#db.get(numberKey(number));
      const found = id === undefined ? null : await this.task(id);
      return found?.number === number ? found : null;
    });
  }

  /** Throws away what was built and reads the log again. */
  async rebuild(): Promise<void> {
    await this.#catchingUp;
    await this.#forget();
    await this.catchUp();
  }

  /** What it was about to index is left to the next start. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#catchingUp?.catch(() => undefined);
    await this.#db.close();
  }

  /** The marker goes first: a crash half way leaves an index that says it has nothing. */
  async #forget(): Promise<void> {
    await this.#db.batch([{ type: 'del', key: MARKER }]);
    // `count!` and `state!` are what the first format had.
    for (const kind of ['about', 'count', 'number', 'state', 'task']) {
      await this.#db.clear({ gte: `${kind}!`, lt: `${kind}"` });
    }
    this.#recent.clear();
    this.#built = 0;
    this.#tasks = 0;
  }

  /** What `read` finds, where need be in an index that was built anew; null from it: keys are missing. */
  async #sound<T>(what: string, read: () => Promise<T | null>): Promise<T> {
    await this.catchUp();
    const found = await read();
    if (found !== null) return found;
    await this.rebuild();
    const again = await read();
    if (again !== null) return again;
    throw new SuperfleetError('SF_INTERNAL', `the index of ${what} is not what was just written`);
  }

  async #catchUp(): Promise<void> {
    if (this.#built >= this.#log.size) return;
    for await (const batch of this.#log.batches(this.#built)) {
      if (this.#closing) throw new SuperfleetError('SF_UNREACHABLE', 'the index is being closed');
      await this.#apply(batch);
    }
  }

  /** One batch, what it says of its tasks and the marker in one write, so that a crash leaves none of it or all. */
  async #apply(batch: DurableBatch): Promise<void> {
    const puts: IndexChange[] = [];
    const known = new Map<string, About>();
    let tasks = this.#tasks;
    for (const entry of batch.entries) {
      const task = taskOf(entry);
      if (task === null) continue;
      const facts = known.get(task) ?? this.#recent.get(task) ?? (await this.#about(task)) ?? NOTHING;
      const next = { ...facts, entries: facts.entries + 1 };
      if (entry.type === 'task.submitted') {
        next.number = tasks;
        next.by = submitterOf(entry);
        puts.push({ type: 'put', key: numberKey(tasks), value: task });
        tasks += 1;
      }
      next.ended = endOf(entry) ?? next.ended;
      known.set(task, next);
      puts.push({ type: 'put', key: taskKey(task, entry.index), value: '' });
    }
    for (const [task, facts] of known)
      puts.push({ type: 'put', key: aboutKey(task), value: JSON.stringify(facts) });
    const { size, root } = batch.checkpoint;
    const built: z.infer<typeof marker> = { format: 2, mesh: this.#log.meshId, size, root, tasks };
    puts.push({ type: 'put', key: MARKER, value: JSON.stringify(built) });
    await this.#db.batch(puts);
    for (const [task, facts] of known) this.#keep(task, facts);
    this.#built = size;
    this.#tasks = tasks;
  }

  /** Most entries are about a task that had one a moment ago. One that has ended is looked up, should it have another. */
  #keep(task: string, facts: About): void {
    this.#recent.delete(task);
    if (facts.ended !== null) return;
    this.#recent.set(task, facts);
    if (this.#recent.size > recentMax)
      for (const oldest of this.#recent.keys()) if (this.#recent.delete(oldest)) break;
  }

  async #history(task: string): Promise<number[] | null> {
    const indexes: number[] = [];
    const lte = taskKey(task, Number.MAX_SAFE_INTEGER);
    for (let from = 0, full = true; full; from = indexes.at(-1)! + 1) {
      const keys = await this.#db.keys({ gte: taskKey(task, from), lte, limit: keysMax }).all();
      for (const key of keys) indexes.push(Number(key.slice(-INDEX_DIGITS)));
      full = keys.length === keysMax;
    }
    return indexes.length === ((await this.#about(task)) ?? NOTHING).entries ? indexes : null;
  }

  async #about(task: string): Promise<About | null> {
    return parsed(about, await this.#db.get(aboutKey(task)));
  }
}

const NOTHING: About = { entries: 0, number: null, by: null, ended: null };

/** Opens the level of a folder; one that cannot be opened is thrown away, since it can be rebuilt. */
export async function openIndexDatabase(folder: string): Promise<Level<string, string>> {
  const db = new Level<string, string>(folder);
  try {
    await db.open();
    return db;
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause;
    if (cause?.code === 'LEVEL_LOCKED') {
      throw new SuperfleetError('SF_LOCKED', `the index in ${folder} is open elsewhere`, { cause: error });
    }
    await rm(folder, { recursive: true, force: true });
    const fresh = new Level<string, string>(folder);
    await fresh.open();
    return fresh;
  }
}

/** The task an entry is about; entries of types this program does not know count too. */
function taskOf(entry: Entry): string | null {
  const { body } = entry;
  if (typeof body !== 'object' || body === null || !('task' in body)) return null;
  return taskId.safeParse(body.task).data ?? null;
}

function submitterOf({ body }: Entry): string | null {
  const { by } = body as { by?: { peer?: unknown } | null };
  return typeof by?.peer === 'string' ? by.peer : null;
}

function endOf({ type, body }: Entry): TaskState | null {
  if (type !== 'task.converged') return null;
  const { state } = body as { state?: unknown };
  return [...TERMINAL_STATES].find((terminal) => terminal === state) ?? null;
}

const taskKey = (task: string, index: number): string =>
  `task!${task}!${String(index).padStart(INDEX_DIGITS, '0')}`;
const aboutKey = (task: string): string => `about!${task}`;
const numberKey = (number: number): string => `number!${number}`;

function parsed<T>(schema: z.ZodType<T>, text: string | undefined): T | null {
  if (text === undefined) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
