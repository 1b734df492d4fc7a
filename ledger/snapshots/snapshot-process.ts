/** Run as a process of its own by `hub/daemon/snapshot-maker.ts`: makes one snapshot, says what the log is to say of it, and then compresses segments. */
import { asSuperfleetError, type ErrorObject } from '../../protocol/errors.ts';
import type { EventBody } from '../lines/events.ts';
import { fileBeginning } from '../log/beginning-file.ts';
import { type Compressed, compressBefore } from '../log/compress.ts';
import { FileStorage } from '../storage/storage-file.ts';
import { makeSnapshot } from './snapshot-make.ts';
import { FileSnapshotStore } from './snapshot-store-file.ts';

/** Which snapshot is to be made. */
export interface SnapshotOrder {
  /** Folders of the log's segments and of the snapshots. */
  log: string;
  snapshots: string;
  /** Mesh id. */
  mesh: string;
  /** Of a durable checkpoint. */
  size: number;
  /** Compress the segments that lie wholly before the second newest snapshot, which no start needs. @default false */
  compress?: boolean;
}

/** A snapshot or why there is none; then, where it was asked for, what was compressed or why not all was. */
export type SnapshotAnswer =
  | { body: EventBody<'log.snapshot'> }
  | { error: ErrorObject }
  | { compressed: Compressed }
  | { uncompressed: ErrorObject };

async function* answersTo(order: SnapshotOrder): AsyncGenerator<SnapshotAnswer> {
  const { log, snapshots, mesh, size, compress = false } = order;
  const storage = new FileStorage(log);
  const store = new FileSnapshotStore(snapshots);
  try {
    const body = await makeSnapshot({ storage, store, base: fileBeginning(log).base, mesh, size });
    yield { body };
  } catch (error) {
    return yield { error: asSuperfleetError(error).toJSON() };
  }
  if (!compress) return;
  try {
    const second = (await store.list()).at(-2);
    if (second !== undefined) yield { compressed: await compressBefore(storage, second) };
  } catch (error) {
    yield { uncompressed: asSuperfleetError(error).toJSON() };
  }
}

// Whoever asked is gone, however it ended: nobody would take the answer. No orderly end, which a read of a disk that hangs holds up.
const alone = (): void => void process.kill(process.pid, 'SIGKILL');
process.on('disconnect', alone);
// A terminal and a supervisor signal the founder's whole group; the founder, which stops in order, ends this process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.once('message', async (order) => {
  for await (const answer of answersTo(order as SnapshotOrder)) {
    await new Promise((sent) => process.send!(answer, sent));
  }
  process.off('disconnect', alone);
  process.disconnect();
});
