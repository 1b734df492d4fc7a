import type { Connection } from '@libp2p/interface';
import { checkedSnapshot, snapshotBytesMax } from '../../ledger/log/beginning.ts';
import { diskFailure } from '../../ledger/log/writer.ts';
import { type Base, SnapshotFault } from '../../ledger/snapshots/snapshot.ts';
import type { IncomingSnapshot, ReceivingStore } from '../../ledger/snapshots/snapshot-store.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { fetchSnapshot } from './follow.ts';

export interface TakeSnapshotOptions {
  connection: Connection;
  mesh: string;
  /** Entries under it. */
  size: number;
  store: ReceivingStore;
  signal: AbortSignal;
}

/**
 * Fetches a snapshot, writes it to the disk as it comes, and checks what can be checked without the log: its form and
 * digests, that the frontier gives the root, and that the checkpoint is signed by the key that the lines in it prove.
 * What the state is rests on its source's word alone until the log names it. The caller keeps or drops the file. Rejects
 * with `SF_NOT_PROVED` where it does not hold.
 */
export async function takeSnapshot(
  options: TakeSnapshotOptions,
): Promise<{ base: Base; incoming: IncomingSnapshot }> {
  const { connection, mesh, size, store, signal } = options;
  const disk = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw diskFailure(error, store.describe(size));
    });
  const incoming = await disk(store.receive());
  try {
    const sink = {
      expect: (bytes: number): void => {
        if (bytes > snapshotBytesMax)
          throw refused(size, `it has ${bytes} bytes, and ${snapshotBytesMax} are the most`);
      },
      append: (bytes: Uint8Array) => disk(incoming.append(bytes)),
    };
    await fetchSnapshot(connection, mesh, size, sink, signal);
    const base = checkedSnapshot(await disk(incoming.read()), { mesh, size });
    if (base.state === null)
      throw refused(size, 'it was made by a program whose states are kept differently');
    return { base, incoming };
  } catch (error) {
    await incoming.drop().catch(() => undefined);
    throw error instanceof SnapshotFault ? refused(size, error.message, error) : error;
  }
}

const refused = (size: number, why: string, cause?: Error): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `the snapshot of ${size} entries that came does not hold: ${why}`, {
    hint: 'the log is fetched from its first entry instead',
    ...(cause && { cause }),
  });
