import { SuperfleetError } from '../../protocol/errors.ts';
import { followHandover } from '../../protocol/handover.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';
import { segmentBytes } from '../../protocol/limits.ts';
import { type Checkpoint, makeCheckpoint } from '../lines/checkpoint.ts';
import type { Entry } from '../lines/entry.ts';
import type { LogEvent } from '../lines/events.ts';
import { type MadeEntry, makeEntry } from '../lines/line.ts';
import { type Frontier, leafDigest, leafHash } from '../proofs/merkle.ts';
import { batchOf, takeBatches } from './batch.ts';
import { startAt } from './beginning.ts';
import { Chain } from './chain.ts';
import { LogDamagedError } from './damage.ts';
import { type CommittedBatch, type DurableBatch, DurableLog, settled } from './durable-log.ts';
import { fenced, handoverBatch } from './handover.ts';
import {
  type CreateLogOptions,
  checkedLimits,
  checkpointLineBytesMax,
  type LogLimits,
  type OpenLogOptions,
} from './log-options.ts';
import { type CutTail, emptySegment } from './recovery.ts';
import { type Scan, scanLog } from './scan.ts';
import { diskFailure, SegmentWriter } from './writer.ts';

/** What an append is given at once, and what it may wait for. */
export interface Appended {
  first: number;
  last: number;
  /** Resolves when the entries outlast a loss of power, with a checkpoint that covers them. May be ignored. */
  durable: Promise<Checkpoint>;
}

/** Appends that become durable together: they share one promise. */
class Gathered {
  /** Of its entries, without newlines. */
  readonly lines: string[] = [];
  readonly entries: Entry[] = [];
  /** With newlines, without a checkpoint. */
  bytes = 0;
  readonly #settled = Promise.withResolvers<Checkpoint>();
  readonly durable = this.#settled.promise;
  readonly resolve = this.#settled.resolve;
  readonly reject = this.#settled.reject;

  constructor() {
    // Who ignores `durable` learns of a failure from `failure` or `onFailure`.
    this.durable.catch(() => undefined);
  }
}

/**
 * The founder's log: one writer, group commit. After a failed write or sync nothing is ever written or acknowledged
 * again (promises 1 and 4); after a handover neither (promise 8).
 */
export class Log extends DurableLog {
  readonly #key: SigningKey | null;
  readonly #limits: LogLimits;
  #frontier: Frontier;
  #time: number;
  #next: number;
  /** Batches to be, in order; the last takes what is appended, as far as it fits. */
  #waiting: Gathered[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> | null = null;
  #taking: Promise<unknown> = Promise.resolve();
  /** The log belongs to another founder from here on. */
  #handedOver = false;
  /** What was recovered, until this process appends: entries that were lost here may come from a replica until then. */
  #recovered: Chain | null;

  private constructor(scan: Scan, cut: CutTail | null, options: OpenLogOptions) {
    const limits = checkedLimits(options.limits);
    super(scan, cut, options.storage, limits.segmentBytes, options.begins);
    const { settled } = scan.chain;
    this.#key = options.key;
    this.#limits = limits;
    this.#frontier = settled.frontier.clone();
    this.#time = settled.time;
    this.#next = settled.frontier.size;
    this.#recovered = new Chain('all', settled);
  }

  /**
   * Makes a log of one entry, synced. Throws `SF_EXISTS` where there is one, `SF_USAGE` where the key is not the
   * one the genesis names.
   */
  static async create(options: CreateLogOptions): Promise<Log> {
    const { storage, genesis, key, time } = options;
    const publicKey = publicKeyToBase64(key.publicKey);
    if (genesis.logKey !== publicKey) {
      throw new SuperfleetError('SF_USAGE', 'the genesis entry names another log key', {
        expected: genesis.logKey,
        got: publicKey,
      });
    }
    const segment = await emptySegment(storage);
    const { line } = makeEntry({ index: 0, epoch: 1, time }, { type: 'mesh.created', body: genesis });
    const meshId = leafHash(line).toString('hex');
    const checkpoint = makeCheckpoint({ origin: meshId, size: 1, root: meshId }, key);
    const writer = new SegmentWriter(storage, { segment, end: 0 }, segmentBytes);
    try {
      await writer.write(0, batchOf([line], checkpoint));
      await storage.syncDirectory();
    } catch (error) {
      await writer.cutBack();
      throw diskFailure(error, storage.describe(0));
    } finally {
      await writer.close();
    }
    return Log.open({ storage, key, ...(options.limits && { limits: options.limits }) });
  }

