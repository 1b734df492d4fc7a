import type { Connection } from '@libp2p/interface';
import { type Checkpoint, parseCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { type Beginning, gatherBeginning, joinBeginning } from '../../ledger/log/beginning.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import type { Base } from '../../ledger/snapshots/snapshot.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import { Backfill, type BackfillOptions } from './backfill.ts';
import { takeSnapshot } from './take-snapshot.ts';

/** A snapshot is taken where it spares the fetching of so many entries before the newest can be followed. */
const snapshotAheadEntries = 50_000;
/** So many snapshots that do not hold are enough: from then on the log is fetched from its first entry. */
const unusableMax = 64;

export interface CatchUpOptions
  extends Pick<BackfillOptions, 'sources' | 'dial' | 'onTip' | 'onLeft' | 'timers'> {
  mesh: string;
  storage: LogStorage;
  beginning: Beginning;
  /** How far a snapshot must be ahead of a copy that there is. @default `snapshotAheadEntries` */
  aheadEntries?: number;
  /** @default that of `Backfill` */
  backfillBytesPerSecond?: number;
  /** Something that was kept or sent does not hold: somebody must know of it. */
  onFault?(error: SuperfleetError): void;
  /** Two checkpoints that prove an equivocation. */
  onConflict?(checkpoints: [string, string]): void;
  /** Everything here stops. */
  ending: AbortSignal;
}

/** How a replica far behind catches up: it begins at a snapshot, and fetches the entries before it in the background. */
export class CatchUp {
  readonly #options: CatchUpOptions;
  /** Snapshots that did not hold: source and size. */
  readonly #unusable = new Set<string>();
  #backfill: Backfill | null = null;
  #backfilling: Promise<void> = Promise.resolve();

  constructor(options: CatchUpOptions) {
    this.#options = options;
  }

  /** Entries before the snapshot that have been fetched. */
  get fetched(): number {
    return this.#backfill?.copy?.size ?? 0;
  }

  /** Entries under a snapshot of this source that is worth beginning at; null: there is none. */
  worthTaking(peer: string, { snapshot, at }: LogTip, copy: LogCopy | null): number | null {
    const { aheadEntries = snapshotAheadEntries } = this.#options;
    if (snapshot === undefined || this.#unusable.size >= unusableMax) return null;
    if (this.#unusable.has(`${peer} ${snapshot.size}`)) return null;
    if (copy === null) return snapshot.size;
    // One whose beginning is still being fetched follows from where it is: its segments are no beginning of another.
    if (copy.first > 0 || snapshot.size - copy.size < aheadEntries) return null;
    // It speaks of the same history as far as ours goes, so that what is between can be fetched from it.
    return at !== null && parseCheckpoint(at).root === copy.checkpoint.root ? snapshot.size : null;
  }

  /**
   * Makes the copy, which is made where there is none, begin at a snapshot of this source; what it held is kept as what has
   * been fetched. Null where the snapshot does not hold or is gone: it is not asked for again.
   */
  async beginAt(
    connection: Connection,
    peer: string,
    size: number,
    copy: LogCopy | null,
    signal: AbortSignal,
  ): Promise<{ base: Base; copy: LogCopy } | null> {
    const { mesh, storage, beginning, onFault } = this.#options;
    let taken: Awaited<ReturnType<typeof takeSnapshot>>;
    try {
      taken = await takeSnapshot({ connection, mesh, size, store: beginning.base, signal });
    } catch (thrown) {
      const error = asSuperfleetError(thrown);
      if (error.code !== 'SF_NOT_PROVED' && error.code !== 'SF_NOT_FOUND' && error.code !== 'SF_FRAME')
        throw error;
      this.#unusable.add(`${peer} ${size}`);
      if (error.code === 'SF_NOT_PROVED') onFault?.(error);
      return null;
    }
    const { base, incoming } = taken;
    const keep = async (): Promise<void> => {
      await incoming.keep(size);
      await gatherBeginning(storage, beginning, size);
    };
    if (copy !== null) {
      await copy.beginAt(base.chain, keep);
      return { base, copy };
    }
    await keep();
    return { base, copy: await LogCopy.open({ storage, mesh, begins: base.chain }) };
  }

  /** Fetches the entries before the snapshot at which this copy begins; `whole` is called when they are part of it. */
  fillIn(copy: LogCopy, whole: () => Promise<void>): void {
    this.#backfilling = this.#fillIn(copy, whole).catch((thrown: unknown) => {
      if (!this.#options.ending.aborted) this.#options.onFault?.(asSuperfleetError(thrown));
    });
  }

  /** Somebody can be asked who could not before. */
  again(): void {
    this.#backfill?.again();
  }

  /** Resolves when nothing is fetched any more: soon after `ending` aborts. */
  settled(): Promise<void> {
    return this.#backfilling;
  }

  async #fillIn(copy: LogCopy, whole: () => Promise<void>): Promise<void> {
    const { storage, beginning, backfillBytesPerSecond, ending, onConflict, onFault } = this.#options;
    const until = copy.begins!.checkpoint!;
    const backfill = await Backfill.open({
      ...this.#options,
      until,
      ...(backfillBytesPerSecond !== undefined && { bytesPerSecond: backfillBytesPerSecond }),
    });
    this.#backfill = backfill;
    await backfill.run(ending).finally(() => backfill.close());
    const before = backfill.copy;
    if (before === null || ending.aborted) return;
    if (backfill.isForked) {
      onConflict?.([until.text, before.checkpoint.text]);
      onFault?.(forked(until, before.checkpoint));
    }
    if (!backfill.isWhole) return;
    await joinBeginning(storage, beginning, until.size);
    copy.joined(before);
    this.#backfill = null;
    await whole();
  }
}

const forked = (until: Checkpoint, found: Checkpoint): SuperfleetError =>
  new SuperfleetError(
    'SF_EQUIVOCATION',
    `two histories of ${until.size} entries are signed by the key of this mesh`,
    {
      expected: `root ${until.root}, of the snapshot at which this copy began`,
      got: `root ${found.root}, of the entries that were fetched`,
      hint: 'nothing was changed here; ask the operator which founder is the right one',
    },
  );
