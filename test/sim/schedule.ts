interface Event {
  at: number;
  order: number;
  run: () => void;
}

/** True time of the simulated world, in ms, and what happens when. Events of one time run in the order they were made. */
export class Schedule {
  now = 0;
  ran = 0;
  readonly #heap: Event[] = [];
  #order = 0;

  after(ms: number, run: () => void): void {
    this.at(this.now + Math.max(0, ms), run);
  }

  at(time: number, run: () => void): void {
    this.#order += 1;
    const heap = this.#heap;
    const event = { at: Math.max(time, this.now), order: this.#order, run };
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = event;
  }

  /** Runs the next event; false: there is none. */
  step(): boolean {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return false;
    if (heap.length > 0) {
      let index = 0;
      for (;;) {
        let child = 2 * index + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
        if (!before(heap[child]!, last)) break;
        heap[index] = heap[child]!;
        index = child;
      }
      heap[index] = last;
    }
    this.now = first.at;
    this.ran += 1;
    first.run();
    return true;
  }
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
