import type { Logger } from 'pino';
import { openIndexDatabase } from '../../ledger/index/index-database.ts';
import { IndexStore } from '../../ledger/index/index-store.ts';
import { keepIndexed } from '../../ledger/index/keep-indexed.ts';
import { parseCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { TaskArchive } from '../../ledger/log/archive.ts';
import type { DurableLog } from '../../ledger/log/durable-log.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { CopyObject } from '../api/objects.ts';
import type { ReadOnlyPort } from '../api/read-only.ts';
import type { Lifetime } from '../daemon/process.ts';
import type { Replica } from './replica.ts';

export interface CopyReaderOptions {
  mesh: string;
  replica: Replica;
  /** Folder of the index, which can be rebuilt. */
  indexPath: string;
  /** Newest checkpoint that this machine has seen. */
  checkpoint(): string | null;
  /** Why the founder does not answer, in words. */
  why(): string;
  logger: Logger;
  lifetime: Pick<Lifetime, 'onStop'>;
}

/** A replica's copy and the index of it, for who asks this machine while the founder cannot be reached. */
export class CopyReader {
  readonly #options: CopyReaderOptions;
  #begun: { log: DurableLog; index: IndexStore; archive: TaskArchive } | null = null;

  private constructor(options: CopyReaderOptions) {
    this.#options = options;
  }

  /** Indexes the copy as it grows. To be opened before the replica starts; ends with the lifetime, after the replica. */
  static async open(options: CopyReaderOptions): Promise<CopyReader> {
    const { indexPath, lifetime, logger, replica } = options;
    const database = await openIndexDatabase(indexPath);
    const reader = new CopyReader(options);
    lifetime.onStop(() => reader.#begun?.index.close() ?? database.close());
    const failed = (error: unknown): void => logger.debug(`the copy was not indexed: ${String(error)}`);
    replica.onBegun((log) => {
      IndexStore.open(database, log).then((index) => {
        reader.#begun = { log, index, archive: new TaskArchive(log, index) };
        keepIndexed(log, index, failed);
      }, failed);
    });
    return reader;
  }

  /** What it can answer; null: there is no copy yet, or nothing vouches for its state yet. */
  get port(): ReadOnlyPort | null {
    const begun = this.#begun;
    // A state that came with a snapshot is somebody's word until the log has named it.
    if (begun === null || !this.#options.replica.isStateProved) return null;
    const { mesh, replica, why } = this.#options;
    const { log, archive } = begun;
    return {
      mesh,
      archive,
      state: () => replica.state,
      asOf: () => ({
        size: log.size,
        root: log.checkpoint.root,
        time: replica.state.mesh.time,
        behind: this.behind,
        why: why(),
      }),
      refusal: () => new SuperfleetError('SF_UNREACHABLE', 'only the founder can answer this'),
    };
  }

  /** What `mesh-node status` says of the copy. */
  get object(): CopyObject {
    const { size, root, from, fetched, source } = this.#options.replica.status;
    const { byPeer } = this.#options.replica.state.members;
    const follows = source === null ? null : { id: source, name: byPeer.get(source)?.name ?? null };
    return { size, root, from, fetched, follows, behind: this.behind };
  }

  /** Entries that the copy is known to lack: of its source, and of any checkpoint this machine saw; null: none was seen. */
  get behind(): number | null {
    const { replica, checkpoint } = this.#options;
    const seen = checkpoint();
    const { behind, size } = replica.status;
    if (seen === null) return behind;
    return Math.max(behind ?? 0, parseCheckpoint(seen).size - size);
  }
}
