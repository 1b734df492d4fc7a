import { SuperfleetError } from '../../protocol/errors.ts';
import { openTasksMax } from '../../protocol/limits.ts';
import type { TaskState } from '../../protocol/task.ts';
import type { Log } from '../log/log.ts';
import type { IndexChange, IndexDatabase } from './index-database.ts';
import {
  type About,
  about,
  aboutKey,
  KINDS,
  MARKER,
  type Marker,
  marker,
  parsed,
  part,
  partKey,
  placeOf,
  placesMax,
  runKey,
  runMax,
  runOf,
  taskInRun,
} from './index-records.ts';
import { type Batch, type Said, Stretch } from './index-stretch.ts';

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

/** Entries of one write: as many as pass in the life of most tasks, and a stop of a few ms. */
const stretchEntries = 4_096;
/** Entries that wait in memory while others are written; what is more is read from the log then. */
const waitingEntriesMax = 16 * stretchEntries;
/** Parts of one read. */
const partsMax = 256;
/** Batches that are kept while the log is read. */
const aheadMax = 1_024;

/**
 * What can be rebuilt from the log and is kept to save the time: which entries are about a task. What it is handed waits in memory
 * until many entries can be written at once; a task that comes and ends in between takes two records. So after a crash the index
 * may be behind the log by some thousand entries, and reads them there before it answers anything.
 *
 * It carries the checkpoint it was built to, and counts beside what it counts, because LevelDB can come back from a
 * flipped bit with keys missing and not say so. Losing it, whole or in part, loses nothing.
 */
