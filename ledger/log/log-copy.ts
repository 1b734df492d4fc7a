import { SuperfleetError } from '../../protocol/errors.ts';
import { batchBytesMax, segmentBytes } from '../../protocol/limits.ts';
import type { Checkpoint } from '../lines/checkpoint.ts';
import type { LogStorage } from '../storage/storage.ts';
import { takeBatches } from './batch.ts';
import { startAt } from './beginning.ts';
import { Chain, type ChainState } from './chain.ts';
import { type CommittedBatch, DurableLog, settled } from './durable-log.ts';
import type { HandoverFrom } from './handover.ts';
import { Offsets } from './offsets.ts';
import { type CutTail, emptySegment } from './recovery.ts';
import { type Scan, type ScanOptions, type ScanStart, scanLog } from './scan.ts';
import { SegmentWriter } from './writer.ts';

export interface OpenCopyOptions {
  storage: LogStorage;
  /** Mesh id that the log must be of. */
  mesh: string;
  /** Where reading begins: what a snapshot holds is neither read nor checked. @default all of it is */
  from?: ScanStart | null;
  /** The log begins here, at a snapshot: entries before are not in it. @default at entry 0 */
  begins?: ChainState | null;
  /** Entries that it may come to hold. @default any number */
  sizeMax?: number;
  /** As `ScanOptions.onBatch`: the entries as recovery reads them. */
  onBatch?: NonNullable<ScanOptions['onBatch']>;
  /** @default `segmentBytes` */
  segmentBytes?: number;
}

/** What recovery takes for one write of a copy. */
export const pieceBytesMax = 2 * batchBytesMax;
/** Batches that wait for the disk share a write up to this: longer ones gain nothing. */
const writeBytes = 1024 * 1024;

/** Batches that are verified and not yet on the disk, and the log up to them. */
interface Waiting {
  batch: CommittedBatch;
  chain: Chain;
  resolve: () => void;
  reject: (reason: unknown) => void;
}

/**
 * A replica's copy of the log. It takes the bytes of whole batches from whoever has them, appends only what follows its own
 * last checkpoint with every root and signature right, and speaks of it when it is synced (promise 6).
 */
export class LogCopy extends DurableLog {
  /** Up to what is synced, and up to what is verified. */
  #chain: Chain;
  #verified: Chain;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  /** A new beginning that is under way. */
  #moving: Promise<void> | null = null;
  readonly #segmentBytes: number;
  readonly #sizeMax: number | undefined;

  private constructor(
    scan: Scan,
    cut: CutTail | null,
    { storage, segmentBytes: bytesMax = segmentBytes, begins, sizeMax }: OpenCopyOptions,
  ) {
    super(scan, cut, storage, bytesMax, begins);
    this.#segmentBytes = bytesMax;
    this.#sizeMax = sizeMax;
    this.#chain = new Chain('all', scan.chain.settled);
    this.#verified = this.#chain;
  }

  /**
   * Begins a copy with the first batches of the log, synced. Throws `SF_NOT_PROVED` where they are not of this mesh or do
   * not hold together, `SF_EXISTS` where there is a log. `signatures` as for `take`.
   */
  static async create(
    options: OpenCopyOptions,
    bytes: Buffer,
    signatures: 'all' | 'last' = 'all',
  ): Promise<LogCopy> {
    const { storage, mesh } = options;
    const bytesMax = options.segmentBytes ?? segmentBytes;
    const chain = new Chain(signatures === 'all' ? 'all' : 'deferred');
    inBounds(takeBatches(chain, bytes).checkpoint, options.sizeMax);
    if (chain.settled.meshId !== mesh) {
      throw new SuperfleetError('SF_NOT_PROVED', 'the log is of another mesh', {
        expected: mesh,
        got: chain.settled.meshId,
      });
    }
    const segment = await emptySegment(storage);
    const writer = new SegmentWriter(storage, { segment, end: 0 }, bytesMax);
    try {
      await writer.write(0, bytes);
      await storage.syncDirectory();
    } finally {
      await writer.close();
    }
    const offsets = new Offsets();
    offsets.add({ index: 0, segment: 0, offset: 0 });
    const place = { last: 0, end: bytes.length, tornBytes: 0, from: 0, bytes: bytes.length };
    return new LogCopy({ chain, offsets, ...place }, null, options);
  }

