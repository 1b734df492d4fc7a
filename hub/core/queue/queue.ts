import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { priorityDefault } from '../../../protocol/limits.ts';
import { type MachineNeeds, priorityOf, type Spreading } from '../../../protocol/schedule.ts';
import { type OwnersAsk, ownersAskOf } from '../placement/owner-terms.ts';
import { type Requirements, requirementsOf } from '../placement/requirements.ts';
import { FairShare, submitterOf } from './fair-share.ts';
import { Heap } from './heap.ts';

/** What a task asks of its executor; tasks that ask the same share a bucket. */
export interface Need extends Requirements, OwnersAsk {
  labels: Record<string, string>;
  on: string | null;
  secrets: string[];
  avoid: string[];
  unfit: string[];
  /** Of the machine as a whole. */
  machine: MachineNeeds;
  spread: Spreading | null;
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

/** Stale places of one line that are kept without a look. */
const STALE_MAX = 256;

/** Who goes first: by priority, then by fair share, then by number. */
export interface Rank {
  priority: number;
  tag: number;
  number: number;
}
export function goesFirst(one: Rank, other: Rank): boolean {
  if (one.priority !== other.priority) return one.priority > other.priority;
  return one.tag === other.tag ? one.number < other.number : one.tag < other.tag;
}

/** Tasks of one submitter and one priority that ask the same. */
interface Flow {
  key: string;
  submitter: string;
  priority: number;
  /** Where its first task stands among those of other submitters. */
  tag: number;
  heap: Heap<Queued>;
  size: number;
  /** Its newest place among the flows of its bucket; older ones count no more. */
  place: Rank | null;
}

export interface Bucket {
  key: string;
  need: Need;
  size: number;
  readonly flows: Map<string, Flow>;
  /** The first task of each flow. */
  readonly heads: Heap<{ flow: Flow; place: Rank }, Rank>;
}

/** Whether any machine accepts tasks by who sent them, or by how long they may take. */
export interface OwnersLook {
  bySender: boolean;
  byLength: boolean;
}

interface Slot {
  task: TaskRecord;
  entry: Queued;
  bucket: Bucket;
  flow: Flow;
}

/** What happens to the buckets, for whoever keeps an index by them. */
export interface BucketWatch {
  made(bucket: Bucket): void;
  gone(bucket: Bucket): void;
  /** Its first task may be another one than before. */
  stirred(bucket: Bucket): void;
}

/** Tasks that may be given out, by what they ask and who sent them; and those whose retry is not due yet. */
export class RunQueue {
  readonly buckets = new Map<string, Bucket>();
  readonly shares = new FairShare();
  readonly #slots = new Map<string, Slot>();
  readonly #waiting = new Map<string, { task: TaskRecord; entry: Queued; notBefore: number }>();
  readonly #due = new Heap<string>();
  readonly #watch: BucketWatch;
  #urgent = 0;
  #owners: OwnersLook = { bySender: false, byLength: false };

  constructor(watch: BucketWatch) {
    this.#watch = watch;
  }

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
    const { bucket, flow } = slot;
    bucket.size -= 1;
    if (flow.priority > priorityDefault) this.#urgent -= 1;
    flow.size -= 1;
    if (flow.size === 0) bucket.flows.delete(flow.key);
    if (bucket.size === 0) {
      this.buckets.delete(bucket.key);
      this.#watch.gone(bucket);
    } else {
      if (flow.size > 0) this.#rank(bucket, flow);
      this.#tidy(bucket, flow);
    }
  }

  /** What counts no more goes when it comes first; where the first ones never go, it must not pile up behind them. */
  #tidy(bucket: Bucket, flow: Flow): void {
    if (flow.heap.size > 2 * flow.size + STALE_MAX)
      flow.heap.retain((entry) => this.#slots.get(entry.id)?.entry === entry);
    if (bucket.heads.size > 2 * bucket.flows.size + STALE_MAX)
      bucket.heads.retain(({ flow: one, place }) => one.size > 0 && one.place === place);
  }

  /** Places kept of tasks, those included that count no more. */
  get places(): number {
    let places = this.#due.size;
    for (const { heads, flows } of this.buckets.values()) {
      places += heads.size;
      for (const { heap } of flows.values()) places += heap.size;
    }
    return places;
  }

  /** Takes out a task that is given out, and counts it against the share of its submitter. */
  serve(id: string): void {
    const slot = this.#slots.get(id);
    if (slot !== undefined) {
      const { flow } = slot;
      this.shares.serve(flow.submitter, flow.tag);
      flow.tag = this.shares.tag(flow.submitter);
    }
    this.remove(id);
  }

