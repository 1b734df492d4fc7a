import { snapshotBytesMax } from '../../ledger/log/beginning.ts';
import type { DurableLog } from '../../ledger/log/durable-log.ts';
import type { SnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { logDataBytesMax, logPieceBytes } from '../../protocol/log-sync.ts';
import type { FrameChannel } from '../network/channel.ts';
import { flowing, sayWord } from './flow.ts';

/** The newest snapshot of this log that may be asked for; null: there is none. Whether it holds is for its taker to see. */
export async function newestSnapshot(
  snapshots: SnapshotStore | undefined,
  log: Pick<DurableLog, 'size'>,
): Promise<{ size: number; bytes: number } | null> {
  if (snapshots === undefined) return null;
  try {
    const size = (await snapshots.list()).findLast((each) => each <= log.size);
    if (size === undefined) return null;
    const file = await snapshots.open(size);
    await file.close();
    return file.bytes > 0 && file.bytes <= snapshotBytesMax ? { size, bytes: file.bytes } : null;
  } catch {
    // The log is there without it.
    return null;
  }
}

/** Sends the file of one snapshot, a frame of it in memory at a time. */
export async function giveSnapshot(
  channel: FrameChannel,
  snapshots: SnapshotStore | undefined,
  size: number,
  stopping: AbortSignal,
): Promise<void> {
  const file = await snapshots?.open(size).catch(() => null);
  if (file == null) {
    const message = `there is no snapshot of ${size} entries here any more`;
    return sayWord(channel, { type: 'fault', code: 'SF_NOT_FOUND', message, hint: null });
  }
  try {
    await sayWord(channel, { type: 'snapshot.file', size, bytes: file.bytes });
    await flowing(channel, stopping, async (send) => {
      for (let at = 0; at < file.bytes; ) {
        // One of its own: the stream may still hold the one before.
        const part = Buffer.allocUnsafe(Math.min(logDataBytesMax, file.bytes - at));
        for (let read = 0; read < part.length; ) {
          const got = await file.read(part.subarray(read), at + read);
          if (got === 0) throw new SuperfleetError('SF_INTERNAL', 'a snapshot is shorter than it was');
          read += got;
        }
        await send(part);
        at += part.length;
      }
    });
  } finally {
    await file.close();
  }
}

/** Sends entries from `from` to before `until`, and nothing later. */
export const fillIn = (
  channel: FrameChannel,
  log: DurableLog,
  from: number,
  until: number,
  stopping: AbortSignal,
): Promise<void> =>
  flowing(channel, stopping, async (send) => {
    for await (const { first, size, bytes } of log.raw(from, logPieceBytes, until)) {
      await send(bytes, { type: 'batches', first, size, bytes: bytes.length });
    }
  });
