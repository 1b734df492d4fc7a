/** What comes after what. */
export interface Turns {
  /** `work` has the turn of this name from its start to its end. */
  inTurn<T>(name: string, work: () => Promise<T>): Promise<T>;
}

/** Those of this process. */
export class OwnTurns implements Turns {
  readonly #turns = new Map<string, Promise<void>>();

  async inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(name) ?? Promise.resolve();
    const mine = before.then(work);
    const settled = mine.then(
      () => {},
      () => {},
    );
    this.#turns.set(name, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(name) === settled) this.#turns.delete(name);
    }
  }

  /** Resolves when whatever has a turn of this name, or waits for one, is done. */
  async over(name: string): Promise<void> {
    await this.#turns.get(name);
  }
}
