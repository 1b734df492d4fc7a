import { openCompressed } from './seekable-zstd.ts';
import {
  type CompressingStorage,
  compressedName,
  cutCopiesMax,
  cutName,
  type SegmentFile,
  type SegmentForm,
  segmentName,
  segmentsAmong,
} from './storage.ts';

/** What memory is written to the disk by, and what a failed sync gives up. */
const PAGE_BYTES = 4096;
/** What a power failure leaves whole or not at all. */
const SECTOR_BYTES = 512;

/** What the disk does wrong; each may throw `diskError(…)`. */
export interface MemoryFaults {
  /** Bytes of all files together; past it writes are short, then `ENOSPC`. @default no bound */
  capacityBytes?: number;
  /** How many of these bytes a write takes. */
  write?: (length: number) => number;
  /**
   * Runs before a sync takes effect; a promise holds it up. Where it throws, the pages are given up as Linux does it:
   * they are still read, and no later sync brings them to the disk unless they are written anew.
   */
  sync?: () => void | Promise<void>;
  truncate?: () => void;
  create?: () => void;
}

/**
 * What is left after a crash. `process`: the process died, the machine did not. The others are power failures, and
 * spare whatever was synced: `lost` nothing else, `kept` all of it, `prefix` the bytes up to some place, `zeros` the
 * length but zeros from some page on, `pages` any of the pages in any order, `sectors` any of the sectors and some length.
 */
export type CrashKind = 'process' | 'lost' | 'kept' | 'prefix' | 'zeros' | 'pages' | 'sectors';
export const CRASH_KINDS: readonly CrashKind[] = [
  'process',
  'lost',
  'kept',
  'prefix',
  'zeros',
  'pages',
  'sectors',
];

/** A system error as a disk gives it. */
export function diskError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

const partName = (first: number): string => `${segmentName(first)}.part`;

interface MemoryFile {
  /** What a power failure spares. */
  synced: Buffer;
  current: Buffer;
  /** Memory that `current` is the beginning of, where it may grow in place; shared with nothing that is written. */
  room: Buffer | null;
  /** Where the bytes begin that no sync took yet. */
  dirtyFrom: number;
  /** Bytes that a failed sync gave up. */
  givenUp: { from: number; to: number } | null;
  /** The directory that names this file was synced. */
  linked: boolean;
}

/** Segments in memory, with the page cache and the faults of a real disk modelled. For tests and the simulator. */
export class MemoryStorage implements CompressingStorage {
  readonly faults: MemoryFaults = {};
  readonly #files = new Map<string, MemoryFile>();
  /** Names that were taken away since the directory was synced: a loss of power may bring them back. */
  readonly #removed = new Map<string, MemoryFile>();