export class IndexStore {
  readonly #db: IndexDatabase;
  readonly #log: IndexedLog;
  #built = 0;
  #tasks = 0;
  /** Behind what is written, or being written. */
  #stretch = new Stretch(0, 0);
  /** What was handed over while the log is read, and did not follow; null: the log is not being read. */
  #ahead: Batch[] | null = null;
  /** What stands in the database of open tasks, those that had entries last at the end. */
  readonly #open = new Map<string, About>();
  /** The run of numbers that was read last. */
  #run: [string, string] | null = null;
  /** Keys went missing: what stands in the database is looked up also where a log's order says that nothing can. */
  #doubtful = false;
  #working: Promise<void> | null = null;
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
      store.#at(found.size, found.tasks);
    } else await store.#forget();
    return store;
  }

  /** Entries indexed so far. */
  get built(): number {
    return this.#built;
  }

  /**
   * A batch that has just become durable: it is indexed with others, without being read again. One that does not follow what was
   * taken before is left to `catchUp`.
   */
  take(batch: Batch): void {
    if (this.#stretch.entries >= waitingEntriesMax || this.#stretch.take(batch)) return;
    // Behind what is being read from the log, perhaps: it need not be read then.
    if (this.#ahead !== null && this.#ahead.length < aheadMax) this.#ahead.push(batch);
  }

  /** Writes what was taken, and indexes whatever else is durable by now. Cheap where there is nothing; calls at one time share the work. */
  async catchUp(): Promise<void> {
    for (const to = this.#log.size; this.#built < to; ) {
      const before = this.#built;
      this.#catchingUp ??= this.#alone(() => this.#catchUp()).finally(() => {
        this.#catchingUp = null;
      });
      await this.#catchingUp;
      if (this.#built <= before) return;
    }
  }

  /** Indexes of the durable entries about a task, ascending. Rebuilds itself first where keys went missing. */
  history(task: string): Promise<number[]> {
    return this.#sound(`task ${task}`, () => this.#history(task));
  }

  /** What the durable entries say of a task; null where none is about it. */
  async task(id: string): Promise<IndexedTask | null> {
    await this.catchUp();
    return this.#task(id);
  }

  async #task(id: string): Promise<IndexedTask | null> {
    const found = await this.#about(id);
    if (found === null) return null;
    const { number, by, ended } = found;
    return { task: id, number, by, ended };
  }

  /** The task with this number; null where so many were not submitted yet. Rebuilds itself first where keys went missing. */
  async numbered(number: number): Promise<IndexedTask | null> {
    await this.catchUp();
    if (number >= this.#tasks) return null;
    return this.#sound(`task number ${number}`, async () => {
      const id = await this.#withNumber(number);
      const found = id === null ? null : await this.#task(id);
      return found?.number === number ? found : null;
    });
  }

  /** Throws away what was built and reads the log again. */
  async rebuild(): Promise<void> {
    await this.#alone(() => this.#forget());
    this.#doubtful = true;
    await this.catchUp();
  }

  /** What it was about to index is left to the next start. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#working?.catch(() => undefined);
    await this.#db.close();
  }

  /** Does this when nothing else changes the database. */
  async #alone(work: () => Promise<void>): Promise<void> {
    while (this.#working !== null) await this.#working.catch(() => undefined);
    this.#working = work().finally(() => {
      this.#working = null;
    });
    await this.#working;
  }

  /** What this reads of the database while nothing is written there. It must not catch up itself. */
  async #undisturbed<T>(read: () => Promise<T>): Promise<T> {
    const found: T[] = [];
    await this.#alone(async () => {
      found.push(await read());
    });
    return found[0]!;
  }

  /** The marker goes first: a crash half way leaves an index that says it has nothing. */
  async #forget(): Promise<void> {
    await this.#db.batch([{ type: 'del', key: MARKER }]);
    for (const kind of KINDS) await this.#db.clear({ gte: `${kind}!`, lt: `${kind}"` });
    this.#open.clear();
    this.#run = null;
    this.#at(0, 0);
  }

  /** So much is written, and what was taken besides is read again. */
  #at(size: number, tasks: number): void {
    this.#built = size;
    this.#tasks = tasks;
    this.#stretch = new Stretch(size, tasks);
  }

  /** What `read` finds, where need be in an index that was built anew; null from it: keys are missing. */
  async #sound<T>(what: string, read: () => Promise<T | null>): Promise<T> {
    await this.catchUp();
    // What was written between two of its reads is no sign of missing keys: only what is read while nothing is written is.
    const found = (await read()) ?? (await this.#undisturbed(read));
    if (found !== null) return found;
    await this.rebuild();
    const again = await this.#undisturbed(read);
    if (again !== null) return again;
    throw new SuperfleetError('SF_INTERNAL', `the index of ${what} is not what was just written`);
  }

  async #catchUp(): Promise<void> {
    if (this.#stretch.size < this.#log.size) await this.#read();
    await this.#write();
  }

  /** From the log what was not taken as it came, so that what comes next follows. */
  async #read(): Promise<void> {
    this.#ahead = [];
    try {
      for await (const batch of this.#log.batches(this.#stretch.size)) {
        // None is taken twice: one that was handed over meanwhile does not follow here any more.
        this.#stretch.take(batch);
        if (this.#stretch.entries >= stretchEntries) await this.#write();
        this.#goOn();
      }
      for (const batch of this.#ahead) this.#stretch.take(batch);
    } finally {
      this.#ahead = null;
    }
  }

  #goOn(): void {
    if (this.#closing) throw new SuperfleetError('SF_UNREACHABLE', 'the index is being closed');
  }

  /** A stretch, what it says of its tasks and the marker in one write, so that a crash leaves none of it or all. */
  async #write(): Promise<void> {
    const stretch = this.#stretch;
    const { size, root, tasks } = stretch;
    if (root === null) return;
    this.#goOn();
    this.#stretch = new Stretch(size, tasks);
    try {
      const changes: IndexChange[] = [];
      const now = new Map<string, About>();
      await this.#readUnknown(stretch, now);
      for (const [task, said] of stretch.said) {
        const before = now.get(task) ?? this.#open.get(task) ?? null;
        now.set(task, added(task, before, said, changes));
      }
      const { submitted, firstNumber } = stretch;
      for (let at = 0; at < submitted.length; at += runMax) {
        const value = runOf(submitted.slice(at, at + runMax));
        changes.push({ type: 'put', key: runKey(firstNumber + at), value });
      }
      const built: Marker = { format: 3, mesh: this.#log.meshId, size, root, tasks };
      changes.push({ type: 'put', key: MARKER, value: JSON.stringify(built) });
      await this.#db.batch(changes);
      for (const [task, facts] of now) this.#keep(task, facts);
    } catch (error) {
      this.#at(this.#built, this.#tasks);
      throw error;
    }
    this.#built = size;
    this.#tasks = tasks;
  }

  /** Of tasks that had entries before, and are not kept in memory: they have ended, or this process has just begun. */
  async #readUnknown({ said }: Stretch, into: Map<string, About>): Promise<void> {
    const read = async (task: string): Promise<void> => {
      const found = await this.#about(task);
      if (found !== null) into.set(task, found);
    };
    const reads: Promise<void>[] = [];
    for (const [task, { number }] of said) {
      if (this.#open.has(task) || (number !== null && !this.#doubtful)) continue;
      reads.push(read(task));
    }
    await Promise.all(reads);
  }

  /** Most entries are about a task that is open. One that has ended is looked up, should it have another. */
  #keep(task: string, facts: About): void {
    this.#open.delete(task);
    if (facts.ended !== null) return;
    this.#open.set(task, facts);
    if (this.#open.size > openTasksMax)
      for (const oldest of this.#open.keys()) if (this.#open.delete(oldest)) break;
  }

  async #history(task: string): Promise<number[] | null> {
    const indexes: number[] = [];
    const lte = partKey(task, Number.MAX_SAFE_INTEGER);
    for (let from = 0, full = true; full; ) {
      const parts = await this.#db.iterator({ gte: partKey(task, from), lte, limit: partsMax }).all();
      for (const [key, text] of parts) {
        indexes.push(...(parsed(part, text) ?? []));
        from = placeOf(key) + 1;
      }
      full = parts.length === partsMax;
    }
    const isWhole = indexes.length === ((await this.#about(task))?.entries ?? 0);
    return isWhole && indexes.every((index, at) => at === 0 || index > indexes[at - 1]!) ? indexes : null;
  }

  /** The task that has a number, unless keys went missing. */
  async #withNumber(number: number): Promise<string | null> {
    const known = this.#run === null ? null : taskInRun(this.#run, number);
    if (known !== null) return known;
    const range = { gte: runKey(0), lte: runKey(number), limit: 1, reverse: true };
    const [run] = await this.#db.iterator(range).all();
    this.#run = run ?? null;
    return run === undefined ? null : taskInRun(run, number);
  }

  async #about(task: string): Promise<About | null> {
    return parsed(about, await this.#db.get(aboutKey(task)));
  }
}

/** What is known of a task with what a stretch says of it, and the records that say so. */
function added(task: string, before: About | null, said: Said, changes: IndexChange[]): About {
  const { indexes } = said;
  for (let at = 0; at < indexes.length; at += placesMax) {
    const value = JSON.stringify(indexes.slice(at, at + placesMax));
    changes.push({ type: 'put', key: partKey(task, indexes[at]!), value });
  }
  const submitted = said.number !== null;
  const facts: About = {
    entries: (before?.entries ?? 0) + indexes.length,
    number: submitted ? said.number : (before?.number ?? null),
    by: submitted ? said.by : (before?.by ?? null),
    ended: said.ended ?? before?.ended ?? null,
  };
  changes.push({ type: 'put', key: aboutKey(task), value: JSON.stringify(facts) });
  return facts;
}
