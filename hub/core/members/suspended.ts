import type { FounderContext, LiveLease } from '../context.ts';

/**
 * Time for which owners may keep one attempt from running without its being counted, ms. A member ends what it suspends
 * after a grace of its own; this bounds one that never does, or does it again and again.
 */
const suspendedMsMax = 30 * 60_000;

/** What the member says of an attempt: whether its owner keeps it from running now. */
export function suspend(ctx: FounderContext, lease: LiveLease, suspended: boolean): void {
  if (suspended) lease.suspendedAt ??= ctx.now;
  else if (lease.suspendedAt !== null) {
    lease.suspendedMs += ctx.now - lease.suspendedAt;
    lease.suspendedAt = null;
  }
}

/** How long a lease has been worked on, without the time for which it was suspended. */
export function workedMs(ctx: FounderContext, { assignedAt, suspendedAt, suspendedMs }: LiveLease): number {
  const now = suspendedAt === null ? 0 : ctx.now - suspendedAt;
  return ctx.now - assignedAt - Math.min(suspendedMs + now, suspendedMsMax);
}
