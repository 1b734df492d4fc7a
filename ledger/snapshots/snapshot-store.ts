/**
 * Where snapshots lie: in files (`snapshot-store-file.ts`) or in memory. They are made from the log and can be made
 * again: a store may lose one, and need not notice that its bytes have changed.
 */
export interface SnapshotStore {
  /** Sizes of the snapshots there are, ascending. */
  list(): Promise<number[]>;
  /** Rejects with `ENOENT` where there is none. */
  read(size: number): Promise<Buffer>;
  /** The same bytes, read as they are asked for; they stay while it is open. */
  open(size: number): Promise<OpenSnapshot>;
  /** Keeps one, given in pieces, in place of what was there. When it resolves the bytes outlast a loss of power; after a crash there are all of them or none. */
  write(size: number, file: Iterable<string>): Promise<void>;
  /** Takes one away; none is there is as good. */
  remove(size: number): Promise<void>;
  /** Name of a snapshot for a person: its path. */
  describe(size: number): string;
}

/** The bytes of one snapshot. The caller closes it. */
export interface OpenSnapshot {
  readonly bytes: number;
  /** Fills `into` from `position`; returns the bytes read, 0 at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** A snapshot that comes from elsewhere: kept beside the others, under no name of its own, until it was checked. */
export interface IncomingSnapshot {
  append(bytes: Uint8Array): Promise<void>;
  /** What came so far. */
  read(): Promise<Buffer>;
  /** It is the snapshot of this size: lasting when it resolves, and there whole or not at all after a crash. */
  keep(size: number): Promise<void>;
  /** It is none. Not after `keep`. */
  drop(): Promise<void>;
}

/** Where snapshots can come in. */
export interface ReceivingStore extends SnapshotStore {
  /** One at a time. */
  receive(): Promise<IncomingSnapshot>;
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
export class MemorySnapshotStore implements ReceivingStore {
  readonly files = new Map<number, Buffer>();

  async list(): Promise<number[]> {
    return [...this.files.keys()].sort((a, b) => a - b);
  }

  async read(size: number): Promise<Buffer> {
    const bytes = this.files.get(size);
    if (bytes === undefined) throw Object.assign(new Error('ENOENT: no such snapshot'), { code: 'ENOENT' });
    return Buffer.from(bytes);
  }

  async open(size: number): Promise<OpenSnapshot> {
    const bytes = await this.read(size);
    return {
      bytes: bytes.length,
      read: async (into, position) => bytes.copy(into, 0, position),
      close: async () => {},
    };
  }

  async receive(): Promise<IncomingSnapshot> {
    const parts: Uint8Array[] = [];
    return {
      append: async (bytes) => {
        parts.push(Uint8Array.from(bytes));
      },
      read: async () => Buffer.concat(parts),
      keep: async (size) => {
        this.files.set(size, Buffer.concat(parts));
      },
      drop: async () => {},
    };
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