  /**
   * Recovers the log: reads and checks all of it, or what follows `from`, in bounded memory, cuts a torn tail and keeps a copy of it
   * (promises 2 and 3). Throws `LogDamagedError` (`SF_LOG_DAMAGED`) at any other damage, also where the log does not begin
   * at entry 0 and nothing vouches for where it `begins`; `SF_NOT_FOUND` where there is no log, `SF_FOLDER` where `key` is
   * not the one that signs this log.
   */
  static async open(options: OpenLogOptions): Promise<Log> {
    const { storage, key, begins = null, onProgress, onBatch } = options;
    const from = options.from ?? (begins && startAt(begins));
    const scan = await scanLog(storage, {
      from,
      signatures: 'recent',
      ...(onProgress && { onProgress }),
      ...(onBatch && { onBatch }),
    });
    if (scan.last === null && begins === null) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no log at ${storage.describe(0)}`, {
        hint: 'where it was lost: mesh-hub ledger repair --from PEER|FILE fetches it from a replica or another copy',
      });
    }
    const { leadership, checkpoint } = scan.chain.settled;
    if (checkpoint === null) {
      const place = { segment: storage.describe(scan.last ?? 0), offset: 0, index: 0 };
      throw new LogDamagedError(
        place,
        'not one checkpoint: making it was cut short before anything was acknowledged',
      );
    }
    if (key === null) return new Log(scan, null, options);
    const publicKey = publicKeyToBase64(leadership!.logKey);
    if (publicKey !== publicKeyToBase64(key.publicKey)) {
      if (leadership!.epoch > 1) throw fenced(leadership!);
      throw new SuperfleetError('SF_FOLDER', 'the log key is not the one that signs this log', {
        expected: `public key ${publicKey}`,
        got: `public key ${publicKeyToBase64(key.publicKey)}`,
        hint: 'put back the file log.key that belongs to this log',
      });
    }
    return new Log(scan, await settled(storage, scan), options);
  }

  /** Index that the next append gets: at least `size`. */
  get next(): number {
    return this.#next;
  }

  /** Bytes of appends that wait for the disk. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /**
   * Gives the events their indexes now and makes them durable together, in one batch with whatever else waits. `time`
   * (Unix ms) is raised to the entry before where the clock went back. Throws, and takes nothing, where an event is
   * invalid (`SF_USAGE`), too much waits (`SF_FULL`) or the log has stopped (`SF_DISK_FULL`, `SF_LOG_FAILED`).
   */
  append(events: readonly LogEvent[], time: number, epoch: number): Appended {
    this.#mayAppend();
    this.#mayBatch(events.length);
    this.#mustBeOf(epoch, time);
    const head = { epoch, time: Math.max(time, this.#time) };
    return this.#take(events.map((event, at) => makeEntry({ index: this.#next + at, ...head }, event)));
  }

  /**
   * The same for entries that somebody made to follow the last one (`makeEntry`), whose lines are not made a second time. Throws
   * `SF_INTERNAL` where they do not follow it.
   */
  appendMade(made: readonly MadeEntry[]): Appended {
    this.#mayAppend();
    this.#mayBatch(made.length);
    let time = this.#time;
    for (const [at, { entry }] of made.entries()) {
      this.#mustBeOf(entry.epoch, entry.time);
      if (entry.index !== this.#next + at || entry.time < time) {
        throw new SuperfleetError('SF_INTERNAL', 'an entry does not follow the last one of the log', {
          expected: `index ${this.#next + at}, a time from ${time}`,
          got: `index ${entry.index}, time ${entry.time}`,
        });
      }
      time = entry.time;
    }
    return this.#take(made);
  }

  #mayBatch(entries: number): void {
    const { batchEntriesMax } = this.#limits;
    if (entries > 0 && entries <= batchEntriesMax) return;
    throw new SuperfleetError('SF_USAGE', `an append has 1 to ${batchEntriesMax} events, not ${entries}`);
  }

  #mustBeOf(epoch: number, time: number): void {
    if (epoch === this.epoch && Number.isSafeInteger(time) && time >= 0) return;
    throw new SuperfleetError('SF_USAGE', 'an entry is of the epoch that the last handover opened', {
      expected: `epoch ${this.epoch}, a time in Unix ms`,
      got: `epoch ${epoch}, time ${time}`,
    });
  }

  #take(made: readonly MadeEntry[]): Appended {
    const { batchBytesMax, waitingBytesMax } = this.#limits;
    const first = this.#next;
    let bytes = 0;
    for (const each of made) bytes += each.length + 1;
    if (bytes + checkpointLineBytesMax > batchBytesMax) {
      throw new SuperfleetError('SF_USAGE', `an append of ${bytes} bytes does not fit one batch`, {
        expected: `at most ${batchBytesMax - checkpointLineBytesMax} bytes`,
        got: `${bytes} bytes`,
      });
    }
    if (this.#waitingBytes + bytes > waitingBytesMax) {
      throw new SuperfleetError('SF_FULL', 'too much waits for the disk', {
        expected: `at most ${waitingBytesMax} bytes waiting`,
        got: `${this.#waitingBytes + bytes} bytes`,
        hint: 'wait for the appends before, then try again',
      });
    }
    this.#recovered = null;
    this.#next += made.length;
    this.#time = made.at(-1)!.entry.time;
    const gathered = this.#gathered(made.length, bytes);
    for (const { entry, line } of made) {
      gathered.lines.push(line);
      gathered.entries.push(entry);
    }
    gathered.bytes += bytes;
    this.#waitingBytes += bytes;
    this.#writing ??= this.#writeAll();
    return { first, last: this.#next - 1, durable: gathered.durable };
  }

  /** The batch that takes an append of so many entries. An append is never split: it is durable as a whole. */
  #gathered(entries: number, bytes: number): Gathered {
    const { batchEntriesMax, batchBytesMax } = this.#limits;
    const last = this.#waiting.at(-1);
    if (last !== undefined && last.lines.length + entries <= batchEntriesMax) {
      if (last.bytes + bytes + checkpointLineBytesMax <= batchBytesMax) return last;
    }
    const fresh = new Gathered();
    this.#waiting.push(fresh);
    return fresh;
  }

  /**
   * Takes back entries that this log once acknowledged and lost: whole batches that follow its last checkpoint, each root
   * and signature right, synced when it resolves. Only before anything is appended; calls are carried out one after the
   * other. Rejects with `SF_NOT_PROVED`, and takes nothing, where they do not follow. Where a handover is among them the log
   * is another's from there on.
   */
  take(bytes: Buffer): Promise<Checkpoint> {
    const taken = this.#taking.then(() => this.#takeBack(bytes));
    this.#taking = taken.catch(() => {});
    return taken;
  }

  async #takeBack(bytes: Buffer): Promise<Checkpoint> {
    this.#mayAppend();
    if (this.#recovered === null) {
      throw new SuperfleetError('SF_CONFLICT', 'this log has grown since it was opened');
    }
    const chain = this.#recovered.fromSettled();
    const batch = takeBatches(chain, bytes);
    try {
      await this.write(batch, chain.settled.leadership!);
    } catch (error) {
      const failure = await this.fail(error);
      this.announceFailure(failure);
      throw failure;
    }
    this.#recovered = chain;
    this.#frontier = chain.settled.frontier.clone();
    this.#time = chain.settled.time;
    this.#next = this.#frontier.size;
    this.#handedOver = publicKeyToBase64(this.leadership.logKey) !== publicKeyToBase64(this.#key!.publicKey);
    this.announce(batch);
    return batch.checkpoint;
  }

  /**
   * The last entry under this key: names the next founder and the public key (raw) of its log. What was appended before
   * is durable first, and nothing is appended after, also where this fails. Rejects with `SF_USAGE` for a key that
   * signed this log before.
   */
  async handOver(to: { founder: string; logKey: Uint8Array }, time: number): Promise<Checkpoint> {
    this.#mayAppend();
    this.#handedOver = true;
    await this.#writing;
    if (this.failure !== null) throw this.failure;
    const made = handoverBatch(
      {
        leadership: this.leadership,
        checkpoint: this.checkpoint,
        frontier: this.#frontier.toJSON(),
        time: this.#time,
      },
      { ...to, authority: 'founder' },
      this.#key!,
      time,
    );
    this.#next += 1;
    try {
      await this.write(made, followHandover(this.leadership, made.line));
    } catch (error) {
      const failure = await this.fail(error);
      this.announceFailure(failure);
      throw failure;
    }
    this.announce(made);
    return made.checkpoint;
  }

  /** Makes durable what waits, then lets go of the files. Later appends are refused. */
  override async close(): Promise<void> {
    this.refuseFurther();
    await this.#writing;
    await super.close();
  }

  override halt(failure: SuperfleetError): void {
    super.halt(failure);
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.failure!);
    this.#waitingBytes = 0;
  }

  #mayAppend(): void {
    if (this.failure !== null) throw this.failure;
    if (this.#handedOver) throw fenced(this.leadership);
    if (this.#key === null) throw new SuperfleetError('SF_REFUSED', 'the log was opened for reading only');
    if (this.closed) throw new SuperfleetError('SF_LOG_FAILED', 'the log is closed');
  }

  async #writeAll(): Promise<void> {
    // Whatever is appended in the same turn of the event loop shares the first batch.
    await null;
    for (;;) {
      const batch = this.failure === null ? this.#waiting.shift() : undefined;
      if (batch === undefined) break;
      try {
        await this.#writeBatch(batch);
      } catch (error) {
        await this.#stop(error, batch);
      }
    }
    this.#writing = null;
  }

  async #writeBatch(batch: Gathered): Promise<void> {
    const { lines, entries } = batch;
    const first = this.size;
    const leaves = lines.map(leafDigest);
    for (const leaf of leaves) this.#frontier.append(leaf);
    const said = {
      origin: this.meshId,
      size: this.#frontier.size,
      root: this.#frontier.rootHex(),
    };
    const checkpoint = makeCheckpoint(said, this.#key!);
    const bytes = batchOf(lines, checkpoint);
    const written = { first, last: checkpoint.size - 1, checkpoint, entries, leaves, bytes };
    await this.write(written, this.leadership);
    this.#waitingBytes -= batch.bytes;
    batch.resolve(checkpoint);
    this.announce(written);
  }

  async #stop(error: unknown, batch: Gathered): Promise<void> {
    const failure = await this.fail(error);
    for (const each of [batch, ...this.#waiting.splice(0)]) each.reject(failure);
    this.#waitingBytes = 0;
    this.announceFailure(failure);
  }
}

export type { CommittedBatch, CreateLogOptions, CutTail, DurableBatch, LogLimits, OpenLogOptions };
