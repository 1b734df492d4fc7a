/**
 * Where snapshots lie: in files (`snapshot-store-file.ts`) or in memory. They are made from the log and can be made
 * again: a store may lose one, and need not notice that its bytes have changed.
 */
export interface SnapshotStore {
  /** Sizes of the snapshots there are, ascending. */
  list(): Promise<number[]>;
  /** Rejects with `ENOENT` where there is none. */
  read(size: number): Promise<Buffer>;
  /** Keeps one, given in pieces, in place of what was there. When it resolves the bytes outlast a loss of power; after a crash there are all of them or none. */
  write(size: number, file: Iterable<string>): Promise<void>;
  /** Takes one away; none is there is as good. */
  remove(size: number): Promise<void>;
  /** Name of a snapshot for a person: its path. */
  describe(size: number): string;
}

/** A snapshot is named by the entries under it: `0000000000050000.snapshot`. */
export const snapshotName = (size: number): string => `${String(size).padStart(16, '0')}.snapshot`;

/** Entries from a snapshot's name; null for any other name. */
export function snapshotSize(name: string): number | null {
  const match = /^([0-9]{16})\.snapshot$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** Snapshots that are kept: the one before the newest is there where the newest does not hold. */
export const snapshotsKept = 2;

/**
 * Removes what the snapshot of this size makes needless: those before the last `snapshotsKept`, and those of more entries,
 * which are of a log that this one did not become.
 */
export async function pruneSnapshots(store: SnapshotStore, size: number): Promise<void> {
  const sizes = await store.list();
  const kept = new Set(sizes.filter((each) => each <= size).slice(-snapshotsKept));
  for (const each of sizes) if (!kept.has(each)) await store.remove(each);
}

/** Snapshots in memory, for tests and the simulator. */
export class MemorySnapshotStore implements SnapshotStore {
  readonly files = new Map<number, Buffer>();

  async list(): Promise<number[]> {
    return [...this.files.keys()].sort((a, b) => a - b);
  }

  async read(size: number): Promise<Buffer> {
    const bytes = this.files.get(size);
    if (bytes === undefined) throw Object.assign(new Error('ENOENT: no such snapshot'), { code: 'ENOENT' });
    return Buffer.from(bytes);
  }

  async write(size: number, file: Iterable<string>): Promise<void> {
    this.files.set(size, Buffer.from([...file].join('')));
  }

  async remove(size: number): Promise<void> {
    this.files.delete(size);
  }

  describe(size: number): string {
    return snapshotName(size);
  }
}
