import { SuperfleetError } from '../../protocol/errors.ts';
import { type Leadership, signerAt } from '../../protocol/handover.ts';
import { publicKeyToBase64 } from '../../protocol/keys.ts';
import { type Checkpoint, verifyCheckpoint } from '../lines/checkpoint.ts';
import type { Entry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import type { Digest } from '../proofs/merkle.ts';
import type { LogStorage } from '../storage/storage.ts';
import type { ChainState } from './chain.ts';
import { Offsets } from './offsets.ts';
import {
  type RawBatches,
  readBatches,
  readBytes,
  readCheckpoint,
  readEntries,
  readLeaves,
  readLine,
  readRaw,
} from './reader.ts';
import { type CutTail, settle } from './recovery.ts';
import type { Scan } from './scan.ts';
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

/** A batch as its subscribers get it the moment it is durable. */
export interface CommittedBatch extends DurableBatch {
  /** RFC 6962 leaf hash of each entry. */
  leaves: Digest[];
  /** Its lines, the checkpoint's among them, as they stand in the segment. */
  bytes: Buffer;
}

/**
 * The reading half of a log: whatever is durable in it, and only that. The founder's `Log` and a replica's `LogCopy`
 * add how entries come in; nothing that names an entry (checkpoint, size, readers, subscribers) shows it before its
 * sync returned (promises 1 and 6).
 */
export abstract class DurableLog {
  readonly meshId: string;
  readonly genesis: EventBody<'mesh.created'>;
  /** What recovery cut off; null where the log ended cleanly. */
  readonly cut: CutTail | null;
  /** What opening read and checked: all of the log, or what follows the snapshot that it began at. */
  readonly opened: Readonly<{ entries: number; bytes: number }>;
  protected readonly storage: LogStorage;
  protected writer: SegmentWriter;
  /** The log begins behind this checkpoint; null: at entry 0. */
  #begins: ChainState | null;
  #offsets: Offsets;
  readonly #subscribers = new Set<(batch: CommittedBatch) => void>();
  readonly #wakers = new Set<() => void>();
  readonly #failureListeners = new Set<(error: SuperfleetError) => void>();
  #checkpoint: Checkpoint;
  #leadership: Leadership;
  #failure: SuperfleetError | null = null;
  #closed = false;

  /** `begins`: the checkpoint behind which the scan's log begins; null: at entry 0. */
  protected constructor(
    scan: Scan,
    cut: CutTail | null,
    storage: LogStorage,
    segmentBytes: number,
    begins: ChainState | null = null,
  ) {
    const { settled } = scan.chain;
    this.meshId = settled.meshId!;
    this.genesis = settled.genesis!;
    this.cut = cut;
    this.opened = { entries: settled.checkpoint!.size - scan.from, bytes: scan.bytes };
    this.storage = storage;
    this.writer = new SegmentWriter(storage, { segment: scan.last, end: scan.end }, segmentBytes);
    this.#begins = begins;
    this.#offsets = scan.offsets;
    this.#checkpoint = settled.checkpoint!;
    this.#leadership = settled.leadership!;
  }

  /** Durable entries. */
  get size(): number {
    return this.#checkpoint.size;
  }

  /** Lowest index held. Above 0 in a copy that began at a snapshot, until the entries before have been fetched. */
  get first(): number {
    return this.#begins?.frontier.size ?? 0;
  }

  /** What was known of the log where this one begins; null: it begins at entry 0. */
  get begins(): ChainState | null {
    return this.#begins;
  }

  /** The newest checkpoint whose batch is durable. */
  get checkpoint(): Checkpoint {
    return this.#checkpoint;
  }

  /** Who writes this log after its durable entries, and every handover in them. */
  get leadership(): Leadership {
    return this.#leadership;
  }

  get epoch(): number {
    return this.#leadership.epoch;
  }

  /** Why the log stopped for good; null while it works. */
  get failure(): SuperfleetError | null {
    return this.#failure;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Up to `limit` durable entries from an index on; fewer where they are long. Empty past the end. Like all reading here it
   * throws `SF_NOT_FOUND` for entries before `first`.
   */
  async read(from: number, limit: number): Promise<Entry[]> {
    this.#mustHold(from);
    const found: Entry[] = [];
    let bytes = 0;
    const to = Math.min(this.size, from + Math.min(limit, readEntriesMax));
    for await (const { entry, length } of readEntries(this.storage, this.#offsets, from, to)) {
      found.push(entry);
      bytes += length;
      if (bytes >= readBytesMax) break;
    }
    return found;
  }

  /** Durable entries from `from` to before `to` (default: what is durable at the call), in bounded memory. */
  async *entries(from = 0, to = this.size): AsyncGenerator<Entry> {
    this.#mustHold(from);
    const end = Math.min(to, this.size);
    for await (const { entry } of readEntries(this.storage, this.#offsets, from, end)) yield entry;
  }

  /** RFC 6962 leaf hashes of durable entries from `from` to before `to`. */
  async *leaves(from = 0, to = this.size): AsyncGenerator<Uint8Array> {
    this.#mustHold(from);
    yield* readLeaves(this.storage, this.#offsets, from, Math.min(to, this.size));
  }

  /** The line of a durable entry, as it stands in the log, without its newline. `SF_NOT_FOUND` where there is none. */
  async line(index: number): Promise<string> {
    this.#mustHold(index);
    const line = index < this.size ? await readLine(this.storage, this.#offsets, index) : null;
    if (line !== null) return line;
    throw new SuperfleetError('SF_NOT_FOUND', `the log has no entry ${index}`);
  }

  /** Durable batches as they were committed, from the one that begins at `from` (a size of `checkpointAt`, or 0). */
  async *batches(from: number): AsyncGenerator<DurableBatch> {
    this.#mustHold(from);
    for await (const { entries, checkpoint } of readBatches(this.storage, this.#offsets, from, this.size)) {
      yield { first: entries[0]!.index, last: checkpoint.size - 1, checkpoint, entries };
    }
  }

  /**
   * The bytes of whole batches from `from` (as for `batches`) to the one that reaches `to` (default: what is durable at the
   * call): several in one piece, each piece about as long as asked for or one batch.
   */
  async *raw(from: number, pieceBytes: number, to = this.size): AsyncGenerator<RawBatches> {
    this.#mustHold(from);
    yield* readRaw(this.storage, this.#offsets, { from, to: Math.min(to, this.size), pieceBytes });
  }

  /** The durable bytes of the log as they stand in its segments: JSONL that `verifyExport` checks. */
  async *export(signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    this.#mustHold(0);
    const { segment, end } = this.writer.position;
    if (segment !== null) yield* readBytes(this.storage, { segment, end }, signal);
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
      if (this.size <= next) await this.changed(signal);
    }
  }

  /** The checkpoint that was made at exactly this size; null where no batch ended there. Throws `SF_NOT_PROVED` where its signature is bad. */
  async checkpointAt(size: number): Promise<Checkpoint | null> {
    if (size === this.size) return this.#checkpoint;
    if (size === this.#begins?.frontier.size) return this.#begins.checkpoint;
    if (size < 1 || size < this.first || size > this.size) return null;
    const found = await readCheckpoint(this.storage, this.#offsets, size);
    if (found === null) return null;
    // Recovery need not have checked the signature of one so old.
    const publicKey = publicKeyToBase64(signerAt(this.#leadership, size));
    return verifyCheckpoint(found.text, { origin: this.meshId, publicKey });
  }

  /** Calls back with every batch as it becomes durable, in order. Returns what ends it. */
  subscribe(listener: (batch: CommittedBatch) => void): () => void {
    this.#subscribers.add(listener);
    return () => this.#subscribers.delete(listener);
  }

  /** Calls back once when the log stops for good. Returns what ends it. */
  onFailure(listener: (error: SuperfleetError) => void): () => void {
    this.#failureListeners.add(listener);
    return () => this.#failureListeners.delete(listener);
  }

  /** Resolves when something has become durable, or the log has stopped or closed, or the signal aborts. */
  async changed(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#wakers.add(wake);
    signal.addEventListener('abort', wake);
    try {
      if (!signal.aborted) await promise;
    } finally {
      this.#wakers.delete(wake);
      signal.removeEventListener('abort', wake);
    }
  }

  /** What the log stands on does not hold: it is stopped for good, and nothing more is appended. */
  halt(failure: SuperfleetError): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.announceFailure(failure);
  }

  /** Lets go of the files. Whoever adds entries finishes first. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.writer.close();
    for (const wake of this.#wakers) wake();
  }

  protected refuseFurther(): void {
    this.#closed = true;
  }

  /** Puts one batch behind the others; once it is synced everyone sees it. Rejects with the disk's own error. */
  protected async write(batch: CommittedBatch, leadership: Leadership): Promise<void> {
    const place = await this.writer.write(batch.first, batch.bytes);
    this.#offsets.add({ index: batch.first, ...place });
    this.#checkpoint = batch.checkpoint;
    this.#leadership = leadership;
  }

  /** Nothing of what was written stands here any more: the log begins behind this checkpoint, in a segment of its own. */
  protected async rebase(begins: ChainState, segmentBytes: number): Promise<void> {
    await this.writer.close();
    this.writer = new SegmentWriter(this.storage, { segment: null, end: 0 }, segmentBytes);
    this.#begins = begins;
    this.#offsets = new Offsets();
    this.#checkpoint = begins.checkpoint!;
    this.#leadership = begins.leadership!;
    for (const wake of this.#wakers) wake();
  }

  /** The segments of the entries before `first`, which another log held, stand beside ours now. */
  protected widen(before: DurableLog): void {
    this.#offsets = this.#offsets.after(before.#offsets);
    this.#begins = null;
  }

  #mustHold(from: number): void {
    const { first } = this;
    if (from >= first) return;
    throw new SuperfleetError('SF_NOT_FOUND', `entries before ${first} are still being fetched`, {
      expected: `an entry from ${first} on`,
      got: `entry ${from}`,
      hint: 'this copy of the log began at a snapshot: ask again when it holds the rest, or ask the founder',
    });
  }

  /** Tells who listens of a batch that `write` has made durable. */
  protected announce(batch: CommittedBatch): void {
    for (const listener of this.#subscribers) listener(batch);
    for (const wake of this.#wakers) wake();
  }

  /** Stops for good: the disk's refusal is what every later call meets. */
  protected async fail(error: unknown): Promise<SuperfleetError> {
    const failure = diskFailure(error, this.storage.describe(this.writer.position.segment ?? 0));
    this.#failure = failure;
    await this.writer.cutBack();
    return failure;
  }

  protected announceFailure(failure: SuperfleetError): void {
    for (const listener of this.#failureListeners) listener(failure);
    for (const wake of this.#wakers) wake();
  }
}

/** Cuts a torn tail, a copy kept (promise 3), and syncs what the log will speak of. Rejects with `SF_LOG_FAILED` or `SF_DISK_FULL`. */
export async function settled(storage: LogStorage, scan: Scan): Promise<CutTail | null> {
  try {
    return await settle(storage, scan);
  } catch (error) {
    throw diskFailure(error, storage.describe(scan.last ?? 0));
  }
}
