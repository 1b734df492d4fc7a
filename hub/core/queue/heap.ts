/** A binary heap: the item of the smallest key first; equal keys in no promised order. */
export class Heap<T, K = number> {
  readonly #items: { key: K; item: T }[] = [];
  readonly #before: (one: K, other: K) => boolean;

  /** `before`: whether the first key is the smaller. @default numbers */
  constructor(before: (one: K, other: K) => boolean = (one, other) => one < other) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): { key: K; item: T } | undefined {
    return this.#items[0];
  }

  /** Drops all other items. */
  retain(keep: (item: T) => boolean): void {
    const kept = this.#items.filter(({ item }) => keep(item));
    this.#items.length = 0;
    for (const { key, item } of kept) this.push(key, item);
  }

  push(key: K, item: T): void {
    const items = this.#items;
    let at = items.length;
    items.push({ key, item });
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(key, items[parent]!.key)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = { key, item };
  }

  pop(): { key: K; item: T } | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (first === undefined || last === undefined || items.length === 0) return first;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= items.length) break;
      const right = left + 1;
      const child = right < items.length && this.#before(items[right]!.key, items[left]!.key) ? right : left;
      if (!this.#before(items[child]!.key, last.key)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return first;
  }
}
