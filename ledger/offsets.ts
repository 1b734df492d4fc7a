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
