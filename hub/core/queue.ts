import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { Heap } from './heap.ts';
import { type OwnersAsk, ownersAskOf } from './owner-terms.ts';
import { type Requirements, requirementsOf } from './requirements.ts';

/** What a task asks of its executor; tasks that ask the same share a bucket. */
export interface Need extends Requirements, OwnersAsk {
  labels: Record<string, string>;
  on: string | null;
  secrets: string[];
  avoid: string[];
  unfit: string[];
}

/** A queued task. `number` is its place: a task that comes back goes before those submitted after it. */
export interface Queued {
  id: string;
  number: number;
  /** Members that failed it may be tried from here on where no other fits (monotonic ms). */
  sameMemberAt: number;
  /** They may be tried from here on even where another fits and is busy. */
  anyMemberAt: number;
}

export interface Bucket {
  key: string;
  need: Need;
  heap: Heap<Queued>;
  size: number;
  /** The fleet in which nobody fitted. */
  barrenIn: number;
}

interface Slot {
  entry: Queued;
  bucket: Bucket;
}

/** Tasks that may be given out, first submitted first, by what they ask; and those whose retry is not due yet. */
export class RunQueue {
  readonly buckets = new Map<string, Bucket>();
  readonly #slots = new Map<string, Slot>();
  readonly #waiting = new Map<string, { task: TaskRecord; entry: Queued; notBefore: number }>();
  readonly #due = new Heap<string>();

  /** Tasks in it, due or not. */
  get size(): number {
    return this.#slots.size + this.#waiting.size;
  }

  /** When the first of those that back off is due, or sooner; null: none does. */
  get nextDue(): number | null {
    return this.#due.peek()?.key ?? null;
  }

  has(id: string): boolean {
    return this.#slots.has(id) || this.#waiting.has(id);
  }

  /** When a task that backs off is due; null: it is due now, or not here. */
  notBefore(id: string): number | null {
    return this.#waiting.get(id)?.notBefore ?? null;
  }

  add(
    task: TaskRecord,
    times: { notBefore: number; sameMemberAt: number; anyMemberAt: number },
    now: number,
  ): void {
    this.remove(task.id);
    const { notBefore, sameMemberAt, anyMemberAt } = times;
    const entry = { id: task.id, number: task.number, sameMemberAt, anyMemberAt };
    if (notBefore > now) {
      this.#waiting.set(task.id, { task, entry, notBefore });
      this.#due.push(notBefore, task.id);
    } else this.#place(task, entry);
  }

  remove(id: string): void {
    this.#waiting.delete(id);
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    this.#slots.delete(id);
    slot.bucket.size -= 1;
    if (slot.bucket.size === 0) this.buckets.delete(slot.bucket.key);
  }

  /** Moves what is due into its bucket. */
  wake(now: number): void {
    for (let next = this.#due.peek(); next !== undefined && next.key <= now; next = this.#due.peek()) {
      this.#due.pop();
      const waiting = this.#waiting.get(next.item);
      if (waiting === undefined || waiting.notBefore > now) continue;
      this.#waiting.delete(next.item);
      this.#place(waiting.task, waiting.entry);
    }
  }

  /** The first task of a bucket; entries of tasks that left are dropped on the way. */
  head(bucket: Bucket): Queued | null {
    for (let top = bucket.heap.peek(); top !== undefined; top = bucket.heap.peek()) {
      if (this.#slots.get(top.item.id)?.entry === top.item) return top.item;
      bucket.heap.pop();
    }
    return null;
  }

  /** Tasks that are before this one. Counts them: for a person who asks, not for a decision. */
  before(number: number): number {
    let before = 0;
    for (const { entry } of this.#slots.values()) if (entry.number < number) before += 1;
    return before;
  }

  #place(task: TaskRecord, entry: Queued): void {
    const need = needOf(task);
    const key = JSON.stringify([
      Object.entries(need.labels).sort(),
      need.on,
      need.goal,
      need.continues,
      need.brain,
      need.model,
      need.cloud,
      Object.entries(need.tools).sort(),
      need.secrets,
      need.avoid,
      need.unfit,
      need.taskKind,
      need.by,
      need.longestMs,
    ]);
    let bucket = this.buckets.get(key);
    if (bucket === undefined) {
      bucket = { key, need, heap: new Heap(), size: 0, barrenIn: 0 };
      this.buckets.set(key, bucket);
    }
    bucket.heap.push(entry.number, entry);
    bucket.size += 1;
    this.#slots.set(task.id, { entry, bucket });
  }
}

export const needOf = ({ spec, by, continues, avoid, unfit }: TaskRecord): Need => ({
  ...ownersAskOf({ spec, by }, 'execute'),
  labels: spec.labels,
  on: spec.on,
  ...requirementsOf(spec),
  continues: continues !== undefined,
  secrets: [...spec.secrets].sort(),
  avoid: [...avoid].sort(),
  unfit: [...unfit].sort(),
});
