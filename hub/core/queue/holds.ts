import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { priorityOf } from '../../../protocol/schedule.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';
import { giveUp, settle } from '../lifecycle.ts';
import { Heap } from './heap.ts';

/** Tasks of one name: those that may run now or do, and those that wait for one of them to end. */
interface Group {
  /** With how many each of them allows. */
  inTurn: Map<string, number>;
  waiting: Set<string>;
  order: Heap<string, Place>;
}

/** Whether one more may have its turn: where limits differ, no more than the least of them says. */
function hasRoom({ inTurn }: Group, limit: number): boolean {
  let least = limit;
  for (const other of inTurn.values()) least = Math.min(least, other);
  return inTurn.size < least;
}

/** Places of tasks that wait no more which are kept in a line. */
const STALE_MAX = 256;

interface Place {
  priority: number;
  number: number;
}
const goesFirst = (one: Place, other: Place): boolean =>
  one.priority === other.priority ? one.number < other.number : one.priority > other.priority;

/**
 * Queued tasks that may not be given out yet for the sake of others: of those that they come after, or of their group. Rebuilt
 * from the state when a founder starts; what is released is settled anew, so that nothing hangs on what was remembered here.
 */
export class Holds {
  /** Tasks that come after this one. */
  readonly #behind = new Map<string, Set<string>>();
  readonly #groups = new Map<string, Group>();
  /** Groups in which something has changed. */
  readonly #stirred = new Set<string>();
  #released: string[] = [];
  /** Of the released, those that can never go on, and why. */
  readonly #hopeless = new Map<string, string>();

  /** Notes that the task waits for this other one. */
  comeAfter(task: string, other: string): void {
    const behind = this.#behind.get(other) ?? new Set();
    this.#behind.set(other, behind.add(task));
  }

  /** Whether its group has room for the task, which then keeps its place there until it has ended; else it waits in line. */
  enter({ id, number, schedule }: TaskRecord): boolean {
    if (schedule?.group === undefined) return true;
    const { name, limit } = schedule.group;
    const group = this.#group(name);
    if (group.inTurn.has(id)) return true;
    if (hasRoom(group, limit) && group.waiting.size === 0) {
      group.inTurn.set(id, limit);
      return true;
    }
    if (!group.waiting.has(id)) {
      group.waiting.add(id);
      group.order.push({ priority: priorityOf(schedule), number }, id);
    }
    return false;
  }

  /** A task that runs, or has run, when a founder starts has its place already. */
  keep({ id, schedule }: TaskRecord): void {
    if (schedule?.group === undefined) return;
    const { name, limit } = schedule.group;
    this.#group(name).inTurn.set(id, limit);
  }

  /** The task goes aside for now: it has no place in its group, nor in its line, and asks for one again when it comes back. */
  leave({ id, schedule }: TaskRecord): void {
    const group = schedule?.group === undefined ? undefined : this.#groups.get(schedule.group.name);
    if (group === undefined) return;
    const [had, waited] = [group.inTurn.delete(id), group.waiting.delete(id)];
    if (had || waited) this.#stirred.add(schedule!.group!.name);
  }

  /** The task has ended: its place is free, and whoever comes after it is looked at. */
  end({ id, schedule, state }: TaskRecord): void {
    for (const behind of this.#behind.get(id) ?? []) {
      this.#released.push(behind);
      if (state !== 'delivered') this.#hopeless.set(behind, cameToNothing(id, state));
    }
    this.#behind.delete(id);
    this.#hopeless.delete(id);
    for (const other of schedule?.after ?? []) this.#behind.get(other)?.delete(id);
    if (schedule?.group === undefined) return;
    const group = this.#group(schedule.group.name);
    group.inTurn.delete(id);
    group.waiting.delete(id);
    if (group.order.size > 2 * group.waiting.size + STALE_MAX)
      group.order.retain((one) => group.waiting.has(one));
    this.#stirred.add(schedule.group.name);
  }

