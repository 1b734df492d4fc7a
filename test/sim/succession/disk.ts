import { segmentName } from '../../../ledger/storage/storage.ts';
import { type CrashKind, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import type { Machine } from '../machine.ts';

/** A machine's log folder on a disk whose syncs take time, and what a checker knows of it without asking the log. */
export class SimDisk {
  readonly #machine: Machine;
  storage = new MemoryStorage();
  /** Of the only segment: bytes that a loss of power spares. */
  syncedBytes = 0;
  syncMs = 2;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#watch();
  }

  /** All bytes of the log as a process sees them; a simulated log fits one segment. */
  get bytes(): Buffer {
    return this.storage.bytes(segmentName(0)) ?? Buffer.alloc(0);
  }

  /** The process is gone, and with it whatever this kind of death takes. */
  crash(kind: CrashKind): void {
    const { random } = this.#machine;
    this.storage = this.storage.crash(kind, () => random.next());
    this.syncedBytes = kind === 'process' ? Math.min(this.syncedBytes, this.bytes.length) : this.bytes.length;
    this.#watch();
  }

  /** The disk is an older one: so many whole batches are gone from the end, synced or not, but never the first entries. */
  rewind(batches: number, entriesMin: number): void {
    const ends = batchEnds(this.bytes).filter(({ size }) => size >= entriesMin);
    const { end } = ends[Math.max(0, ends.length - 1 - batches)]!;
    this.put(this.bytes.subarray(0, end));
  }

  put(bytes: Uint8Array): void {
    this.storage = new MemoryStorage();
    if (bytes.length > 0) this.storage.put(segmentName(0), bytes);
    this.syncedBytes = bytes.length;
    this.#watch();
  }

  /** Entries whose bytes, with a checkpoint behind them, a loss of power would spare. */
  get syncedSize(): number {
    return batchEnds(this.bytes.subarray(0, this.syncedBytes)).at(-1)?.size ?? 0;
  }

  #watch(): void {
    const { storage } = this;
    storage.faults.sync = () => {
      const length = this.bytes.length;
      return new Promise((resolve) => {
        this.#machine.after(this.syncMs * this.#machine.random.between(0.2, 2), () => {
          if (this.storage === storage) this.syncedBytes = Math.max(this.syncedBytes, length);
          resolve();
        });
      });
    };
  }
}

/** Where whole batches end in these bytes, and how many entries lie before. */
export function batchEnds(bytes: Buffer): { size: number; end: number }[] {
  const ends: { size: number; end: number }[] = [];
  let size = 0;
  for (let begin = 0, end = bytes.indexOf(10); end !== -1; begin = end + 1, end = bytes.indexOf(10, begin)) {
    if (bytes.subarray(begin, begin + 14).toString() === '{"checkpoint":') ends.push({ size, end: end + 1 });
    else size += 1;
  }
  return ends;
}
