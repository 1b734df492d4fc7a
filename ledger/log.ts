import { SuperfleetError } from '../protocol/errors.ts';
import { publicKeyToBase64, type SigningKey } from '../protocol/keys.ts';
import { segmentBytes } from '../protocol/limits.ts';
import { type Checkpoint, makeCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import { LogDamagedError } from './damage.ts';
import type { Entry } from './entry.ts';
import type { EventBody, LogEvent } from './events.ts';
import { formatCheckpoint, makeEntry } from './line.ts';
import {
  type CreateLogOptions,
  checkedLimits,
  checkpointLineBytesMax,
  type LogLimits,
  type OpenLogOptions,
} from './log-options.ts';
import { type Frontier, leafHash } from './merkle.ts';
import type { Offsets } from './offsets.ts';
import { readBatches, readBytes, readCheckpoint, readEntries } from './reader.ts';
import { type CutTail, emptySegment, settle } from './recovery.ts';
import { type Scan, scanLog } from './scan.ts';
import type { LogStorage } from './storage.ts';
import { diskFailure, SegmentWriter } from './writer.ts';

/** What one `read` returns at most. */
const readEntriesMax = 4096;
const readBytesMax = 4 * 1024 * 1024;

/** Entries that became durable together. */
export interface DurableBatch {
  first: number;
  last: number;
  checkpoint: Checkpoint;
  entries: Entry[];
}

/** What an append is given at once, and what it may wait for. */
export interface Appended {
  first: number;
  last: number;
  /** Resolves when the entries outlast a loss of power, with a checkpoint that covers them. May be ignored. */
  durable: Promise<Checkpoint>;
}

interface Waiting {
  lines: string[];
  entries: Entry[];
  bytes: number;
  resolve: (checkpoint: Checkpoint) => void;
  reject: (error: SuperfleetError) => void;
}

/**
 * The founder's log: one writer, group commit, readers of what is durable. Nothing that names an entry (checkpoint,
 * size, readers, subscribers) shows it before its sync returned; after a failed write or sync nothing is ever
 * written or acknowledged again (promises 1 and 4).
 */
export class Log {
  readonly meshId: string;
  readonly genesis: EventBody<'mesh.created'>;
  /** What recovery cut off; null where the log ended cleanly. */
  readonly cut: CutTail | null;
  readonly #storage: LogStorage;
  readonly #key: SigningKey | null;
  readonly #limits: LogLimits;
  readonly #writer: SegmentWriter;
  readonly #offsets: Offsets;
  readonly #frontier: Frontier;
  readonly #subscribers = new Set<(batch: DurableBatch) => void>();
  readonly #wakers = new Set<() => void>();
  readonly #failureListeners = new Set<(error: SuperfleetError) => void>();
  #checkpoint: Checkpoint;
  #epoch: number;
  #time: number;
  #next: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> | null = null;
  #failure: SuperfleetError | null = null;
  #closed = false;

  private constructor(scan: Scan, cut: CutTail | null, options: OpenLogOptions) {
    const { settled } = scan.chain;
    this.meshId = settled.meshId!;
    this.genesis = settled.genesis!;
    this.cut = cut;
    this.#storage = options.storage;
    this.#key = options.key;
    this.#limits = checkedLimits(options.limits);
    this.#writer = new SegmentWriter(
      options.storage,
      { segment: scan.last, end: scan.end },
      this.#limits.segmentBytes,
    );
    this.#offsets = scan.offsets;
    this.#frontier = settled.frontier.clone();
    this.#checkpoint = settled.checkpoint!;
    this.#epoch = settled.epoch;
    this.#time = settled.time;
    this.#next = settled.frontier.size;
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
   * Recovers the log: reads and checks all of it in bounded memory, cuts a torn tail and keeps a copy of it
   * (promises 2 and 3). Throws `LogDamagedError` (`SF_LOG_DAMAGED`) at any other damage, `SF_NOT_FOUND` where there is
   * no log, `SF_FOLDER` where `key` is not the one that signs this log.
   */
  static async open(options: OpenLogOptions): Promise<Log> {
    const { storage, key, onProgress } = options;
    const scan = await scanLog(storage, {
      signatures: 'recent',
      ...(onProgress && { onProgress }),
    });
    if (scan.last === null) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no log at ${storage.describe(0)}`);
    }
    const { publicKey, checkpoint } = scan.chain.settled;
    if (checkpoint === null) {
      const place = { segment: storage.describe(scan.last), offset: 0, index: 0 };
      throw new LogDamagedError(
        place,
        'not one checkpoint: making it was cut short before anything was acknowledged',
      );
    }
    if (key === null) return new Log(scan, null, options);
    if (publicKey !== publicKeyToBase64(key.publicKey)) {
      throw new SuperfleetError('SF_FOLDER', 'the log key is not the one that signs this log', {
        expected: `public key ${publicKey}`,
        got: `public key ${publicKeyToBase64(key.publicKey)}`,
        hint: 'put back the file log.key that belongs to this log',
      });
    }
    try {
      return new Log(scan, await settle(storage, scan), options);
    } catch (error) {
      if (error instanceof SuperfleetError) throw error;
      throw diskFailure(error, storage.describe(scan.last));
    }
  }

  /** Durable entries. */
  get size(): number {
    return this.#checkpoint.size;
  }

  /** Index that the next append gets: at least `size`. */
  get next(): number {
    return this.#next;
  }

  /** The newest checkpoint whose batch is durable. */
  get checkpoint(): Checkpoint {
    return this.#checkpoint;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Why the log stopped for good; null while it works. */
  get failure(): SuperfleetError | null {
    return this.#failure;
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
    const { batchEntriesMax, batchBytesMax, waitingBytesMax } = this.#limits;
    if (events.length === 0 || events.length > batchEntriesMax) {
      throw new SuperfleetError(
        'SF_USAGE',
        `an append has 1 to ${batchEntriesMax} events, not ${events.length}`,
      );
    }
    if (!Number.isSafeInteger(epoch) || epoch < this.#epoch || !Number.isSafeInteger(time) || time < 0) {
      throw new SuperfleetError('SF_USAGE', 'epoch and time of an entry are integers, and epochs only rise', {
        expected: `an epoch of ${this.#epoch} or more, a time in Unix ms`,
        got: `epoch ${epoch}, time ${time}`,
      });
    }
    const head = { epoch, time: Math.max(time, this.#time) };
    const first = this.#next;
    const made = events.map((event, at) => makeEntry({ index: first + at, ...head }, event));
    const lines = made.map(({ line }) => line);
    const bytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
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
    this.#next += lines.length;
    this.#epoch = epoch;
    this.#time = head.time;
    const { promise, resolve, reject } = Promise.withResolvers<Checkpoint>();
    // Who ignores `durable` learns of a failure from `failure` or `onFailure`.
    promise.catch(() => undefined);
    this.#waiting.push({ lines, entries: made.map(({ entry }) => entry), bytes, resolve, reject });
    this.#waitingBytes += bytes;
    this.#writing ??= this.#writeAll();
    return { first, last: this.#next - 1, durable: promise };
  }

  /** Up to `limit` durable entries from an index on; fewer where they are long. Empty past the end. */
  async read(from: number, limit: number): Promise<Entry[]> {
    const found: Entry[] = [];
    let bytes = 0;
    const to = Math.min(this.size, from + Math.min(limit, readEntriesMax));
    for await (const { entry, length } of readEntries(this.#storage, this.#offsets, from, to)) {
      found.push(entry);
      bytes += length;
      if (bytes >= readBytesMax) break;
    }
    return found;
  }

  /** Durable entries from `from` to before `to` (default: what is durable at the call), in bounded memory. */
  async *entries(from = 0, to = this.size): AsyncGenerator<Entry> {
    const end = Math.min(to, this.size);
    for await (const { entry } of readEntries(this.#storage, this.#offsets, from, end)) yield entry;
  }

  /** Durable batches as they were committed, from the one that begins at `from` (a size of `checkpointAt`, or 0). */
  async *batches(from: number): AsyncGenerator<DurableBatch> {
    for await (const { entries, checkpoint } of readBatches(this.#storage, this.#offsets, from, this.size)) {
      yield { first: entries[0]!.index, last: checkpoint.size - 1, checkpoint, entries };
    }
  }

  /** The durable bytes of the log as they stand in its segments: JSONL that `verifyExport` checks. */
  async *export(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const { segment, end } = this.#writer.position;
    if (segment !== null) yield* readBytes(this.#storage, { segment, end }, signal);
  }

  /** Durable entries from `from` on, and then each as it becomes durable, until aborted or closed. */
  async *tail(from: number, signal: AbortSignal): AsyncGenerator<Entry> {
    for (let next = from; ; ) {
      for await (const entry of this.entries(next)) {
        if (signal.aborted) return;
        yield entry;
        next = entry.index + 1;
      }
      if (signal.aborted || this.#closed) return;
      if (this.#failure !== null) throw this.#failure;
      if (this.size <= next) await this.#changed(signal);
    }
  }

  /** The checkpoint that was made at exactly this size; null where no batch ended there. Throws `SF_NOT_PROVED` where its signature is bad. */
  async checkpointAt(size: number): Promise<Checkpoint | null> {
    if (size === this.size) return this.#checkpoint;
    if (size < 1 || size > this.size) return null;
    const found = await readCheckpoint(this.#storage, this.#offsets, size);
    // Recovery need not have checked the signature of one so old.
    if (found !== null) verifyCheckpoint(found.text, { origin: this.meshId, publicKey: this.genesis.logKey });
    return found;
  }

  /** Calls back with every batch as it becomes durable, in order. Returns what ends it. */
  subscribe(listener: (batch: DurableBatch) => void): () => void {
    this.#subscribers.add(listener);
    return () => this.#subscribers.delete(listener);
  }

  /** Calls back once when the log stops for good. Returns what ends it. */
  onFailure(listener: (error: SuperfleetError) => void): () => void {
    this.#failureListeners.add(listener);
    return () => this.#failureListeners.delete(listener);
  }

  /** Makes durable what waits, then lets go of the files. Later appends are refused. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    await this.#writer.close();
    for (const wake of this.#wakers) wake();
  }

  async #changed(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#wakers.add(wake);
    signal.addEventListener('abort', wake);
    try {
      await promise;
    } finally {
      this.#wakers.delete(wake);
      signal.removeEventListener('abort', wake);
    }
  }

  #mayAppend(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#key === null) throw new SuperfleetError('SF_REFUSED', 'the log was opened for reading only');
    if (this.#closed) throw new SuperfleetError('SF_LOG_FAILED', 'the log is closed');
  }

  async #writeAll(): Promise<void> {
    // Whatever is appended in the same turn of the event loop shares the first batch.
    await null;
    while (this.#waiting.length > 0 && this.#failure === null) {
      const batch = this.#takeBatch();
      try {
        await this.#writeBatch(batch);
      } catch (error) {
        await this.#stop(error, batch);
      }
    }
    this.#writing = null;
  }

  /** What waits, in order and as far as it fits. An append is never split: it is durable as a whole. */
  #takeBatch(): Waiting[] {
    let entries = 0;
    let bytes = checkpointLineBytesMax;
    const over = this.#waiting.findIndex((waiting) => {
      entries += waiting.lines.length;
      bytes += waiting.bytes;
      return entries > this.#limits.batchEntriesMax || bytes > this.#limits.batchBytesMax;
    });
    return this.#waiting.splice(0, over === -1 ? this.#waiting.length : over);
  }

  async #writeBatch(batch: Waiting[]): Promise<void> {
    const lines = batch.flatMap((waiting) => waiting.lines);
    const first = this.size;
    for (const line of lines) this.#frontier.append(leafHash(line));
    const said = {
      origin: this.meshId,
      size: this.#frontier.size,
      root: this.#frontier.root().toString('hex'),
    };
    const checkpoint = makeCheckpoint(said, this.#key!);
    const { segment, offset } = await this.#writer.write(first, batchOf(lines, checkpoint));
    this.#offsets.add({ index: first, segment, offset });
    this.#checkpoint = checkpoint;
    this.#waitingBytes -= batch.reduce((sum, { bytes }) => sum + bytes, 0);
    const entries = batch.flatMap((waiting) => waiting.entries);
    for (const waiting of batch) waiting.resolve(checkpoint);
    for (const listener of this.#subscribers) {
      listener({ first, last: checkpoint.size - 1, checkpoint, entries });
    }
    for (const wake of this.#wakers) wake();
  }

  async #stop(error: unknown, batch: Waiting[]): Promise<void> {
    const failure = diskFailure(error, this.#storage.describe(this.#writer.position.segment ?? 0));
    this.#failure = failure;
    await this.#writer.cutBack();
    for (const waiting of [...batch, ...this.#waiting.splice(0)]) waiting.reject(failure);
    this.#waitingBytes = 0;
    for (const listener of this.#failureListeners) listener(failure);
    for (const wake of this.#wakers) wake();
  }
}

/** Lines of one batch and its checkpoint, as they are written. */
function batchOf(lines: readonly string[], checkpoint: Checkpoint): Buffer {
  return Buffer.from(`${lines.join('\n')}\n${formatCheckpoint(checkpoint)}\n`);
}

export type { CreateLogOptions, CutTail, LogLimits, OpenLogOptions };
