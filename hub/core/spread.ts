import type { TaskRecord } from '../../ledger/state/task-record.ts';
import type { Spreading } from '../../protocol/schedule.ts';
import type { FounderContext } from './context.ts';
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

/** Where an execution of this task on this member counts; null: nowhere. */
export const spreadOf = (ctx: FounderContext, { schedule }: TaskRecord, peer: string): SpreadPlace | null =>
  schedule?.spread === undefined ? null : placeOf(ctx, schedule.spread, peer);
