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

/**
 * The gate of a mesh whose acknowledgements wait for replicas, too: effects leave when what they rest on is on the
 * founder's disk and on so many others. What may rest on the disk alone (`passes`: reads, and what stops work) passes those
 * that wait; where no replica is asked for, all keep one order.
 */
export class ReplicatedGate<E extends { after: number }> {
  readonly #all: EffectGate<E>;
  readonly #passing: EffectGate<E>;
  readonly #passes: (effect: E) => boolean;
  #disk: number;
  #sizes: readonly number[] = [];
  #replicas: number;
  #index: number;

  /** `disk`: the newest entry on the founder's. Of a mesh that asks for replicas nothing counts until they say so. */
  constructor(disk: number, replicas: number, passes: (effect: E) => boolean = () => false) {
    this.#disk = disk;
    this.#replicas = replicas;
    this.#passes = passes;
    this.#index = this.#now();
    this.#all = new EffectGate(this.#index);
    this.#passing = new EffectGate(disk);
  }

  get full(): boolean {
    return this.#all.full || this.#passing.full;
  }

  /** The newest entry that counts as durable. Never falls: what was told once stays told. */
  get index(): number {
    return this.#index;
  }

  hold(effects: readonly E[]): void {
    if (this.#replicas === 0) {
      this.#all.hold(effects);
      return;
    }
    this.#passing.hold(effects.filter((effect) => this.#passes(effect)));
    this.#all.hold(effects.filter((effect) => !this.#passes(effect)));
  }

  /** The founder's disk has synced to this index. `replicas`: what the log asks for from here on, where it says so anew. */
  durable(index: number, replicas: number = this.#replicas): void {
    this.#disk = Math.max(this.#disk, index);
    this.#replicas = replicas;
    this.#passing.durable(this.#disk);
    this.#raise();
  }

  /** Sizes that the replicas which follow now have synced. */
  held(sizes: Iterable<number>): void {
    this.#sizes = [...sizes].sort((a, b) => b - a);
    this.#raise();
  }

  release(): E[] {
    return [...this.#all.release(), ...this.#passing.release()];
  }

  #raise(): void {
    this.#index = Math.max(this.#index, this.#now());
    this.#all.durable(this.#index);
  }

  #now(): number {
    if (this.#replicas === 0) return this.#disk;
    return Math.min(this.#disk, (this.#sizes[this.#replicas - 1] ?? 0) - 1);
  }
}
