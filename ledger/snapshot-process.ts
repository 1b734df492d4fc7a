/** Run as a process of its own by `hub/daemon/snapshot-maker.ts`: makes one snapshot and says what the log is to say of it. */
import { asSuperfleetError, type ErrorObject } from '../protocol/errors.ts';
import { fileBeginning } from './beginning-file.ts';
import type { EventBody } from './events.ts';
import { makeSnapshot } from './snapshot-make.ts';
import { FileSnapshotStore } from './snapshot-store-file.ts';
import { FileStorage } from './storage-file.ts';

/** Which snapshot is to be made. */
export interface SnapshotOrder {
  /** Folders of the log's segments and of the snapshots. */
  log: string;
  snapshots: string;
  /** Mesh id. */
  mesh: string;
  /** Of a durable checkpoint. */
  size: number;
}

export type SnapshotAnswer = { body: EventBody<'log.snapshot'> } | { error: ErrorObject };

async function answerTo({ log, snapshots, mesh, size }: SnapshotOrder): Promise<SnapshotAnswer> {
  try {
    const body = await makeSnapshot({
      storage: new FileStorage(log),
      store: new FileSnapshotStore(snapshots),
      base: fileBeginning(log).base,
      mesh,
      size,
    });
    return { body };
  } catch (error) {
    return { error: asSuperfleetError(error).toJSON() };
  }
}

// Whoever asked is gone, however it ended: nobody would take the answer. No orderly end, which a read of a disk that hangs holds up.
const alone = (): void => void process.kill(process.pid, 'SIGKILL');
process.on('disconnect', alone);
// A terminal and a supervisor signal the founder's whole group; the founder, which stops in order, ends this process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.once('message', async (order) => {
  const answer = await answerTo(order as SnapshotOrder);
  process.send!(answer, () => {
    process.off('disconnect', alone);
    process.disconnect();
  });
});