  /** Why a released task can never go on; null: it may. */
  hopeless(task: string): string | null {
    return this.#hopeless.get(task) ?? null;
  }

  /** Other tasks of its group that have their turn, where the task waits for one of them; else 0. */
  waitsFor({ id, schedule }: TaskRecord): number {
    const group = schedule?.group === undefined ? undefined : this.#groups.get(schedule.group.name);
    return group?.waiting.has(id) === true ? group.inTurn.size : 0;
  }

  /** What has been released since the last call: by tasks that ended, and by places in groups. `limitOf`: null: it is gone. */
  take(limitOf: (task: string) => number | null): string[] {
    const released = this.#released;
    this.#released = [];
    for (const name of this.#stirred) {
      const group = this.#group(name);
      for (let next = group.order.peek(); next !== undefined; next = group.order.peek()) {
        const limit = group.waiting.has(next.item) ? limitOf(next.item) : null;
        if (limit !== null && !hasRoom(group, limit)) break;
        group.order.pop();
        if (limit === null) continue;
        group.waiting.delete(next.item);
        group.inTurn.set(next.item, limit);
        released.push(next.item);
      }
      if (group.inTurn.size === 0 && group.waiting.size === 0) this.#groups.delete(name);
    }
    this.#stirred.clear();
    return released;
  }

  #group(name: string): Group {
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { inTurn: new Map(), waiting: new Set(), order: new Heap(goesFirst) };
      this.#groups.set(name, group);
    }
    return group;
  }
}

/**
 * Whether a queued task waits for tasks that it comes after; where one of them came to nothing it can never go on, and is given
 * up. It is noted behind each of them: one that fails may leave the state long before the others have ended.
 */
export function comesAfterOpen(ctx: FounderContext, task: TaskRecord): boolean {
  let waits = false;
  for (const id of task.schedule?.after ?? []) {
    const other = ctx.state.tasks.byId.get(id);
    // One that has left the state was delivered: had it ended otherwise, this one would have ended with it.
    if (other === undefined || other.state === 'delivered') continue;
    if (TERMINAL_STATES.has(other.state)) {
      refuse(ctx, task, cameToNothing(id, other.state));
      return true;
    }
    ctx.holds.comeAfter(task.id, id);
    waits = true;
  }
  return waits;
}

const cameToNothing = (id: string, state: string): string => `task ${id}, which it comes after, is ${state}`;

const refuse = (ctx: FounderContext, task: TaskRecord, detail: string): void =>
  giveUp(ctx, task, { state: 'failed', reason: 'refused', detail });

/** Lets those go on that waited for what has ended since. */
export function releaseHeld(ctx: FounderContext): void {
  const limitOf = (id: string): number | null => ctx.state.tasks.byId.get(id)?.schedule?.group?.limit ?? null;
  for (let released = ctx.holds.take(limitOf); released.length > 0; released = ctx.holds.take(limitOf)) {
    for (const id of released) {
      const task = ctx.state.tasks.byId.get(id);
      if (task === undefined || TERMINAL_STATES.has(task.state)) continue;
      const hopeless = ctx.holds.hopeless(id);
      if (hopeless === null) settle(ctx, task);
      else refuse(ctx, task, hopeless);
    }
  }
}

/** What a queued task waits for of others, in words; null: nothing. */
export function heldBy(ctx: FounderContext, task: TaskRecord): string | null {
  const { schedule } = task;
  for (const id of schedule?.after ?? []) {
    const other = ctx.state.tasks.byId.get(id);
    if (other !== undefined && other.state !== 'delivered')
      return `it comes after task ${id}, which is ${other.state}`;
  }
  if (schedule?.group === undefined) return null;
  const { name, limit } = schedule.group;
  const others = ctx.holds.waitsFor(task);
  if (others === 0) return null;
  return `${others} of its group ${name} ${others === 1 ? 'has its' : 'have their'} turn; at most ${limit} may at one time`;
}
