import { placeBranch, type Received, receive, type Work } from './place.ts';
import type { Given } from './quarantine.ts';
import type { Repository } from './repository.ts';
import { TemporaryFolder } from './temporary.ts';

/**
 * The result of a task that somebody waits for: downloaded and checked while others still verify it, so that all that is
 * left to do at its delivery is to place the branch. Nothing of it reaches the repository before.
 */
export class Arrival {
  readonly #repository: Repository;
  readonly #work: Work;
  readonly #folder = new TemporaryFolder();
  readonly #ending = new AbortController();
  #early: { blob: string; received: Promise<Received | null> } | null = null;

  constructor(repository: Repository, work: Work) {
    this.#repository = repository;
    this.#work = work;
  }

  /** This is what was executed and may be delivered. Told again or told of another result, it takes that in too. */
  expect(given: Given): void {
    const { blob } = given.bundle;
    if (this.#early?.blob === blob) return;
    const { client, env, signal } = this.#work;
    const ending = this.#ending.signal;
    const work = { client, env, signal: signal === undefined ? ending : AbortSignal.any([signal, ending]) };
    const before = this.#early?.received;
    const received = Promise.resolve(before)
      .then(() => receive(this.#repository, given, work, this.#folder.under(blob)))
      // It is taken in anew when it is delivered, and then the reason is told.
      .catch(() => null);
    this.#early = { blob, received };
  }

  /** As `placeBranch`. */
  async place(given: Given, force: boolean): Promise<string> {
    const early = this.#early?.blob === given.bundle.blob ? await this.#early.received : null;
    return placeBranch(this.#repository, given, this.#work, force, early);
  }

  [Symbol.dispose](): void {
    this.#ending.abort(new Error('nobody waits for it any more'));
    this.#folder[Symbol.dispose]();
  }
}
