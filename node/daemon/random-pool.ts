import { randomFillSync } from 'node:crypto';

/** Bytes drawn from the system at a time: a call of it costs as much as five hundred bytes do. */
const POOL_BYTES = 8_192;
/** Longer ones are drawn for themselves. */
const FROM_POOL_MAX = 64;

/**
 * The system's secure random bytes, a pool of them drawn at a time: for ids and nonces, of which there are several in every task.
 * No byte is given out twice, and what was given out is its taker's to change.
 */
export class RandomPool {
  #pool = Buffer.alloc(0);
  #used = 0;

  /** So many bytes that nobody was given before. */
  take(length: number): Uint8Array {
    if (length > FROM_POOL_MAX) return randomFillSync(Buffer.alloc(length));
    if (this.#used + length > this.#pool.length) {
      // Anew, not over the old ones: whoever took of these still has them. Never a part of the buffers that the process shares.
      this.#pool = randomFillSync(Buffer.alloc(POOL_BYTES));
      this.#used = 0;
    }
    this.#used += length;
    return this.#pool.subarray(this.#used - length, this.#used);
  }
}
