import { setImmediate, setTimeout } from 'node:timers/promises';
import type { LogStorage } from '../storage/storage.ts';
import type { ChainState } from './chain.ts';
import { LogDamagedError } from './damage.ts';
import type { ScanProgress } from './scan.ts';
import { readSound } from './sound.ts';
import type { VerifyReport } from './verify.ts';

export interface ScrubOptions {
  /** Where the log begins. @default at entry 0 */
  begins?: ChainState | null;
  /** What the log's owner holds to be durable: the reading ends there, and must come to this root. */
  checkpoint: { size: number; root: string };
  /** Read no faster, and for no more than a fifth of the time. Null: as fast as it goes. */
  bytesPerSecond: number | null;
  onProgress?: (progress: ScanProgress) => void;
  signal?: AbortSignal;
}

/** After so long at work four times as long is given to others. */
const IDLE_SHARE = 4;

/**
 * Reads a log that is in use anew from its files, and checks every line, root and signature of what is durable. Changes
 * nothing. Throws `LogDamagedError` naming the first place that does not hold.
 */
export async function scrubLog(
  storage: LogStorage,
  { begins = null, checkpoint: { size, root }, bytesPerSecond, onProgress, signal }: ScrubOptions,
): Promise<VerifyReport> {
  let bytes = 0;
  let since = performance.now();
  const { state, end, damage } = await readSound(storage, {
    upTo: size,
    begins,
    ...(signal && { signal }),
    paced: async (at) => {
      onProgress?.(at);
      const busyMs = performance.now() - since;
      const dueMs = bytesPerSecond === null ? 0 : ((at.bytes - bytes) / bytesPerSecond) * 1000 - busyMs;
      if (bytesPerSecond === null) await setImmediate();
      else await setTimeout(Math.max(dueMs, busyMs * IDLE_SHARE), undefined, { ...(signal && { signal }) });
      bytes = at.bytes;
      since = performance.now();
    },
  });
  const found = state.checkpoint;
  if (found?.size === size && found.root === root) {
    const from = begins?.frontier.size ?? 0;
    const segments = (await storage.list()).filter((first) => first >= from && first < size).length;
    return { mesh: state.meshId!, from, size, root, checkpoints: state.checkpoints, segments, tornBytes: 0 };
  }
  if (damage !== null) throw damage;
  const place = {
    segment: storage.describe(end?.segment ?? 0),
    offset: end?.offset ?? 0,
    index: found?.size ?? 0,
  };
  throw new LogDamagedError(
    place,
    `the log ends there, where entry ${size - 1} was written with root ${root}`,
  );
}
