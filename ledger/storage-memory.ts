import {
  cutCopiesMax,
  cutName,
  type LogStorage,
  type SegmentFile,
  segmentFirst,
  segmentName,
} from './storage.ts';

/** What a power failure may leave half of. */
const PAGE_BYTES = 4096;

/** What the disk does wrong; each may throw `diskError(…)`. */
export interface MemoryFaults {
  /** Bytes of all files together; past it writes are short, then `ENOSPC`. @default no bound */
  capacityBytes?: number;
  /** How many of these bytes a write takes. */
  write?: (length: number) => number;
  /** Runs before a sync takes effect; a promise holds it up. */
  sync?: () => void | Promise<void>;
  truncate?: () => void;
  create?: () => void;
}

/**
 * What is left after a crash. `process`: the process died, the machine did not. The others are power failures, and
 * spare whatever was synced: `lost` nothing else, `kept` all of it, `prefix` the bytes up to some place, `zeros` the
 * length but zeros from some page on, `pages` any of the pages in any order.
 */
export type CrashKind = 'process' | 'lost' | 'kept' | 'prefix' | 'zeros' | 'pages';
export const CRASH_KINDS: readonly CrashKind[] = ['process', 'lost', 'kept', 'prefix', 'zeros', 'pages'];

/** A system error as a disk gives it. */
export function diskError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

interface MemoryFile {
  /** What a power failure spares. */
  synced: Buffer;
  current: Buffer;
  /** Memory that `current` is the beginning of, where it may grow in place; shared with nothing that is written. */
  room: Buffer | null;
  /** The directory that names this file was synced. */
  linked: boolean;
}

/** Segments in memory, with the page cache and the faults of a real disk modelled. For tests and the simulator. */
export class MemoryStorage implements LogStorage {
  readonly faults: MemoryFaults = {};
  readonly #files = new Map<string, MemoryFile>();

  async list(): Promise<number[]> {
    return [...this.#files.keys()]
      .map(segmentFirst)
      .filter((first) => first !== null)
      .sort((a, b) => a - b);
  }

  async create(first: number): Promise<SegmentFile> {
    this.faults.create?.();
    if (this.#files.has(segmentName(first))) throw diskError('EEXIST');
    return this.#handle(this.#add(segmentName(first)));
  }

  async open(first: number, _mode: 'read' | 'write'): Promise<SegmentFile> {
    const file = this.#files.get(segmentName(first));
    if (file === undefined) throw diskError('ENOENT');
    return this.#handle(file);
  }

  async syncDirectory(): Promise<void> {
    await this.faults.sync?.();
    for (const file of this.#files.values()) file.linked = true;
  }

  async keepCut(first: number, offset: number): Promise<string> {
    const source = this.#files.get(segmentName(first));
    if (source === undefined) throw diskError('ENOENT');
    for (let copy = 0; copy < cutCopiesMax; copy += 1) {
      const name = cutName(first, offset, copy);
      if (this.#files.has(name)) continue;
      const file = this.#add(name);
      file.current = Buffer.from(source.current.subarray(offset));
      file.synced = file.current;
      file.room = null;
      await this.syncDirectory();
      return name;
    }
    throw diskError('EEXIST');
  }

  describe(first: number): string {
    return segmentName(first);
  }

  /** The bytes under a name as a process sees them; undefined where there are none. */
  bytes(name: string): Buffer | undefined {
    return this.#files.get(name)?.current;
  }

  /** Puts bytes under a name, synced: how a test damages a log. */
  put(name: string, bytes: Uint8Array): void {
    const copy = Buffer.from(bytes);
    this.#files.set(name, { synced: copy, current: copy, room: null, linked: true });
  }

  names(): string[] {
    return [...this.#files.keys()].sort();
  }

  /** The storage the next process finds; this one may still be written to by the dead, and changes nothing there. */
  crash(kind: CrashKind, random: () => number = Math.random): MemoryStorage {
    const after = new MemoryStorage();
    for (const [name, file] of this.#files) {
      if (kind === 'process') {
        after.#files.set(name, { ...file, room: null });
        continue;
      }
      if (!file.linked && (kind === 'lost' || (kind !== 'kept' && random() < 0.5))) continue;
      const left = survivors(file, kind, random);
      after.#files.set(name, { synced: left, current: left, room: null, linked: true });
    }
    return after;
  }

  #add(name: string): MemoryFile {
    const file: MemoryFile = { synced: Buffer.alloc(0), current: Buffer.alloc(0), room: null, linked: false };
    this.#files.set(name, file);
    return file;
  }

  #handle(file: MemoryFile): SegmentFile {
    return {
      size: async () => file.current.length,
      write: async (bytes, position) => {
        const taken = this.#room(
          bytes.length,
          file,
          position,
          this.faults.write?.(bytes.length) ?? bytes.length,
        );
        writeInto(file, bytes.subarray(0, taken), position);
        return taken;
      },
      sync: async () => {
        // What is written while the sync is under way is not promised to be part of it.
        const now = file.current;
        await this.faults.sync?.();
        file.synced = now;
      },
      truncate: async (size) => {
        this.faults.truncate?.();
        file.current = Buffer.from(file.current.subarray(0, size));
        file.room = null;
      },
      read: async (into, position) => {
        const part = file.current.subarray(position, position + into.length);
        into.set(part);
        return part.length;
      },
      close: async () => undefined,
    };
  }

  #room(asked: number, file: MemoryFile, position: number, taken: number): number {
    const capacity = this.faults.capacityBytes ?? Number.POSITIVE_INFINITY;
    const used = [...this.#files.values()].reduce((sum, each) => sum + each.current.length, 0);
    const free = capacity - used + Math.max(0, file.current.length - position);
    if (asked > 0 && free <= 0) throw diskError('ENOSPC');
    return Math.min(taken, free);
  }
}

/** Bytes behind the end go into the room there is; whatever was handed out before keeps what it showed. */
function writeInto(file: MemoryFile, bytes: Uint8Array, position: number): void {
  const end = Math.max(file.current.length, position + bytes.length);
  if (file.room === null || position < file.current.length || end > file.room.length) {
    file.room = Buffer.alloc(end * 2);
    file.current.copy(file.room);
  }
  file.room.set(bytes, position);
  file.current = file.room.subarray(0, end);
}

function survivors(file: MemoryFile, kind: CrashKind, random: () => number): Buffer {
  const { synced, current } = file;
  if (kind === 'kept') return current;
  if (kind === 'lost') return synced;
  const sharedBytes = Math.min(synced.length, current.length);
  const unsynced = current.length - sharedBytes;
  const kept = sharedBytes + Math.floor(random() * (unsynced + 1));
  if (kind === 'prefix') return Buffer.from(current.subarray(0, kept));
  const left = Buffer.alloc(current.length);
  synced.copy(left, 0, 0, sharedBytes);
  if (kind === 'zeros') {
    current.copy(left, 0, 0, Math.max(sharedBytes, kept - (kept % PAGE_BYTES)));
    return left;
  }
  for (let page = sharedBytes - (sharedBytes % PAGE_BYTES); page < current.length; page += PAGE_BYTES) {
    if (random() < 0.5) current.copy(left, page, page, Math.min(page + PAGE_BYTES, current.length));
  }
  return left;
}
