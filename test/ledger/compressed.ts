import { createHash } from 'node:crypto';
import { Log } from '../../ledger/log/log.ts';
import { storageSource } from '../../ledger/log/log-source.ts';
import { scrubLog } from '../../ledger/log/scrub.ts';
import { readSound } from '../../ledger/log/sound.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';

const digestOf = async (pieces: AsyncIterable<Uint8Array>): Promise<string> => {
  const digest = createHash('sha256');
  for await (const piece of pieces) digest.update(piece);
  return digest.digest('hex');
};

/** The digest of what a log exports: every entry, read once. */
export async function exportOf(storage: LogStorage): Promise<string> {
  const log = await Log.open({ storage, key: null });
  return digestOf(log.export()).finally(() => log.close());
}

/** What every way of reading a log gives of it, to be compared. */
export async function everyReading(storage: LogStorage): Promise<Record<string, unknown>> {
  const log = await Log.open({ storage, key: null });
  try {
    const entries: string[] = [];
    for await (const entry of log.entries()) entries.push(JSON.stringify(entry));
    const leaves: string[] = [];
    for await (const leaf of log.leaves()) leaves.push(Buffer.from(leaf).toString('hex'));
    const sizes: number[] = [];
    for await (const { checkpoint } of log.batches(0)) sizes.push(checkpoint.size);
    const lines: string[] = [];
    // Back and forth, so that no frame is at hand.
    for (let n = 0; n < 40; n += 1) lines.push(await log.line((n * 7919) % log.size));
    const raw: string[] = [];
    for (const from of [0, sizes[Math.floor(sizes.length / 3)]!, sizes.at(-2)!]) {
      const pieces = log.raw(from, 70_000);
      raw.push(
        await digestOf(
          (async function* () {
            for await (const { bytes } of pieces) yield bytes;
          })(),
        ),
      );
    }
    const sound = await readSound(storage);
    const { size, root } = log.checkpoint;
    return {
      entries,
      leaves,
      sizes,
      lines,
      raw,
      segments: await storage.list(),
      exported: await digestOf(log.export()),
      copied: await digestOf(storageSource(storage).batches(null)),
      verified: await verifyLog(storage),
      scrubbed: await scrubLog(storage, { checkpoint: { size, root }, bytesPerSecond: null }),
      sound: [sound.state.checkpoint, sound.end, sound.damage],
      checkpoints: await Promise.all(sizes.slice(0, 5).map((at) => log.checkpointAt(at))),
    };
  } finally {
    await log.close();
  }
}