  async list(): Promise<number[]> {
    return segmentsAmong([...this.#files.keys()]);
  }

  async create(first: number): Promise<SegmentFile> {
    this.faults.create?.();
    if (this.#files.has(segmentName(first))) throw diskError('EEXIST');
    return this.#handle(this.#add(segmentName(first)));
  }

  async open(first: number, mode: 'read' | 'write'): Promise<SegmentFile> {
    const file = this.#files.get(segmentName(first));
    if (file !== undefined) return this.#handle(file);
    const compressed = this.#files.get(compressedName(first));
    if (compressed === undefined) throw diskError('ENOENT');
    if (mode === 'write') throw diskError('EROFS');
    return openCompressed(this.#handle(compressed));
  }

  async forms(first: number): Promise<SegmentForm[]> {
    const there: SegmentForm[] = [];
    if (this.#files.has(segmentName(first))) there.push('plain');
    if (this.#files.has(compressedName(first))) there.push('compressed');
    return there;
  }

  async beginCompressed(first: number): Promise<SegmentFile> {
    return this.#handle(this.#add(partName(first)));
  }

  async dropUnfinished(): Promise<void> {
    for (const name of this.names()) if (name.endsWith('.part')) this.#files.delete(name);
  }

  async keepCompressed(first: number): Promise<void> {
    const file = this.#files.get(partName(first));
    if (file === undefined) throw diskError('ENOENT');
    this.#files.delete(partName(first));
    this.#files.set(compressedName(first), { ...file, linked: false });
  }

  async remove(first: number, form: SegmentForm): Promise<void> {
    const name = form === 'plain' ? segmentName(first) : compressedName(first);
    const file = this.#files.get(name);
    if (file === undefined) return;
    this.#files.delete(name);
    if (file.linked) this.#removed.set(name, file);
  }

  async syncDirectory(): Promise<void> {
    await this.faults.sync?.();
    for (const file of this.#files.values()) file.linked = true;
    this.#removed.clear();
  }

  async keepCut(first: number, offset: number): Promise<string> {
    const source = this.#files.get(segmentName(first));
    if (source === undefined) throw diskError('ENOENT');
    for (let copy = 0; copy < cutCopiesMax; copy += 1) {
      const name = cutName(first, offset, copy);
      if (this.#files.has(name)) continue;
      const copied = Buffer.from(source.current.subarray(offset));
      const room = this.#room(copied.length, onDisk(Buffer.alloc(0)), 0, copied.length);
      if (room < copied.length) throw diskError('ENOSPC');
      const file = this.#add(name);
      file.current = copied;
      file.synced = copied;
      await this.syncDirectory();
      return name;
    }
    throw diskError('EEXIST');
  }

  /** Moves a segment of another storage here. A loss of power is not modelled: a file system's journal has it in one place. */
  adopt(from: MemoryStorage, first: number): void {
    const names = [segmentName(first), compressedName(first)].filter((name) => from.#files.has(name));
    if (names.length === 0) throw diskError('ENOENT');
    for (const name of names) {
      this.#files.set(name, from.#files.get(name)!);
      from.#files.delete(name);
    }
  }

  describe(first: number): string {
    const plain = segmentName(first);
    return this.#files.has(compressedName(first)) && !this.#files.has(plain) ? compressedName(first) : plain;
  }

  /** The bytes under a name as a process sees them; undefined where there are none. */
  bytes(name: string): Buffer | undefined {
    return this.#files.get(name)?.current;
  }

  /** Puts bytes under a name, synced: how a test damages a log. */
  put(name: string, bytes: Uint8Array): void {
    const copy = Buffer.from(bytes);
    this.#files.set(name, onDisk(copy));
  }

  names(): string[] {
    return [...this.#files.keys()].sort();
  }

  /** The storage the next process finds; this one may still be written to by the dead, and changes nothing there. */
  crash(kind: CrashKind, random: () => number = Math.random): MemoryStorage {
    const after = new MemoryStorage();
    for (const [name, file] of this.#files) {
      if (kind === 'process') {
        after.#files.set(name, { ...file, room: null, givenUp: file.givenUp && { ...file.givenUp } });
        continue;
      }
      if (!file.linked && (kind === 'lost' || (kind !== 'kept' && random() < 0.5))) continue;
      const left = survivors(file, kind, random);
      after.#files.set(name, onDisk(left));
    }
    if (kind === 'process') return after;
    for (const [name, file] of this.#removed) {
      if (after.#files.has(name) || kind === 'kept' || (kind !== 'lost' && random() < 0.5)) continue;
      after.#files.set(name, onDisk(survivors(file, kind, random)));
    }
    return after;
  }

  #add(name: string): MemoryFile {
    const file: MemoryFile = { ...onDisk(Buffer.alloc(0)), linked: false };
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
        const { current, dirtyFrom } = file;
        try {
          await this.faults.sync?.();
          file.synced = reached(file, current);
        } catch (error) {
          giveUp(file, dirtyFrom, current.length);
          throw error;
        } finally {
          if (file.current === current) file.dirtyFrom = Number.POSITIVE_INFINITY;
        }
      },
      truncate: async (size) => {
        this.faults.truncate?.();
        file.current = Buffer.from(file.current.subarray(0, size));
        file.room = null;
        file.dirtyFrom = Math.min(file.dirtyFrom, size);
        written(file, size, Number.POSITIVE_INFINITY);
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
  file.dirtyFrom = Math.min(file.dirtyFrom, position);
  written(file, position, position + bytes.length);
  file.current = file.room.subarray(0, end);
}

function onDisk(bytes: Buffer): MemoryFile {
  const clean = { room: null, dirtyFrom: Number.POSITIVE_INFINITY, givenUp: null };
  return { synced: bytes, current: bytes, linked: true, ...clean };
}

function giveUp(file: MemoryFile, from: number, to: number): void {
  if (from >= to) return;
  const before = file.givenUp ?? { from, to };
  file.givenUp = { from: Math.min(from, before.from), to: Math.max(to, before.to) };
}

/** Whole pages are written: one byte put anew into a page that was given up brings all of it. */
function written(file: MemoryFile, from: number, to: number): void {
  if (file.givenUp === null) return;
  const { givenUp } = file;
  const begin = from - (from % PAGE_BYTES);
  const end = Math.ceil(to / PAGE_BYTES) * PAGE_BYTES;
  if (begin <= givenUp.from) givenUp.from = Math.max(givenUp.from, end);
  else if (end >= givenUp.to) givenUp.to = Math.min(givenUp.to, begin);
  if (givenUp.from >= givenUp.to) file.givenUp = null;
}

/** What the disk has of these bytes once everything that is still to be written reached it. */
function reached({ givenUp, synced }: MemoryFile, current: Buffer): Buffer {
  if (givenUp === null || givenUp.from >= current.length) return current;
  const left = Buffer.from(current);
  left.fill(0, givenUp.from, givenUp.to);
  synced.copy(left, givenUp.from, givenUp.from, givenUp.to);
  return left;
}

function survivors(file: MemoryFile, kind: CrashKind, random: () => number): Buffer {
  const { synced } = file;
  const current = reached(file, file.current);
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
  const unit = kind === 'sectors' ? SECTOR_BYTES : PAGE_BYTES;
  for (let at = sharedBytes - (sharedBytes % unit); at < current.length; at += unit) {
    if (random() < 0.5) current.copy(left, at, at, Math.min(at + unit, current.length));
  }
  return kind === 'sectors' ? left.subarray(0, kept) : left;
}
