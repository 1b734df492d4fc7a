import { SuperfleetError } from '../../protocol/errors.ts';
import { type Base, decodeBase, SnapshotFault } from '../snapshots/snapshot.ts';
import type { ReceivingStore, SnapshotStore } from '../snapshots/snapshot-store.ts';
import { defaultBounds, type StateBounds } from '../state/reducer.ts';
import type { LogStorage } from '../storage/storage.ts';
import type { ChainState } from './chain.ts';
import { Offsets } from './offsets.ts';
import type { ScanStart } from './scan.ts';

/** Bytes of a snapshot's file that are taken from elsewhere: a state that is larger gives no snapshot. */
export const snapshotBytesMax = 1024 * 1024 * 1024;

/**
 * Where a copy of the log keeps what it needs while it holds no entries before some snapshot: that snapshot, which says
 * where it begins and vouches for it, and the segments of the entries before, as far as they have been fetched.
 */
export interface Beginning {
  /** The snapshot at which the log begins; none: the log begins at entry 0. */
  base: ReceivingStore;
  /** Segments from entry 0 on. */
  segments: LogStorage;
  /** Moves a segment, at once; lasting when the directories of both are synced. */
  move(first: number, to: 'log' | 'beginning'): Promise<void>;
  /** What is left when all segments have been moved to the log. */
  clear(): Promise<void>;
}

/** A log that begins behind this checkpoint, to be opened. */
export const startAt = (chain: ChainState): ScanStart => ({
  chain,
  place: { segment: chain.frontier.size, offset: 0 },
  offsets: new Offsets(),
});

/**
 * The snapshot at which the log begins; null: at entry 0. Throws `SF_LOG_DAMAGED` where there is one and it does not hold:
 * without it nothing in the log can be checked.
 */
export async function openBase(
  base: SnapshotStore,
  mesh?: string,
  bounds: StateBounds = defaultBounds,
): Promise<Base | null> {
  const size = (await base.list()).at(-1);
  if (size === undefined) return null;
  try {
    return checkedSnapshot(await base.read(size), { size, bounds, ...(mesh !== undefined && { mesh }) });
  } catch (cause) {
    if (!(cause instanceof SnapshotFault)) throw cause;
    throw new SuperfleetError(
      'SF_LOG_DAMAGED',
      `the log begins at a snapshot that does not hold: ${cause.message}`,
      {
        expected: `the snapshot of ${size} entries`,
        got: base.describe(size),
        hint: 'stop this machine and remove its folder log: it fetches the log anew',
        cause,
      },
    );
  }
}

/** What is in a snapshot's file, held against what it must be of. Throws `SnapshotFault`. */
export function checkedSnapshot(
  bytes: Buffer,
  { mesh, size, bounds = defaultBounds }: { mesh?: string; size: number; bounds?: StateBounds },
): Base {
  const snapshot = decodeBase(bytes, bounds);
  if (mesh !== undefined && snapshot.chain.meshId !== mesh) throw new SnapshotFault('it is of another mesh');
  if (snapshot.body.size !== size) throw new SnapshotFault(`it is of ${snapshot.body.size} entries`);
  return snapshot;
}

/**
 * Puts segments of the beginning where they are fetched: a crash may have come while they were moved into the log, or while
 * a log that went up to there became the beginning of one that begins at the snapshot.
 */
export async function gatherBeginning(log: LogStorage, beginning: Beginning, first: number): Promise<void> {
  const before = (await log.list()).filter((segment) => segment < first);
  if (before.length === 0) return;
  for (const segment of before) await beginning.move(segment, 'beginning');
  await beginning.segments.syncDirectory();
  await log.syncDirectory();
}

/**
 * Moves a beginning that is whole, and was checked, into the log. The snapshot goes last: until then a start gathers the
 * beginning again, reads it again, and comes here again.
 */
export async function joinBeginning(log: LogStorage, beginning: Beginning, first: number): Promise<void> {
  for (const segment of await beginning.segments.list()) await beginning.move(segment, 'log');
  await log.syncDirectory();
  await beginning.segments.syncDirectory();
  await beginning.base.remove(first);
  await log.syncDirectory();
  await beginning.clear();
}
