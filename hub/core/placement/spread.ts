import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { Spreading } from '../../../protocol/schedule.ts';
import type { FounderContext } from '../context.ts';
import type { LiveMember } from '../members/live-member.ts';
import { labelsOf } from './fit.ts';

/** Where a task counts as running: a machine, or a value of a label. */
export interface SpreadPlace {
  name: string;
  place: string;
}

/** How many attempts of tasks of one name run in each place. */
export class Spreads {
  readonly #counts = new Map<string, Map<string, number>>();

  add({ name, place }: SpreadPlace): void {
    const counts = this.#counts.get(name) ?? new Map<string, number>();
    this.#counts.set(name, counts.set(place, (counts.get(place) ?? 0) + 1));
  }

  remove({ name, place }: SpreadPlace): void {
    const counts = this.#counts.get(name);
    const left = (counts?.get(place) ?? 0) - 1;
    if (left > 0) counts!.set(place, left);
    else counts?.delete(place);
    if (counts?.size === 0) this.#counts.delete(name);
  }

  count({ name, place }: SpreadPlace): number {
    return this.#counts.get(name)?.get(place) ?? 0;
  }
}

/** Where an attempt on this member would count. A machine without the label is a place of its own. */
export function placeOf(ctx: FounderContext, { name, over }: Spreading, peer: string): SpreadPlace {
  const member = over === null ? null : ctx.member(peer);
  if (over === null || member === null) return { name, place: peer };
  const labels = labelsOf(member, ctx.live.get(peer), ctx.labelsGiven(peer));
  return { name, place: Object.hasOwn(labels, over) ? `=${labels[over]}` : peer };
}

/**
 * Attempts of a name that are taken to run in this place. After a restart it is not known which labels a member gives itself
 * before it is heard: until then what it runs may be anywhere.
 */
export function countIn(ctx: FounderContext, spread: Spreading, peer: string): number {
  const here = ctx.spreads.count(placeOf(ctx, spread, peer));
  return spread.over === null ? here : here + ctx.spreads.count({ name: spread.name, place: UNKNOWN });
}

const UNKNOWN = '?';

/** The member has said what labels it has: what runs there counts by these. */
export function countAnew(ctx: FounderContext, { peer, leases }: LiveMember): void {
  for (const key of leases) {
    const lease = ctx.leases.get(key);
    if (lease === undefined || lease.spread === null) continue;
    const spread = spreadOf(ctx, ctx.task(lease.lease.task), peer);
    ctx.spreads.remove(lease.spread);
    if (spread !== null) ctx.spreads.add(spread);
    lease.spread = spread;
  }
}

/** Where an execution of this task on this member counts; null: nowhere. */
export const spreadOf = (ctx: FounderContext, { schedule }: TaskRecord, peer: string): SpreadPlace | null =>
  schedule?.spread === undefined
    ? null
    : isUnknown(ctx, schedule.spread, peer)
      ? { name: schedule.spread.name, place: UNKNOWN }
      : placeOf(ctx, schedule.spread, peer);

function isUnknown(ctx: FounderContext, { over }: Spreading, peer: string): boolean {
  if (over === null || ctx.live.get(peer)?.capacity != null) return false;
  return !Object.hasOwn(ctx.member(peer)?.labels ?? {}, over);
}