  /** What owners of machines decide by has changed: tasks that they tell apart no longer share a bucket, or do again. */
  tellApart(owners: OwnersLook): void {
    if (owners.bySender === this.#owners.bySender && owners.byLength === this.#owners.byLength) return;
    this.#owners = owners;
    const slots = [...this.#slots.values()];
    for (const { entry } of slots) this.remove(entry.id);
    for (const { task, entry } of slots) this.#place(task, entry);
  }

  /** Whether any task stands above the default priority. */
  get hasUrgent(): boolean {
    return this.#urgent > 0;
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

  /** The first task of a bucket and where it stands. */
  head(bucket: Bucket): { queued: Queued; rank: Rank } | null {
    for (let top = bucket.heads.peek(); top !== undefined; top = bucket.heads.peek()) {
      const { flow, place } = top.item;
      const queued = flow.place === place ? this.#first(flow) : null;
      const tag = this.shares.after(flow.submitter, flow.tag);
      if (queued !== null && tag === flow.tag) return { queued, rank: top.key };
      bucket.heads.pop();
      if (queued === null) continue;
      // Its submitter was served out of other buckets meanwhile.
      flow.tag = tag;
      flow.place = { ...place, tag };
      bucket.heads.push(flow.place, { flow, place: flow.place });
    }
    return null;
  }

  /** First tasks of a bucket by their submitters, in their order; the queue must not change meanwhile. */
  *heads(bucket: Bucket): Generator<{ queued: Queued; rank: Rank }> {
    const taken: { key: Rank; item: { flow: Flow; place: Rank } }[] = [];
    try {
      for (let head = this.head(bucket); head !== null; head = this.head(bucket)) {
        yield head;
        taken.push(bucket.heads.pop()!);
      }
    } finally {
      for (const { key, item } of taken) bucket.heads.push(key, item);
    }
  }

  /**
   * Tasks that stand before this one, if nobody sends another: those of higher priority, and of the same those that fair
   * shares let go first. Counts them: for a person who asks, not for a decision.
   */
  before(task: TaskRecord): number {
    const slot = this.#slots.get(task.id);
    const priority = priorityOf(task.schedule);
    const mine = submitterOf(task.by);
    const ahead = new Map<string, number>();
    let before = 0;
    for (const { entry, flow } of this.#slots.values()) {
      if (flow.priority > priority) before += 1;
      else if (flow.priority === priority) {
        const counts = flow.submitter !== mine || entry.number < task.number;
        if (counts) ahead.set(flow.submitter, (ahead.get(flow.submitter) ?? 0) + 1);
      }
    }
    const own = ahead.get(mine) ?? 0;
    ahead.delete(mine);
    const at = (slot?.flow.tag ?? this.shares.tag(mine)) + own * this.shares.cost(mine);
    for (const [submitter, count] of ahead) {
      const starts = (at - this.shares.tag(submitter)) / this.shares.cost(submitter);
      before += Math.min(count, Math.max(0, Math.ceil(starts)));
    }
    return before + own;
  }

  #first(flow: Flow): Queued | null {
    for (let top = flow.heap.peek(); top !== undefined; top = flow.heap.peek()) {
      if (this.#slots.get(top.item.id)?.entry === top.item) return top.item;
      flow.heap.pop();
    }
    return null;
  }

  #place(task: TaskRecord, entry: Queued): void {
    const need = needOf(task);
    const key = keyOf(need, this.#owners);
    let bucket = this.buckets.get(key);
    if (bucket === undefined) {
      bucket = { key, need, size: 0, flows: new Map(), heads: new Heap(goesFirst) };
      this.buckets.set(key, bucket);
      this.#watch.made(bucket);
    }
    const flow = this.#flow(bucket, submitterOf(task.by), priorityOf(task.schedule));
    flow.heap.push(entry.number, entry);
    flow.size += 1;
    bucket.size += 1;
    if (flow.priority > priorityDefault) this.#urgent += 1;
    this.#slots.set(task.id, { task, entry, bucket, flow });
    this.#rank(bucket, flow);
  }

  #flow(bucket: Bucket, submitter: string, priority: number): Flow {
    const key = `${priority} ${submitter}`;
    let flow = bucket.flows.get(key);
    if (flow === undefined) {
      const tag = this.shares.tag(submitter);
      flow = { key, submitter, priority, tag, heap: new Heap(), size: 0, place: null };
      bucket.flows.set(key, flow);
    }
    return flow;
  }

  /** Puts the flow where its first task stands now. */
  #rank(bucket: Bucket, flow: Flow): void {
    const first = this.#first(flow);
    if (first === null) return;
    const place = { priority: flow.priority, tag: flow.tag, number: first.number };
    if (flow.place?.tag !== place.tag || flow.place.number !== place.number) {
      flow.place = place;
      bucket.heads.push(place, { flow, place });
    }
    this.#watch.stirred(bucket);
  }
}

const NOTHING: readonly never[] = [];

/** Most tasks ask for none of these. */
function inOrder(map: object): readonly [string, unknown][] {
  for (const _ in map) return Object.entries(map).sort();
  return NOTHING;
}
const sorted = (words: readonly string[]): string[] => (words.length === 0 ? [] : [...words].sort());

const keyOf = (need: Need, owners: OwnersLook): string =>
  JSON.stringify([
    inOrder(need.labels),
    need.on,
    need.goal,
    need.continues,
    need.brain,
    need.model,
    need.cloud,
    inOrder(need.tools),
    need.secrets,
    need.avoid,
    need.unfit,
    need.taskKind,
    owners.bySender ? need.by : null,
    owners.byLength ? need.longestMs : null,
    inOrder(need.machine),
    need.spread === null ? null : [need.spread.name, need.spread.over, need.spread.strict],
  ]);

export const needOf = ({ spec, by, continues, schedule, avoid, unfit }: TaskRecord): Need => ({
  ...ownersAskOf({ spec, by }, 'execute'),
  labels: spec.labels,
  on: spec.on,
  ...requirementsOf(spec),
  continues: continues !== undefined,
  secrets: sorted(spec.secrets),
  avoid: sorted(avoid),
  unfit: sorted(unfit),
  machine: schedule?.needs ?? {},
  spread: schedule?.spread ?? null,
});
