import type { Logger } from 'pino';
import { TaskArchive } from '../../ledger/archive.ts';
import { IndexStore, openIndexDatabase } from '../../ledger/index-store.ts';
import { Log } from '../../ledger/log.ts';
import { keepState, replayLog } from '../../ledger/replay.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import type { Lifetime } from '../../node/daemon/process.ts';
import type { Folder } from '../../node/folder.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import type { SigningKey } from '../../protocol/keys.ts';

/** A start that had to replay more entries than this keeps the state at once. */
const KEEP_AFTER = 10_000;

/** The index is brought up to date when the log has grown by so many entries: whoever asks it does not wait for more. */
const INDEX_AFTER = 4_096;

/** What the founder holds of its log while it runs. */
export interface Ledger {
  storage: FileStorage;
  log: Log;
  index: IndexStore;
  /** Tasks that have left the state. */
  archive: TaskArchive;
  /** Of all entries; the core goes on from it, and it is kept when the log is closed. */
  state: MeshState;
  /** Entry 0 as it stands in the log: what certificates and receipt files are proved by. */
  genesisLine: string;
}

/**
 * Opens the log, which is the truth, and replays from it everything that this process knows of the mesh. Closed with
 * `lifetime`, after whoever appends: the state is kept then, so that the next start replays only what is newer.
 */
export async function openLedger(
  {
    folder: { paths },
    logger,
  }: { folder: { paths: Pick<Folder['paths'], 'log' | 'index'> }; logger: Logger },
  key: SigningKey,
  lifetime: Pick<Lifetime, 'onStop'>,
): Promise<Ledger> {
  const database = await openIndexDatabase(paths.index);
  lifetime.onStop(() => database.close());
  const storage = new FileStorage(paths.log);
  const log = await Log.open({ storage, key });
  lifetime.onStop(() => log.close());
  if (log.cut !== null) logger.warn(log.cut, 'the end of the log was torn by a crash and has been cut off');
  const index = await IndexStore.open(database, log);
  const { state, kept } = await replayLog(log, index);
  const replayed = log.size - kept;
  const keep = (): Promise<void> =>
    keepState(log, index, state).then(
      () => {},
      // Nothing is lost with it: the next start reads more of the log.
      (error: unknown) => logger.warn(`the state was not kept for the next start: ${String(error)}`),
    );
  // What a crash made this start read, the next one is spared.
  if (replayed > KEEP_AFTER) await keep();
  const archive = new TaskArchive(log, index);
  keepIndexed(log, index, logger);
  lifetime.onStop(async () => {
    await log.close();
    await keep();
    await index.close();
  });
  logger.debug({ entries: log.size, replayed }, 'the log is open');
  return { storage, log, index, archive, state, genesisLine: await genesisLineOf(log) };
}

/** Indexes what is durable, now and as the log grows, beside whatever else goes on. */
function keepIndexed(log: Log, index: IndexStore, logger: Logger): void {
  const catchUp = (): void => {
    if (log.size - index.built < INDEX_AFTER) return;
    // Whoever asks the index next tries it again.
    index.catchUp().catch((error: unknown) => logger.debug(`the log was not indexed: ${String(error)}`));
  };
  log.subscribe(catchUp);
  catchUp();
}

async function genesisLineOf(log: Log): Promise<string> {
  const [entry] = await log.read(0, 1);
  const line = JSON.stringify(entry);
  if (meshIdOfLine(line) === log.meshId) return line;
  throw new SuperfleetError('SF_INTERNAL', 'the genesis entry was read differently from how it was written');
}
