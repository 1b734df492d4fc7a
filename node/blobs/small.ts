import { writeFile } from 'node:fs/promises';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { OwnTurns } from '../turns.ts';
import { blobFault } from './faults.ts';
import { chargeOf, type Quota } from './quota.ts';
import {
  COUNTER,
  encode,
  type Held,
  levelCode,
  MARK,
  noteClosed,
  openOrRepair,
  openSmallDatabase,
  type SmallDatabase,
  type SmallRepair,
} from './small-database.ts';

export interface SmallBlobsOptions {
  folder: string;
  quota: Quota;
  /** Puts what the database cannot take any more. */
  otherwise(bytes: Uint8Array): Promise<ResultBlob>;
  /** Takes away again what was put so. */
  remove(blob: string): Promise<void>;
  /** @default openSmallDatabase */
  open?: (folder: string) => Promise<SmallDatabase>;
}

interface Put {
  type: 'put';
  blob: string;
  bytes: Uint8Array;
  result: ResultBlob;
  resolve(result: ResultBlob | Promise<ResultBlob>): void;
}
interface Delete {
  type: 'del';
  blob: string;
  /** A put of this blob that was asked for before is not done yet: where it becomes a file, that goes. */
  after: boolean;
  resolve(): void;
  reject(error: unknown): void;
}
type Change = Put | Delete;

/** One write's bound: of small blobs it is 32 MiB at most. */
const changesMax = 1024;
/**
 * Small blobs in a LevelDB. Changes that come while one write is under way share the next one, which is synced as a
 * whole: after a crash there is all of it or none. LevelDB does not say what a disk lost, so the caller checks what it
 * reads by its digest.
 */
export class SmallBlobs {
  readonly #parts: SmallBlobsOptions;
  readonly #db: SmallDatabase;
  readonly #quota: Quota;
  /** Null: it was whole. */
  readonly repair: SmallRepair | null;
  #queue: Change[] = [];
  /** What is in the write that is under way. */
  #changes: readonly Change[] = [];
  #writing: Promise<void> | null = null;
  #held: Held;
  /** What a write failed with: from then on it is only read, until it is opened again. */
  #fault: unknown = null;
  #closed = false;

  private constructor(parts: SmallBlobsOptions, db: SmallDatabase, held: Held, repair: SmallRepair | null) {
    this.#parts = parts;
    this.#db = db;
    this.#quota = parts.quota;
    this.#held = held;
    this.repair = repair;
    this.#quota.charge(held.bytes);
  }

  /**
   * Opens or makes the database; repairs one that is damaged, and puts one beside that cannot be. `SF_LOCKED` where it is
   * open elsewhere.
   */
  static async open({
    folder,
    quota,
    otherwise,
    remove,
    open = openSmallDatabase,
  }: SmallBlobsOptions): Promise<SmallBlobs> {
    const { db, held, repair } = await openOrRepair(folder, open);
    return new SmallBlobs({ folder, quota, otherwise, remove }, db, held, repair);
  }

  /** Its bytes as the disk gives them, not checked; null: it is not here. `SF_NOT_PROVED` where they cannot be read. */
  async get(blob: string): Promise<Uint8Array | null> {
    try {
      return (await this.#db.get(blob)) ?? null;
    } catch (error) {
      throw await this.#unreadable(blob, error);
    }
  }

  async has(blob: string): Promise<boolean> {
    try {
      return await this.#db.has(blob);
    } catch (error) {
      await this.#unreadable(blob, error);
      return false;
    }
  }

  /** Ids of what can be read. */
  async list(): Promise<string[]> {
    const found: string[] = [];
    try {
      for await (const key of this.#db.keys()) if (key !== COUNTER) found.push(key);
    } catch (error) {
      await this.#unreadable(found.at(-1) ?? '', error);
    }
    return found;
  }

  /**
   * Resolves when the bytes are synced; they must not be changed before. `SF_FULL` past the quota. Where the database
   * cannot be written it is done `otherwise`.
   */
  put(result: ResultBlob, bytes: Uint8Array): Promise<ResultBlob> {
    return new Promise((resolve) => {
      this.#requireOpen();
      this.#quota.reserve(chargeOf(bytes.length));
      this.#change({ type: 'put', blob: result.blob, bytes, result, resolve });
    });
  }

  delete(blob: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#requireOpen();
      const isPut = (change: Change): boolean => change.type === 'put' && change.blob === blob;
      const after = this.#queue.some(isPut) || this.#changes.some(isPut);
      this.#change({ type: 'del', blob, after, resolve, reject });
    });
  }