  /**
   * Recovers a copy as `Log.open` recovers the founder's log, with the same errors. `SF_NOT_FOUND` where there is none; one
   * that begins at a snapshot is there as soon as the snapshot is.
   */
  static async open(options: OpenCopyOptions): Promise<LogCopy> {
    const { storage, mesh, begins = null, onBatch } = options;
    const from = options.from ?? (begins && startAt(begins));
    const scan = await scanLog(storage, {
      from,
      signatures: 'recent',
      writes: 'piece',
      ...(onBatch && { onBatch }),
    });
    if ((scan.last === null && begins === null) || scan.chain.settled.checkpoint === null) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no log at ${storage.describe(0)}`);
    }
    if (scan.chain.settled.meshId !== mesh) {
      throw new SuperfleetError('SF_FOLDER', `the log at ${storage.describe(0)} is of another mesh`, {
        expected: mesh,
        got: scan.chain.settled.meshId,
      });
    }
    return new LogCopy(scan, await settled(storage, scan), options);
  }

  /** Where the log stands, for a handover that is made here. */
  get standing(): HandoverFrom {
    const { leadership, checkpoint, frontier, time } = this.#chain.settled;
    return { leadership: leadership!, checkpoint: checkpoint!, frontier: frontier.toJSON(), time };
  }

  /**
   * Appends whole batches that follow the last checkpoint; resolves with the new one when they are synced. Rejects with
   * `SF_NOT_PROVED`, and takes none of them, where one line does not follow; with `SF_DISK_FULL` or `SF_LOG_FAILED` where
   * the disk refuses, after which the copy is stopped for good. Batches are verified at the call, after those of the calls
   * before, and written in that order; what waits for the disk shares a write and a sync.
   *
   * `signatures`: `all` checks that of every checkpoint, `last` that of the last one, whose root every entry and every root
   * before is under. Only who holds the log key may be taken at that: another could put what is no signature beside the
   * roots before, and it would be found when such a checkpoint is handed out. @default 'all'
   */
  async take(bytes: Buffer, signatures: 'all' | 'last' = 'all'): Promise<Checkpoint> {
    while (this.#moving !== null) await this.#moving;
    const { batch, chain } = this.#verify(bytes, signatures);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ batch, chain, resolve, reject });
    this.#writing ??= this.#writeAll();
    await promise;
    return batch.checkpoint;
  }

  /**
   * Goes on behind a checkpoint that is further than the last one, known to hold, and does not hold the entries before it any
   * more. `moved` takes away the segments there are, lasting.
   */
  beginAt(chain: ChainState, moved: () => Promise<void>): Promise<void> {
    const before = this.#moving;
    const begun = (async () => {
      await before;
      while (this.#writing !== null) await this.#writing;
      if (this.failure !== null) throw this.failure;
      try {
        await moved();
        await this.rebase(chain, this.#segmentBytes);
      } catch (error) {
        const failure = await this.fail(error);
        this.announceFailure(failure);
        throw failure;
      }
      this.#chain = new Chain('all', chain);
      this.#verified = this.#chain;
    })();
    const over: Promise<void> = begun
      .catch(() => {})
      .finally(() => {
        if (this.#moving === over) this.#moving = null;
      });
    this.#moving = over;
    return begun;
  }

  /** The entries before `first` stand in this log's folder now: `before` held them. */
  joined(before: LogCopy): void {
    this.widen(before);
  }

  override async close(): Promise<void> {
    this.refuseFurther();
    await this.#moving;
    await this.#writing;
    await super.close();
  }

  #verify(bytes: Buffer, signatures: 'all' | 'last'): { batch: CommittedBatch; chain: Chain } {
    if (this.failure !== null) throw this.failure;
    if (this.closed) throw new SuperfleetError('SF_LOG_FAILED', 'the log is closed');
    if (bytes.length > pieceBytesMax) {
      throw new SuperfleetError('SF_FRAME', `batches of ${bytes.length} bytes came in one piece`, {
        expected: `at most ${pieceBytesMax} bytes`,
      });
    }
    const chain = new Chain(signatures === 'all' ? 'all' : 'deferred', this.#verified.settled);
    const batch = takeBatches(chain, bytes);
    inBounds(batch.checkpoint, this.#sizeMax);
    this.#verified = chain;
    return { batch, chain };
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const taken = this.#takeWaiting();
      const { chain } = taken.at(-1)!;
      const batch = asOne(taken.map((each) => each.batch));
      try {
        await this.write(batch, chain.settled.leadership!);
      } catch (error) {
        const failure = await this.fail(error);
        for (const { reject } of [...taken, ...this.#waiting.splice(0)]) reject(failure);
        this.announceFailure(failure);
        break;
      }
      this.#chain = chain;
      try {
        this.announce(batch);
        for (const { resolve } of taken) resolve();
      } catch (error) {
        for (const { reject } of taken) reject(error);
      }
    }
    this.#writing = null;
  }

  /** What waits, in order: as much as is worth one write. */
  #takeWaiting(): Waiting[] {
    let bytes = 0;
    const over = this.#waiting.findIndex(({ batch }, at) => {
      bytes += batch.bytes.length;
      return at > 0 && bytes > writeBytes;
    });
    return this.#waiting.splice(0, over === -1 ? this.#waiting.length : over);
  }
}

/** Batches that follow each other as one. */
function asOne(batches: readonly CommittedBatch[]): CommittedBatch {
  const last = batches.at(-1)!;
  if (batches.length === 1) return last;
  return {
    first: batches[0]!.first,
    last: last.last,
    checkpoint: last.checkpoint,
    entries: batches.flatMap(({ entries }) => entries),
    leaves: batches.flatMap(({ leaves }) => leaves),
    bytes: Buffer.concat(batches.map(({ bytes }) => bytes)),
  };
}

function inBounds({ size }: Checkpoint, sizeMax = Number.MAX_SAFE_INTEGER): void {
  if (size <= sizeMax) return;
  throw new SuperfleetError('SF_NOT_PROVED', `the log that came has no checkpoint of ${sizeMax} entries`, {
    expected: `a checkpoint of size ${sizeMax}, which is signed elsewhere`,
    got: `batches up to size ${size}`,
  });
}
