/** Run as a thread of its own by `snapshot-thread.ts`: makes one snapshot and says what the log is to say of it. */
import { parentPort, workerData } from 'node:worker_threads';
import { asSuperfleetError } from '../protocol/errors.ts';
import { fileBeginning } from './beginning-file.ts';
import { makeSnapshot } from './snapshot-make.ts';
import { FileSnapshotStore } from './snapshot-store-file.ts';
import type { SnapshotAnswer, SnapshotOrder } from './snapshot-thread.ts';
import { FileStorage } from './storage-file.ts';

const { log, snapshots, mesh, size } = workerData as SnapshotOrder;

function answer(said: SnapshotAnswer): void {
  parentPort!.postMessage(said);
}

try {
  const made = {
    storage: new FileStorage(log),
    store: new FileSnapshotStore(snapshots),
    base: fileBeginning(log).base,
    mesh,
    size,
  };
  answer({ body: await makeSnapshot(made) });
} catch (error) {
  answer({ error: asSuperfleetError(error).toJSON() });
}
