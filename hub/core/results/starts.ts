import type { FounderContext, LiveLease } from '../context.ts';

/** Attempts that their members said have begun, until that is in the log. */
export class Starts {
  readonly #waiting = new Set<LiveLease>();

  /** The log does not say yet that it has begun. */
  add(lease: LiveLease): void {
    this.#waiting.add(lease);
  }

  /**
   * At the end of a step. What has its result already is left: its start is logged with its end, for else the fetching of the result would
   * wait until the disk has the start.
   */
  log(ctx: FounderContext): void {
    for (const lease of this.#waiting) if (lease.pending === null) this.before(ctx, lease);
  }

  /** Before anything is logged that ends it. */
  before(ctx: FounderContext, lease: LiveLease): void {
    if (!this.#waiting.delete(lease)) return;
    const { task, attempt } = lease.lease;
    ctx.append({ type: 'attempt.started', body: { task, attempt, correlation: lease.correlation } });
  }
}
