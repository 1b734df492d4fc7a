import type { Logger } from 'pino';
import type { EventBody } from '../../ledger/lines/events.ts';
import type { CommittedBatch, Log } from '../../ledger/log/log.ts';
import type { FolderPaths } from '../../node/folder.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { makeSnapshotInProcess } from './snapshot-maker.ts';

/** A snapshot is made when the log has grown by this since the newest: what a start replays is about that. */
const snapshotEntries = 25_000;
const snapshotBytes = 64 * 1024 * 1024;
/**
 * After one none is made for so many times as long as it took, so that a log which grows by that every few seconds does not cost a
 * processor for its snapshots alone; but for one that has grown by so many times as much, which a start is not to replay.
 */
const snapshotRest = 10;
const snapshotMost = 20;
/** An orderly stop makes one where this spares the next start something and can be done within `stopMs`. */
const stopEntries = { min: 1_000, max: 20_000 };
const stopMs = 1_000;

export interface SnapshotsOptions {
  log: Log;
  paths: Pick<FolderPaths, 'log' | 'snapshots'>;
  logger: Logger;
  /** One is on the disk, and the log may say so. */
  made(snapshot: EventBody<'log.snapshot'>): void;
  /** Segments that lie wholly before the second newest snapshot are compressed after each. */
  compress: boolean;
  /** How much the log grows between two of them. @default `snapshotEntries`, `snapshotBytes` */
  every?: { entries: number; bytes: number };
  /** How many times as long as the last one took none is made. @default `snapshotRest` */
  rest?: number;
}

/**
 * Makes snapshots of a log while it grows, one at a time, in a process of its own each. One that fails is a warning, and the
 * next is tried when the log has grown as much again: without any, a start reads more of the log.
 */
export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #every: { entries: number; bytes: number };
  readonly #ending = new AbortController();
  readonly #unsubscribe: () => void;
  /** Since the newest snapshot, or the last that was tried. */
  #since: { entries: number; bytes: number };
  #making: Promise<void> | null = null;
  /** None begins before (monotonic), unless the log has grown by `snapshotMost` as much as it may. */
  #restUntil = 0;
  #resting: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(options: SnapshotsOptions) {
    const { log, every = { entries: snapshotEntries, bytes: snapshotBytes } } = options;
    this.#options = options;
    this.#every = every;
    this.#since = { entries: log.opened.entries, bytes: log.opened.bytes };
    this.#unsubscribe = log.subscribe((batch) => this.#grown(batch));
    this.#makeWhereDue();
  }

  /** Makes the last one where that is cheap; what is not done after a second is left. Never rejects. */
  async stop(): Promise<void> {
    this.#ended = true;
    this.#unsubscribe();
    if (this.#resting !== null) clearTimeout(this.#resting);
    const { entries } = this.#since;
    const cheap = entries >= stopEntries.min && entries <= stopEntries.max;
    if (this.#options.log.failure === null && cheap) this.#begin(false);
    if (this.#making === null) return;
    const late = setTimeout(() => this.#abort(), stopMs);
    await this.#making;
    clearTimeout(late);
  }

  #grown({ entries, bytes }: CommittedBatch): void {
    this.#since.entries += entries.length;
    this.#since.bytes += bytes.length;
    this.#makeWhereDue();
  }

  #makeWhereDue(): void {
    const { entries, bytes } = this.#since;
    const grown = Math.max(entries / this.#every.entries, bytes / this.#every.bytes);
    if (grown < 1 || this.#making !== null) return;
    const restMs = this.#restUntil - performance.now();
    if (restMs <= 0 || grown >= snapshotMost) this.#begin();
    else
      this.#resting ??= setTimeout(() => {
        this.#resting = null;
        this.#makeWhereDue();
      }, Math.ceil(restMs)).unref();
  }

  #begin(compress = this.#options.compress): void {
    const began = performance.now();
    this.#making ??= this.#makeOne(compress).finally(() => {
      const ended = performance.now();
      this.#restUntil = ended + (this.#options.rest ?? snapshotRest) * (ended - began);
      this.#making = null;
      // What was appended meanwhile may be enough for the next.
      if (!this.#ended) this.#makeWhereDue();
    });
  }

  async #makeOne(compress: boolean): Promise<void> {
    const { log, paths, logger, made } = this.#options;
    const { size, root } = log.checkpoint;
    const began = performance.now();
    const ms = (): number => Math.round(performance.now() - began);
    this.#since = { entries: 0, bytes: 0 };
    try {
      const order = { log: paths.log, snapshots: paths.snapshots, mesh: log.meshId, size, compress };
      const snapshot = await makeSnapshotInProcess(order, this.#ending.signal, {
        made: (snapshot) => {
          if (snapshot.size !== size || snapshot.root !== root) return;
          logger.debug({ size, ms: ms() }, 'a snapshot of the log was made');
          made(snapshot);
        },
        compressed: (done) => {
          if (done.segments > 0)
            logger.info({ ...done, ms: ms() }, 'old segments of the log were compressed');
        },
        uncompressed: ({ code, message }) => logger.warn({ code }, `the log was not compressed: ${message}`),
      });
      if (snapshot.size === size && snapshot.root === root) return;
      throw new SuperfleetError('SF_INTERNAL', 'the snapshot is of another checkpoint', {
        expected: `size ${size}, root ${root}`,
        got: `size ${snapshot.size}, root ${snapshot.root}`,
      });
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      const { code, message } = asSuperfleetError(error);
      logger.warn(
        { code, size },
        `no snapshot was made, so the next start reads more of the log: ${message}`,
      );
    }
  }

  #abort(): void {
    this.#ending.abort(new SuperfleetError('SF_UNREACHABLE', 'the founder is stopping'));
  }
}
