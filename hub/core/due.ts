import { alarmGridMs, lendersSoonMs, safetyTickMs } from './config.ts';
import type { FounderContext } from './context.ts';
import { Heap } from './queue/heap.ts';

/**
 * Times at which something is due, before the next safety tick would notice it. Kept on a grid, so that thousands of them
 * that fall together are one, and no more are held than the grid has places.
 */
export class Alarms {
  readonly #order = new Heap<number>();
  readonly #set = new Set<number>();

  /** Asks for a tick at `at` (monotonic ms), or up to a place of the grid later. */
  add(at: number): void {
    const place = Math.ceil(at / alarmGridMs) * alarmGridMs;
    if (!Number.isFinite(place) || this.#set.has(place)) return;
    this.#set.add(place);
    this.#order.push(place, place);
  }

  get next(): number {
    return this.#order.peek()?.key ?? Number.POSITIVE_INFINITY;
  }

  /** A tick has come: what was due by now is done with. */
  ticked(now: number): void {
    for (let next = this.#order.peek(); next !== undefined && next.key <= now; next = this.#order.peek()) {
      this.#order.pop();
      this.#set.delete(next.item);
    }
  }
}

/**
 * The time between ticks when nothing is due. No more than any of the waits that run from a word of a member: so each of
 * them is seen by a tick before it is over, and only shorter ones need an alarm.
 */
export const tickEveryMs = ({ config }: Pick<FounderContext, 'config'>): number =>
  Math.min(safetyTickMs, config.graceMs, config.heartbeatMs, config.leaseMs / 2);

/** After a tick: sets an alarm for what falls due before the one that comes by itself. Looks at every member, once a tick. */
export function setAlarms(ctx: FounderContext): void {
  const { alarms, config, now } = ctx;
  alarms.ticked(now);
  const until = now + tickEveryMs(ctx);
  const due = (at: number | null | undefined): void => {
    if (at != null && at > now && at < until) alarms.add(at);
  };
  for (const live of ctx.live.values()) {
    due(live.restsUntil);
    due(live.rival?.until);
    due(live.backOff?.until);
    if (live.session === null) {
      if (live.leases.size > 0) due(live.awaitedUntil);
      continue;
    }
    const heardAt = Math.max(live.heardAt, live.leasedAt);
    const idleMs = live.leases.size > 0 ? 0 : config.heartbeatIdleMs;
    due(heardAt + 2 * config.heartbeatMs + idleMs);
    due(heardAt + config.leaseMs + idleMs);
  }
  for (const lease of ctx.leases.values()) due(lease.collectAt);
  for (const waiting of ctx.unverified.values()) due(waiting.retryAt);
  due(ctx.settledAt);
  due(ctx.deadlines.next);
  due(ctx.queue.nextDue);
}

/** After a step: who lends models is looked at soon where the fleet has changed, and not at once for each of many that come. */
export function alarmForLenders(ctx: FounderContext): void {
  if (ctx.lenders.madeIn === ctx.fleet || ctx.alarms.next <= ctx.now + lendersSoonMs) return;
  ctx.alarms.add(ctx.now + lendersSoonMs);
}
