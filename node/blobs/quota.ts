import { SuperfleetError } from '../../protocol/errors.ts';
import { blobBytesMax } from '../../protocol/limits.ts';
import { formatSize } from '../../protocol/size.ts';

/** What a file takes on most disks; charging it bounds the number of blobs too. */
const blockBytes = 4096;
const blocks = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes;

/** What a blob counts against the quota: whole blocks, an empty blob one. */
export const chargeOf = (bytes: number): number => Math.max(blockBytes, blocks(bytes));

/** Bytes a store may hold; reserved before they are written, so that it is never passed. */
export class Quota {
  readonly #bytesMax: number;
  #used = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get used(): number {
    return this.#used;
  }

  /** `SF_FULL` where it does not fit; then nothing is reserved. */
  reserve(bytes: number): void {
    if (this.#used + bytes > this.#bytesMax) {
      throw new SuperfleetError('SF_FULL', 'the blob store is full', {
        expected: `at most ${formatSize(this.#bytesMax)} in all`,
        got: `${formatSize(this.#used)} held and ${formatSize(bytes)} more`,
        hint: 'wait until finished tasks are cleared, or give the store more room',
      });
    }
    this.#used += bytes;
  }

  /** What is on the disk counts, even where it is past the quota. */
  charge(bytes: number): void {
    this.#used += bytes;
  }

  release(bytes: number): void {
    this.#used -= bytes;
  }
}

/** Reserves for one blob as it grows, and gives all of it back unless it was kept. */
export class Reservation {
  readonly #quota: Quota;
  #held = 0;

  constructor(quota: Quota) {
    this.#quota = quota;
  }

  grow(bytes: number): void {
    if (bytes > blobBytesMax) {
      throw new SuperfleetError('SF_FULL', 'the blob is too large', {
        expected: `at most ${formatSize(blobBytesMax)}`,
        got: 'more',
      });
    }
    const more = chargeOf(bytes) - this.#held;
    if (more <= 0) return;
    this.#quota.reserve(more);
    this.#held += more;
  }

  /** The bytes are the store's now. */
  keep(): void {
    this.#held = 0;
  }

  release(): void {
    this.#quota.release(this.#held);
    this.#held = 0;
  }
}
