import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { Level } from 'level';
import { z } from 'zod';
import { SuperfleetError } from '../protocol/errors.ts';
import { count, meshId, sha256Hex, taskId } from '../protocol/ids.ts';
import type { Checkpoint } from './checkpoint.ts';
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

/** A reducer's state as it was at some checkpoint. */
export interface SavedState {
  /** Entries that the state has seen: replay goes on from this index. */
  size: number;
  state: unknown;
}

const marker = z.strictObject({ format: z.literal(1), mesh: meshId, size: count, root: sha256Hex });
const savedState = z.strictObject({
  version: count,
  size: count,
  root: sha256Hex,
  digest: sha256Hex,
  state: z.string(),
});

const MARKER = 'built';
const INDEX_DIGITS = 16;
/** Entries about one task that `history` gives back; a task has a few dozen. */
const historyEntriesMax = 10_000;

/**
 * What can be rebuilt from the log and is kept to save the time: which entries are about a task, and replayed states.
 * It carries the checkpoint it was built to, and counts beside what it counts, because LevelDB can come back from a
 * flipped bit with keys missing and not say so. Losing it, whole or in part, loses nothing.
 */
export class IndexStore {
  readonly #db: IndexDatabase;
  readonly #log: IndexedLog;
  #built = 0;
  #catchingUp: Promise<void> | null = null;

  private constructor(db: IndexDatabase, log: IndexedLog) {
    this.#db = db;
    this.#log = log;
  }

  /**
   * Takes up what was built before where it is of a beginning of this log, and starts anew where it is not. Saved states
   * stay either way: each is proved when it is loaded.
   */
  static async open(db: IndexDatabase, log: IndexedLog): Promise<IndexStore> {
    const store = new IndexStore(db, log);
    const found = parsed(marker, await db.get(MARKER));
    const known = found !== null && found.mesh === log.meshId ? await log.checkpointAt(found.size) : null;
    if (found !== null && known?.root === found.root) store.#built = found.size;
    else await store.#forget();
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
  async history(task: string): Promise<number[]> {
    await this.catchUp();
    const found = await this.#history(task);
    if (found !== null) return found;
    await this.rebuild();
    const again = await this.#history(task);
    if (again === null) {
      throw new SuperfleetError('SF_INTERNAL', `the index of task ${task} is not what was just written`);
    }
    return again;
  }

  /** Throws away what was built and reads the log again. Saved states are kept: they carry their own proof. */
  async rebuild(): Promise<void> {
    await this.#catchingUp;
    await this.#forget();
    await this.catchUp();
  }

  /** Keeps a reducer's state, which must be what replaying exactly the entries under `checkpoint` gives. */
  async saveState(reducer: string, version: number, checkpoint: Checkpoint, state: unknown): Promise<void> {
    const text = JSON.stringify(state);
    const { size, root } = checkpoint;
    const value: z.infer<typeof savedState> = { version, size, root, digest: digest(text), state: text };
    await this.#db.put(`state!${reducer}`, JSON.stringify(value));
  }

  /** The state kept for this version of a reducer; null where there is none that is whole and of this log. */
  async loadState(reducer: string, version: number): Promise<SavedState | null> {
    const found = parsed(savedState, await this.#db.get(`state!${reducer}`));
    if (found === null || found.version !== version || digest(found.state) !== found.digest) return null;
    const known = await this.#log.checkpointAt(found.size);
    return known?.root === found.root ? { size: found.size, state: JSON.parse(found.state) } : null;
  }

  async close(): Promise<void> {
    await this.#catchingUp?.catch(() => undefined);
    await this.#db.close();
  }

  /** The marker goes first: a crash half way leaves an index that says it has nothing. */
  async #forget(): Promise<void> {
    await this.#db.batch([{ type: 'del', key: MARKER }]);
    await this.#db.clear({ gte: 'count!', lt: 'count"' });
    await this.#db.clear({ gte: 'task!', lt: 'task"' });
    this.#built = 0;
  }

  async #catchUp(): Promise<void> {
    if (this.#built >= this.#log.size) return;
    for await (const batch of this.#log.batches(this.#built)) await this.#apply(batch);
  }

  /** One batch, its counts and the marker in one write, so that a crash leaves none of it or all. */
  async #apply(batch: DurableBatch): Promise<void> {
    const puts: IndexChange[] = [];
    const counts = new Map<string, number>();
    for (const entry of batch.entries) {
      const task = taskOf(entry);
      if (task === null) continue;
      counts.set(task, (counts.get(task) ?? (await this.#count(task))) + 1);
      puts.push({ type: 'put', key: taskKey(task, entry.index), value: '' });
    }
    for (const [task, number] of counts)
      puts.push({ type: 'put', key: countKey(task), value: String(number) });
    const { size, root } = batch.checkpoint;
    const built: z.infer<typeof marker> = { format: 1, mesh: this.#log.meshId, size, root };
    puts.push({ type: 'put', key: MARKER, value: JSON.stringify(built) });
    await this.#db.batch(puts);
    this.#built = size;
  }

  async #history(task: string): Promise<number[] | null> {
    const range = {
      gte: taskKey(task, 0),
      lte: taskKey(task, Number.MAX_SAFE_INTEGER),
      limit: historyEntriesMax,
    };
    const indexes = (await this.#db.keys(range).all()).map((key) => Number(key.slice(-INDEX_DIGITS)));
    const expected = Math.min(await this.#count(task), historyEntriesMax);
    return indexes.length === expected ? indexes : null;
  }

  async #count(task: string): Promise<number> {
    return Number((await this.#db.get(countKey(task))) ?? 0);
  }
}

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

const taskKey = (task: string, index: number): string =>
  `task!${task}!${String(index).padStart(INDEX_DIGITS, '0')}`;
const countKey = (task: string): string => `count!${task}`;
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

function parsed<T>(schema: z.ZodType<T>, text: string | undefined): T | null {
  if (text === undefined) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
