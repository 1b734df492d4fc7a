import type { CommittedBatch, DurableLog } from '../../ledger/log/durable-log.ts';
import type { RawBatches } from '../../ledger/log/reader.ts';

/** Bytes of the newest batches that are kept for those who follow closely. */
const keptBytesMax = 4 * 1024 * 1024;

/**
 * The newest batches of a log in memory, so that a follower at its end costs no reading. Bounded, and the same for all
 * followers: one that is slower than this reads the disk, and slows nobody.
 */
export class RecentBatches {
  readonly #unsubscribe: () => void;
  #batches: CommittedBatch[] = [];
  #bytes = 0;

  constructor(log: DurableLog) {
    this.#unsubscribe = log.subscribe((batch) => this.#add(batch));
  }

  /** Batches from exactly this index on, about as many bytes as asked for; null where they are not in memory. */
  from(index: number, pieceBytes: number): RawBatches | null {
    const begin = this.#batches.findIndex(({ first }) => first === index);
    if (begin === -1) return null;
    const taken: Buffer[] = [];
    let bytes = 0;
    let size = index;
    for (const batch of this.#batches.slice(begin)) {
      if (taken.length > 0 && bytes + batch.bytes.length > pieceBytes) break;
      taken.push(batch.bytes);
      bytes += batch.bytes.length;
      size = batch.checkpoint.size;
    }
    return { first: index, size, bytes: taken.length === 1 ? taken[0]! : Buffer.concat(taken) };
  }

  close(): void {
    this.#unsubscribe();
    this.#batches = [];
  }

  #add(batch: CommittedBatch): void {
    // A copy that went on at a snapshot: what came before is not followed by this.
    if (this.#batches.at(-1)?.checkpoint.size !== batch.first) {
      this.#batches = [];
      this.#bytes = 0;
    }
    this.#batches.push(batch);
    this.#bytes += batch.bytes.length;
    let gone = 0;
    while (this.#bytes > keptBytesMax && gone < this.#batches.length - 1) {
      this.#bytes -= this.#batches[gone]!.bytes.length;
      gone += 1;
    }
    if (gone > 0) this.#batches = this.#batches.slice(gone);
  }
}
