import { SuperfleetError } from '../../protocol/errors.ts';

/** Effects held at one time. At 36 attempts and thousands of members this is minutes of a disk that hangs. */
export const heldEffectsMax = 262_144;
/** From here on a driver stops reading from sessions until the disk has caught up. */
export const heldEffectsHigh = 65_536;

/**
 * Holds effects until the entry they rest on is durable, and gives them back in the order in which they were
 * decided: one that waits holds up all behind it, so that nobody outside sees a later decision before an earlier one.
 */
export class EffectGate<E extends { after: number }> {
  #held: E[] = [];
  #head = 0;
  #durable: number;

  constructor(durable: number) {
    this.#durable = durable;
  }

  /** Effects that wait. */
  get length(): number {
    return this.#held.length - this.#head;
  }

  /** The driver takes no further input from sessions while this is so. */
  get full(): boolean {
    return this.length >= heldEffectsHigh;
  }

  /** Takes effects in their order. `SF_FULL` past the bound: the log has hung, and the driver stops the process. */
  hold(effects: readonly E[]): void {
    if (this.length + effects.length > heldEffectsMax) {
      throw new SuperfleetError('SF_FULL', 'too much waits for the log to be synced', {
        expected: `at most ${heldEffectsMax} effects that wait`,
        hint: 'the disk of the founder hangs; see to it and start again',
      });
    }
    for (const effect of effects) this.#held.push(effect);
  }

  /** The log is synced to `index`. Never falls. */
  durable(index: number): void {
    this.#durable = Math.max(this.#durable, index);
  }

  /** The effects that may leave now. Call it after `hold` and after `durable`. */
  release(): E[] {
    const from = this.#head;
    while (this.#head < this.#held.length && this.#held[this.#head]!.after <= this.#durable) this.#head += 1;
    const free = this.#held.slice(from, this.#head);
    if (this.#head === this.#held.length || this.#head > 4096) {
      this.#held = this.#held.slice(this.#head);
      this.#head = 0;
    }
    return free;
  }
}
