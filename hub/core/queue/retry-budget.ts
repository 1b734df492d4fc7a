import { retriesAtOnce, retriesPerSecond, retryHeldMaxMs, retryShare } from '../config.ts';

/**
 * How many retries the mesh takes: each uses one up, each first attempt gives a part of one back, and time gives some. Where many
 * tasks fail at once, their retries are spread out so that they do not crowd out what was not tried yet. A bucket of tokens, as
 * of this process; a task that waits longer for it loses nothing.
 */
export class RetryBudget {
  #left = retriesAtOnce;
  /** When time gave the last (monotonic ms). */
  #at = Number.NEGATIVE_INFINITY;

  /** A task is tried for the first time. */
  firstStart(): void {
    this.#give(retryShare);
  }

  /** Takes one; how long it is to wait (ms), 0 where there is one. */
  take(now: number): number {
    this.#pass(now);
    this.#left = Math.max(this.#left - 1, -(retryHeldMaxMs / 1000) * retriesPerSecond);
    return this.#left >= 0 ? 0 : (-this.#left / retriesPerSecond) * 1000;
  }

  /** Whether retries wait for others. */
  isSpent(now: number): boolean {
    this.#pass(now);
    return this.#left < 0;
  }

  #pass(now: number): void {
    if (this.#at < now) {
      if (Number.isFinite(this.#at)) this.#give(((now - this.#at) / 1000) * retriesPerSecond);
      this.#at = now;
    }
  }

  #give(some: number): void {
    this.#left = Math.min(retriesAtOnce, this.#left + some);
  }
}
