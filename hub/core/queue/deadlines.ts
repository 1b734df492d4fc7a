import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { formatDuration } from '../../../protocol/duration.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';
import { giveUp } from '../lifecycle.ts';
import { Heap } from './heap.ts';

interface Due {
  task: string;
  /** What ends then: the time to be begun, or the time to be done. */
  what: 'queue' | 'deadline';
}

/** So many times are kept without a look at whose tasks have ended. */
const KEPT_MIN = 1_024;

/** When open tasks end that were not begun, or not done, in the time they were given. */
export class Deadlines {
  readonly #due = new Heap<Due>();
  readonly #open = new Set<string>();

  /**
   * `ageMs`: how long ago it was submitted. A founder that starts takes that from the wall clocks of the log and its own: a
   * clock that jumped ends a task sooner or later than asked, and nothing else hangs on it (promise 11).
   */
  add({ id, schedule }: TaskRecord, now: number, ageMs: number): void {
    const submittedAt = now - Math.max(0, ageMs);
    const { queueMs, deadlineMs } = schedule ?? {};
    if (queueMs !== undefined || deadlineMs !== undefined) this.#open.add(id);
    if (queueMs !== undefined) this.#due.push(submittedAt + queueMs, { task: id, what: 'queue' });
    if (deadlineMs !== undefined) this.#due.push(submittedAt + deadlineMs, { task: id, what: 'deadline' });
  }

  /** The task has ended. What was noted of it goes once most of what is kept is of such. */
  end(id: string): void {
    if (!this.#open.delete(id) || this.#due.size <= 4 * this.#open.size + KEPT_MIN) return;
    this.#due.retain(({ task }) => this.#open.has(task));
  }

  /** How many times are kept, those of ended tasks included. */
  get size(): number {
    return this.#due.size;
  }

  /** When the next is due; null: none is. */
  get next(): number | null {
    return this.#due.peek()?.key ?? null;
  }

  /** Those that are due by now. */
  take(now: number): Due[] {
    const due: Due[] = [];
    for (let next = this.#due.peek(); next !== undefined && next.key <= now; next = this.#due.peek()) {
      due.push(next.item);
      this.#due.pop();
    }
    return due;
  }
}

/** Ends what is overdue: what nobody has begun, and what is not done. A result that only lacks a verifier goes out as it is. */
export function endOverdue(ctx: FounderContext): void {
  for (const { task: id, what } of ctx.deadlines.take(ctx.now)) {
    const task = ctx.state.tasks.byId.get(id);
    if (task === undefined || TERMINAL_STATES.has(task.state)) continue;
    if (what === 'queue' && task.executions > 0) continue;
    giveUp(ctx, task, { state: 'failed', reason: 'timeout', detail: wordsOf(task, what) });
  }
}

function wordsOf({ schedule, lastEnd }: TaskRecord, what: Due['what']): string {
  if (what === 'queue') {
    return `no machine had begun it ${formatDuration(schedule!.queueMs!)} after it was submitted (--queue-timeout)`;
  }
  const last =
    lastEnd === null ? '' : `; its last attempt ended: ${lastEnd.reason}, ${lastEnd.detail ?? 'no detail'}`;
  return `not done ${formatDuration(schedule!.deadlineMs!)} after it was submitted (--deadline)${last}`.slice(
    0,
    2048,
  );
}
