import type { Actor } from '../../../ledger/lines/events.ts';

/** How a submitter is told from others: a machine, or a person at the founder. */
export const submitterOf = (by: Actor): string =>
  by.kind === 'peer' ? by.peer : by.kind === 'local' ? `local:${by.user}` : by.kind;

/** A second of an attempt is what a share is counted in; so much is one taken to be before any was seen. */
const FIRST_GUESS = 1;
/** How much the newest attempt counts for what the next is taken to cost. */
const NEWEST = 0.2;
/** Submitters remembered; past it those who are due nothing are forgotten. */
const SHARES_MAX = 4_096;

interface Share {
  /** The virtual time up to which this submitter has been served. */
  servedTo: number;
  /** What an attempt of theirs is taken to cost, s. */
  cost: number;
}

/**
 * Fair shares by start-time fair queueing (Goyal, Vin, Cheng 1996): whoever had less of the machines' time goes first, and
 * what was not asked for is not saved up. Rebuilt from nothing when a founder starts.
 */
export class FairShare {
  #virtual = 0;
  readonly #shares = new Map<string, Share>();

  /** Where a task of this submitter stands now: smaller goes first. */
  tag(submitter: string): number {
    return Math.max(this.#virtual, this.#shares.get(submitter)?.servedTo ?? 0);
  }

  /** Where a task that has stood at `tag` stands now: not before what its submitter has been served since. */
  after(submitter: string, tag: number): number {
    return Math.max(tag, this.#shares.get(submitter)?.servedTo ?? 0);
  }

  /** What the next attempt of this submitter is taken to cost. */
  cost(submitter: string): number {
    return this.#shares.get(submitter)?.cost ?? FIRST_GUESS;
  }

  /** A task of this submitter, that stood at `tag`, is given out. */
  serve(submitter: string, tag: number): void {
    const share = this.#share(submitter);
    this.#virtual = Math.max(this.#virtual, tag);
    share.servedTo = Math.max(share.servedTo, tag) + share.cost;
  }

  /** An attempt of this submitter took so long, verification included. */
  ran(submitter: string, ms: number): void {
    const share = this.#share(submitter);
    share.cost += NEWEST * (Math.max(0.01, ms / 1000) - share.cost);
  }

  #share(submitter: string): Share {
    let share = this.#shares.get(submitter);
    if (share === undefined) {
      if (this.#shares.size >= SHARES_MAX) this.#forget();
      share = { servedTo: this.#virtual, cost: FIRST_GUESS };
      this.#shares.set(submitter, share);
    }
    return share;
  }

  #forget(): void {
    for (const [submitter, { servedTo }] of this.#shares) {
      if (servedTo <= this.#virtual) this.#shares.delete(submitter);
    }
    if (this.#shares.size >= SHARES_MAX) this.#shares.clear();
  }
}