  /** Ends what was begun. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    await this.#db.close();
    if (this.#fault === null) await noteClosed(this.#parts.folder, this.#held);
  }

  #requireOpen(): void {
    if (this.#closed) throw new SuperfleetError('SF_UNREACHABLE', 'the store of blobs is closed');
  }

  #change(change: Change): void {
    this.#queue.push(change);
    this.#writing ??= this.#run();
  }

  async #run(): Promise<void> {
    // Whatever else is put in this turn of the event loop comes along.
    await null;
    while (this.#queue.length > 0) {
      const changes = this.#queue.length <= changesMax ? this.#queue : this.#queue.slice(0, changesMax);
      this.#queue = changes === this.#queue ? [] : this.#queue.slice(changesMax);
      this.#changes = changes;
      try {
        // A log with a record that was cut short must not be written on: what follows could not be read again.
        if (this.#fault !== null) throw this.#fault;
        await this.#write(changes);
      } catch (error) {
        this.#fault ??= error;
        if (levelCode(error) === 'LEVEL_CORRUPTION') await this.#mark();
        await this.#asFiles(changes, error);
      }
      this.#changes = [];
    }
    // In the same step as the look at the queue: what is put from now on begins anew.
    this.#writing = null;
  }

  /** What the database cannot take any more is done to files; of one blob in the order in which it was asked for. */
  async #asFiles(changes: readonly Change[], error: unknown): Promise<void> {
    const turns = new OwnTurns();
    const done = changes.map((change) => {
      const { blob } = change;
      if (change.type === 'put') {
        this.#quota.release(chargeOf(change.bytes.length));
        const put = turns.inTurn(blob, () => this.#parts.otherwise(change.bytes));
        change.resolve(put);
        return put;
      }
      const deleted = turns.inTurn(blob, async () => {
        if (change.after) await this.#parts.remove(blob);
        if (await this.has(blob).catch(() => true)) throw error;
      });
      deleted.then(change.resolve, change.reject);
      return deleted;
    });
    await Promise.allSettled(done);
  }

  async #write(changes: readonly Change[]): Promise<void> {
    const charges = await this.#charges(changes);
    const held = { ...this.#held };
    let freed = 0;
    const batch: ({ type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string })[] = [];
    for (const change of changes) {
      const { blob } = change;
      const before = charges.get(blob) ?? 0;
      const after = change.type === 'put' ? chargeOf(change.bytes.length) : 0;
      // Reserved once by each put; held, and counted, once.
      freed += before;
      held.blobs += (after > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
      held.bytes += after - before;
      charges.set(blob, after);
      if (change.type === 'put') batch.push({ type: 'put', key: blob, value: change.bytes });
      else if (before > 0) batch.push({ type: 'del', key: blob });
    }
    if (batch.length > 0) {
      batch.push({ type: 'put', key: COUNTER, value: encode(held) });
      await this.#db.batch(batch, { sync: true });
    }
    this.#held = held;
    this.#quota.release(freed);
    for (const change of changes) {
      if (change.type === 'put') change.resolve(change.result);
      else change.resolve();
    }
  }

  /** What each of these blobs counts now: nothing where it is not held. */
  async #charges(changes: readonly Change[]): Promise<Map<string, number>> {
    const charges = new Map<string, number>();
    const puts = changes.filter((change) => change.type === 'put');
    const dels = changes.filter((change) => change.type === 'del').map(({ blob }) => blob);
    if (puts.length > 0) {
      const held = await this.#db.hasMany(puts.map(({ blob }) => blob));
      held.forEach((is, at) => {
        if (is) charges.set(puts[at]!.blob, chargeOf(puts[at]!.bytes.length));
      });
    }
    if (dels.length > 0) {
      const values = await this.#db.getMany(dels);
      values.forEach((value, at) => {
        if (value !== undefined) charges.set(dels[at]!, chargeOf(value.length));
      });
    }
    return charges;
  }

  async #unreadable(blob: string, error: unknown): Promise<SuperfleetError> {
    if (!['LEVEL_CORRUPTION', 'LEVEL_IO_ERROR'].includes(levelCode(error))) throw error;
    await this.#mark();
    const fault = blobFault(blob, 0);
    fault.cause = error;
    return fault;
  }

  async #mark(): Promise<void> {
    // Where there is no room for it, the next read that fails makes it.
    await writeFile(this.#parts.folder + MARK, '').catch(() => {});
  }
}
