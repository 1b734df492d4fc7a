/** Where an entry's line begins. */
export interface Place {
  index: number;
  /** First index of its segment. */
  segment: number;
  offset: number;
}

const samplesMax = 16_384;

/**
 * Where to begin reading for an index: a sample every few entries, thinned out as the log grows, so that memory
 * stays bounded and a read skips a bounded share of the log.
 */
export class Offsets {
  readonly #samplesMax: number;
  #samples: Place[] = [];
  #every = 16;

  constructor(max = samplesMax) {
    this.#samplesMax = max;
  }

  /** Places in rising order, as `some` gave them. */
  static from(places: readonly Place[]): Offsets {
    const offsets = new Offsets();
    offsets.#samples = [...places];
    return offsets;
  }

  /** Those of entries before ours, and ours. */
  after(before: Offsets): Offsets {
    const joined = new Offsets(this.#samplesMax);
    joined.#every = Math.max(this.#every, before.#every);
    joined.#samples = [...before.#samples, ...this.#samples];
    while (joined.#samples.length > joined.#samplesMax) joined.#thin();
    return joined;
  }

  /** First indexes of the segments that have places. */
  get segments(): number[] {
    return [...new Set(this.#samples.map(({ segment }) => segment))];
  }

  /** At most `max` of the places, evenly: the first is among them. */
  some(max: number): Place[] {
    const every = Math.max(1, Math.ceil(this.#samples.length / max));
    return this.#samples.filter((_, at) => at % every === 0);
  }

  /** Notes a place; places come in rising order. The first of a segment is always kept. */
  add(place: Place): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && last.segment === place.segment && place.index - last.index < this.#every)
      return;
    this.#samples.push(place);
    while (this.#samples.length > this.#samplesMax) this.#thin();
  }

  /** The nearest noted place at or before the index; undefined in an empty log. */
  before(index: number): Place | undefined {
    let low = 0;
    let high = this.#samples.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#samples[middle]!.index <= index) low = middle + 1;
      else high = middle;
    }
    return this.#samples[low - 1];
  }

  #thin(): void {
    this.#every *= 2;
    // The first sample stays, so that every index has one before it.
    this.#samples = this.#samples.filter((_, at) => at % 2 === 0);
  }
}
