import type { Checkpoint } from '../lines/checkpoint.ts';
import { parseLine } from '../lines/line.ts';

/** Fits the line of a checkpoint under one signature, which is about 320 bytes; a longer one gets a space of its own. */
const slotBytes = 512;

/** A checkpoint whose signature is still to be checked, who must have signed it, and where its line lies. */
export interface Unchecked {
  checkpoint: Checkpoint;
  /** Raw public key. */
  signedBy: Uint8Array;
  segment: number;
  offset: number;
}

/** One line and what belongs to it; taken again and again. `bytes` is longer than the line. */
interface Slot extends Omit<Unchecked, 'checkpoint'> {
  bytes: Buffer;
  length: number;
}

/**
 * The newest checkpoints, at most `max`, as copies of their lines in space that is taken again and again: a long log has
 * hundreds of thousands, and what was read of each would else outlive two collections before it is dropped.
 */
export class NewestUnchecked {
  readonly #max: number;
  readonly #slots: Slot[] = [];
  #count = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** `line`: that of a checkpoint that was read already, without newline; it may change afterwards. */
  add(line: Uint8Array, signedBy: Uint8Array, segment: number, offset: number): void {
    const at = this.#count % this.#max;
    this.#slots[at] ??= { bytes: Buffer.allocUnsafe(slotBytes), length: 0, signedBy, segment, offset };
    const slot = this.#slots[at];
    if (line.length > slot.bytes.length) slot.bytes = Buffer.allocUnsafe(line.length);
    slot.bytes.set(line);
    slot.length = line.length;
    slot.signedBy = signedBy;
    slot.segment = segment;
    slot.offset = offset;
    this.#count += 1;
  }

  /** The newest `many` of them, oldest first. @default all that are held */
  *newest(many = this.#max): Generator<Unchecked> {
    const held = Math.min(many, this.#slots.length);
    for (let n = this.#count - held; n < this.#count; n += 1) {
      const { bytes, length, signedBy, segment, offset } = this.#slots[n % this.#max]!;
      const line = parseLine(bytes.subarray(0, length));
      if (line.kind !== 'checkpoint') throw new Error('a line that is no checkpoint any more');
      yield { checkpoint: line.checkpoint, signedBy, segment, offset };
    }
  }
}
