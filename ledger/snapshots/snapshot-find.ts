import { formatCheckpoint } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import { Offsets } from '../log/offsets.ts';
import { defaultBounds, type StateBounds } from '../state/reducer.ts';
import type { LinePlace, LogStorage } from '../storage/storage.ts';
import { decodeSnapshot, type Snapshot, SnapshotFault } from './snapshot.ts';
import type { SnapshotStore } from './snapshot-store.ts';

const CHECKPOINT_BEGINS = Buffer.from('{"checkpoint"');
const NEWLINE = 0x0a;

export interface FindSnapshotOptions {
  /** Mesh id that it must be of. @default any: whoever opens the log checks it */
  mesh?: string;
  /** Entries that it may cover. @default any number */
  sizeMax?: number;
  /** Lowest entry that the log holds. @default 0 */
  first?: number;
  /** Under which its state must have been kept. @default `defaultBounds` */
  bounds?: StateBounds;
}

/** A snapshot that was passed over, and why. */
export interface PassedOver {
  name: string;
  why: string;
}

/**
 * The newest snapshot that holds and whose checkpoint stands in this log, its places put right; null where none does. Reads
 * no more of the log than that one line where it lies where the snapshot says, and one segment otherwise.
 */
export async function findSnapshot(
  storage: LogStorage,
  store: SnapshotStore,
  { mesh, sizeMax = Number.MAX_SAFE_INTEGER, first = 0, bounds = defaultBounds }: FindSnapshotOptions = {},
): Promise<{ found: Snapshot | null; passedOver: PassedOver[] }> {
  const passedOver: PassedOver[] = [];
  const segments = (await storage.list()).filter((segment) => segment >= first);
  for (const size of (await store.list()).reverse()) {
    if (size > sizeMax) continue;
    try {
      const snapshot = decodeSnapshot(await store.read(size), bounds);
      if (snapshot.chain.checkpoint!.size !== size) throw new SnapshotFault('its name is of another size');
      if (mesh !== undefined && snapshot.chain.meshId !== mesh)
        throw new SnapshotFault('it is of another mesh');
      return { found: await located(storage, segments, first, snapshot), passedOver };
    } catch (error) {
      // A file that cannot be read is as good as none: the log tells the same, only slower.
      passedOver.push({ name: store.describe(size), why: (error as Error).message });
    }
  }
  return { found: null, passedOver };
}

/** With the places that are those of this log. Throws `SnapshotFault` where its checkpoint is not in it. */
async function located(
  storage: LogStorage,
  segments: readonly number[],
  first: number,
  snapshot: Snapshot,
): Promise<Snapshot> {
  const line = Buffer.from(`${formatCheckpoint(snapshot.chain.checkpoint!)}\n`);
  const { size } = snapshot.chain.frontier;
  if (segments[0] !== first) throw new SnapshotFault('the log has no first segment');
  const { place, offsets } = snapshot;
  const there = new Set(segments);
  const known = there.has(place.segment) && offsets.segments.every((segment) => there.has(segment));
  if (known && offsets.before(first) !== undefined && (await standsBefore(storage, place, line)))
    return snapshot;
  const found = await search(storage, segments, size, line);
  if (found === null) throw new SnapshotFault('its checkpoint is not in this log');
  const firsts = segments.filter((segment) => segment <= found.segment);
  const places = firsts.map((segment) => ({ index: segment, segment, offset: 0 }));
  return { ...snapshot, place: found, offsets: Offsets.from(places) };
}

async function standsBefore(storage: LogStorage, place: LinePlace, line: Buffer): Promise<boolean> {
  // With the newline before it, so that it is a line of its own: a batch has an entry before its checkpoint.
  const length = line.length + 1;
  if (place.offset < length) return false;
  const bytes = Buffer.alloc(length);
  const file = await storage.open(place.segment, 'read');
  try {
    for (let read = 0; read < length; ) {
      const got = await file.read(bytes.subarray(read), place.offset - length + read);
      if (got === 0) return false;
      read += got;
    }
  } finally {
    await file.close();
  }
  return bytes[0] === NEWLINE && bytes.subarray(1).equals(line);
}

/** Behind the checkpoint's line in the segment that must have it; null where it has not. */
async function search(
  storage: LogStorage,
  segments: readonly number[],
  size: number,
  wanted: Buffer,
): Promise<LinePlace | null> {
  const segment = segments.findLast((first) => first < size);
  if (segment === undefined) return null;
  let next = segment;
  const file = await storage.open(segment, 'read');
  try {
    for await (const { lines } of lineRuns(file, 0)) {
      for (const { line, offset } of lines) {
        const isCheckpoint = line.subarray(0, CHECKPOINT_BEGINS.length).equals(CHECKPOINT_BEGINS);
        if (!isCheckpoint) next += 1;
        else if (next === size) {
          const end = offset + line.length + 1;
          return line.equals(wanted.subarray(0, -1)) ? { segment, offset: end } : null;
        }
        if (next > size) return null;
      }
    }
    return null;
  } finally {
    await file.close();
  }
}
