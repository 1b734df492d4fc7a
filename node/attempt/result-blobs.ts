import type { ResultBlob } from '../../protocol/session.ts';
import type { BlobStore } from '../blobs/types.ts';

/**
 * The blobs of results that are kept here, counted: two results may share one (the same log, the same empty file),
 * so a blob goes only with the last result that names it, and never while one that may be it is being put.
 */
export class ResultBlobs {
  readonly #store: BlobStore;
  /** False: the store is somebody else's too (the founder's own), and nothing is ever deleted from it. */
  readonly #deletes: boolean;
  readonly #held = new Map<string, number>();
  readonly #unheld = new Set<string>();
  #putting = 0;
  #deleting: Promise<void> = Promise.resolve();

  constructor(store: BlobStore, deletes: boolean) {
    this.#store = store;
    this.#deletes = deletes;
  }

  get store(): BlobStore {
    return this.#store;
  }

  /** Puts and holds a blob; whoever called lets go of it with `release`. */
  async put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    this.#putting += 1;
    try {
      await this.#deleting;
      const stored = await this.#store.put(source);
      this.hold(stored.blob);
      return stored;
    } finally {
      this.#putting -= 1;
      this.#sweep();
    }
  }

  hold(blob: string): void {
    this.#unheld.delete(blob);
    this.#held.set(blob, (this.#held.get(blob) ?? 0) + 1);
  }

  release(blob: string): void {
    const left = (this.#held.get(blob) ?? 0) - 1;
    if (left > 0) {
      this.#held.set(blob, left);
      return;
    }
    this.#held.delete(blob);
    if (this.#deletes) this.#unheld.add(blob);
    this.#sweep();
  }

  /** Deletes what nobody holds: left by attempts that died before they had a result. */
  async reap(): Promise<void> {
    for (const blob of await this.#store.list()) {
      // What could not be deleted costs quota and nothing else.
      if (!this.#held.has(blob)) await this.#store.delete(blob).catch(() => {});
    }
  }

  /** Resolves when nothing is being deleted. */
  async settled(): Promise<void> {
    await this.#deleting;
  }

  #sweep(): void {
    if (this.#putting > 0 || this.#unheld.size === 0) return;
    const gone = [...this.#unheld];
    this.#unheld.clear();
    this.#deleting = this.#deleting.then(async () => {
      for (const blob of gone) {
        // What could not be deleted costs quota and nothing else.
        if (!this.#held.has(blob)) await this.#store.delete(blob).catch(() => {});
      }
    });
  }
}
