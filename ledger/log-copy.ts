import { SuperfleetError } from '../protocol/errors.ts';
import { batchBytesMax, segmentBytes } from '../protocol/limits.ts';
import { takeBatches } from './batch.ts';
import { startAt } from './beginning.ts';
import { Chain, type ChainState } from './chain.ts';
import type { Checkpoint } from './checkpoint.ts';
import { DurableLog, settled } from './durable-log.ts';
import type { HandoverFrom } from './handover.ts';
import { type CutTail, emptySegment } from './recovery.ts';
import { type Scan, type ScanOptions, type ScanStart, scanLog } from './scan.ts';
import type { LogStorage } from './storage.ts';
import { SegmentWriter } from './writer.ts';

export interface OpenCopyOptions {
  storage: LogStorage;
  /** Mesh id that the log must be of. */
  mesh: string;
  /** Where reading begins: what a snapshot holds is neither read nor checked. @default all of it is */
  from?: ScanStart | null;
  /** The log begins here, at a snapshot: entries before are not in it. @default at entry 0 */
  begins?: ChainState | null;
  /** As `ScanOptions.onBatch`: the entries as recovery reads them. */
  onBatch?: NonNullable<ScanOptions['onBatch']>;
  /** @default `segmentBytes` */
  segmentBytes?: number;
}

/** What recovery takes for one write of a copy. */
export const pieceBytesMax = 2 * batchBytesMax;

/**
 * A replica's copy of the log. It takes the bytes of whole batches from whoever has them, appends only what follows its own
 * last checkpoint with every root and signature right, and speaks of it when it is synced (promise 6).
 */
export class LogCopy extends DurableLog {
  #chain: Chain;
  #taking: Promise<unknown> = Promise.resolve();
  readonly #segmentBytes: number;

  private constructor(
    scan: Scan,
    cut: CutTail | null,
    { storage, segmentBytes: bytesMax = segmentBytes, begins }: OpenCopyOptions,
  ) {
    super(scan, cut, storage, bytesMax, begins);
    this.#segmentBytes = bytesMax;
    this.#chain = new Chain('all', scan.chain.settled);
  }

  /**
   * Begins a copy with the first batches of the log, synced. Throws `SF_NOT_PROVED` where they are not of this mesh or do
   * not hold together, `SF_EXISTS` where there is a log.
   */
  static async create(options: OpenCopyOptions, bytes: Buffer): Promise<LogCopy> {
    const { storage, mesh } = options;
    const chain = new Chain('all');
    takeBatches(chain, bytes);
    if (chain.settled.meshId !== mesh) {
      throw new SuperfleetError('SF_NOT_PROVED', 'the log is of another mesh', {
        expected: mesh,
        got: chain.settled.meshId,
      });
    }
    const segment = await emptySegment(storage);
    const writer = new SegmentWriter(storage, { segment, end: 0 }, options.segmentBytes ?? segmentBytes);
    try {
      await writer.write(0, bytes);
      await storage.syncDirectory();
    } finally {
      await writer.close();
    }
    return LogCopy.open(options);
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
   * the disk refuses, after which the copy is stopped for good. Calls are carried out one after the other.
   */
  take(bytes: Buffer): Promise<Checkpoint> {
    const taken = this.#taking.then(() => this.#take(bytes));
    this.#taking = taken.catch(() => {});
    return taken;
  }

  /**
   * Goes on behind a checkpoint that is further than the last one, known to hold, and does not hold the entries before it any
   * more. `moved` takes away the segments there are, lasting.
   */
  beginAt(chain: ChainState, moved: () => Promise<void>): Promise<void> {
    const begun = this.#taking.then(async () => {
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
    });
    this.#taking = begun.catch(() => {});
    return begun;
  }

  /** The entries before `first` stand in this log's folder now: `before` held them. */
  joined(before: LogCopy): void {
    this.widen(before);
  }

  override async close(): Promise<void> {
    this.refuseFurther();
    await this.#taking;
    await super.close();
  }

  async #take(bytes: Buffer): Promise<Checkpoint> {
    if (this.failure !== null) throw this.failure;
    if (this.closed) throw new SuperfleetError('SF_LOG_FAILED', 'the log is closed');
    if (bytes.length > pieceBytesMax) {
      throw new SuperfleetError('SF_FRAME', `batches of ${bytes.length} bytes came in one piece`, {
        expected: `at most ${pieceBytesMax} bytes`,
      });
    }
    const chain = this.#chain.fromSettled();
    const batch = takeBatches(chain, bytes);
    try {
      await this.write(batch, chain.settled.leadership!);
    } catch (error) {
      const failure = await this.fail(error);
      this.announceFailure(failure);
      throw failure;
    }
    this.#chain = chain;
    this.announce(batch);
    return batch.checkpoint;
  }
}
