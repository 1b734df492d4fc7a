import type { Logger } from 'pino';
import { openIndexDatabase } from '../../ledger/index/index-database.ts';
import { IndexStore } from '../../ledger/index/index-store.ts';
import { keepIndexed } from '../../ledger/index/keep-indexed.ts';
import { TaskArchive } from '../../ledger/log/archive.ts';
import { openBase } from '../../ledger/log/beginning.ts';
import { fileBeginning } from '../../ledger/log/beginning-file.ts';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { defaultBounds } from '../../ledger/state/reducer.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { Lifetime } from '../../node/daemon/process.ts';
import type { Folder } from '../../node/folder.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import type { SigningKey } from '../../protocol/keys.ts';

/** What the founder holds of its log while it runs. */
export interface Ledger {
  storage: FileStorage;
  log: Log;
  index: IndexStore;
  /** Tasks that have left the state. */
  archive: TaskArchive;
  /** Of all entries; the core goes on from it. */
  state: MeshState;
  /** Entry 0 as it stands in the log: what certificates and receipt files are proved by. */
  genesisLine: string;
}

/**
 * Opens the log, which is the truth, and replays from it, or from its newest snapshot on, everything that this process
 * knows of the mesh. Closed with `lifetime`, after whoever appends.
 */
export async function openLedger(
  {
    folder: { paths },
    logger,
  }: { folder: { paths: Pick<Folder['paths'], 'log' | 'index' | 'snapshots'> }; logger: Logger },
  key: SigningKey,
  lifetime: Pick<Lifetime, 'onStop'>,
): Promise<Ledger> {
  const database = await openIndexDatabase(paths.index);
  lifetime.onStop(() => database.close());
  const storage = new FileStorage(paths.log);
  const snapshots = new FileSnapshotStore(paths.snapshots);
  const { base } = fileBeginning(paths.log);
  const { log, state, spared, passedOver, contradictions } = await restart(
    storage,
    snapshots,
    (at) => Log.open({ storage, key, ...at }),
    defaultBounds,
    base,
  );
  lifetime.onStop(() => log.close());
  if (log.first > 0) {
    logger.warn({ from: log.first }, `this log begins at a snapshot: entries before ${log.first} come later`);
  }
  if (log.cut !== null) logger.warn(log.cut, 'the end of the log was torn by a crash and has been cut off');
  for (const { name, why } of passedOver) logger.warn({ snapshot: name }, `a snapshot was not used: ${why}`);
  for (const what of contradictions) {
    logger.error({ code: 'SF_INTERNAL' }, `${what}: keep a copy of the data folder and report this`);
  }
  const index = await IndexStore.open(database, log);
  const archive = new TaskArchive(log, index);
  keepIndexed(log, index, (error) => logger.debug(`the log was not indexed: ${String(error)}`));
  lifetime.onStop(async () => {
    await log.close();
    await index.close();
  });
  logger.debug({ entries: log.size, replayed: log.size - spared }, 'the log is open');
  return {
    storage,
    log,
    index,
    archive,
    state,
    genesisLine: (await openBase(base))?.genesisLine ?? (await genesisLineOf(log)),
  };
}

async function genesisLineOf(log: Log): Promise<string> {
  const [entry] = await log.read(0, 1);
  const line = JSON.stringify(entry);
  if (meshIdOfLine(line) === log.meshId) return line;
  throw new SuperfleetError('SF_INTERNAL', 'the genesis entry was read differently from how it was written');
}
