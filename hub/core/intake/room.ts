import type { Actor } from '../../../ledger/lines/events.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { formatDuration } from '../../../protocol/duration.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import type { FounderConfig } from '../config.ts';
import { submitterOf } from '../queue/fair-share.ts';

/** Ends of tasks from which the rate is measured: the last ones, and none older than so long. */
const ENDS_KEPT = 64;
const LATELY_MS = 10 * 60_000;
/** Nobody is told to come back sooner. */
const BACK_MIN_MS = 1_000;

/** How often tasks have ended lately. Times are monotonic ms. */
export class EndRate {
  readonly #ends: number[] = [];

  add(now: number): void {
    this.#ends.push(now);
    if (this.#ends.length > ENDS_KEPT) this.#ends.shift();
  }

  /** Ms until so many more will have ended, at the rate of late; null: none has ended, and nothing is known. */
  backInMs(now: number, tasks: number): number | null {
    while (this.#ends.length > 0 && now - this.#ends[0]! > LATELY_MS) this.#ends.shift();
    const [first] = this.#ends;
    if (first === undefined) return null;
    return Math.max(BACK_MIN_MS, Math.ceil(((now - first) / this.#ends.length) * tasks));
  }
}

/** Open tasks by submitter: who may add how many, and when to come back where there is no room. */
export class Room {
  readonly #open = new Map<string, { count: number; ends: EndRate }>();
  readonly #submitters = new Map<string, string>();
  readonly #ends = new EndRate();

  add({ id, by, state }: TaskRecord): void {
    if (TERMINAL_STATES.has(state) || this.#submitters.has(id)) return;
    const name = submitterOf(by);
    const share = this.#open.get(name) ?? { count: 0, ends: new EndRate() };
    share.count += 1;
    this.#open.set(name, share);
    this.#submitters.set(id, name);
  }

  end(id: string, now: number): void {
    const name = this.#submitters.get(id);
    const share = name === undefined ? undefined : this.#open.get(name);
    if (name === undefined || share === undefined) return;
    this.#submitters.delete(id);
    this.#ends.add(now);
    share.ends.add(now);
    share.count -= 1;
    if (share.count === 0) this.#open.delete(name);
  }

  /** Open tasks of this submitter. */
  of(by: Actor): number {
    return this.#open.get(submitterOf(by))?.count ?? 0;
  }

  /** Throws `SF_FULL`, with when to come back, unless this submitter may add so many. */
  require(by: Actor, tasks: number, config: FounderConfig, now: number): void {
    const { openTasksMax, openPerSubmitterMax } = config;
    const all = this.#submitters.size;
    if (all + tasks > openTasksMax) {
      const backInMs = this.#ends.backInMs(now, all + tasks - openTasksMax);
      throw full('too many tasks wait or run', `at most ${openTasksMax} open tasks`, all, tasks, backInMs);
    }
    const own = this.#open.get(submitterOf(by));
    const count = own?.count ?? 0;
    if (count + tasks <= openPerSubmitterMax) return;
    const backInMs = own?.ends.backInMs(now, count + tasks - openPerSubmitterMax) ?? null;
    const bound = `at most ${openPerSubmitterMax} open tasks of one submitter, so that there is room for others`;
    throw full('too many tasks of this submitter wait or run', bound, count, tasks, backInMs);
  }
}

function full(
  message: string,
  expected: string,
  open: number,
  tasks: number,
  backInMs: number | null,
): SuperfleetError {
  const seconds = backInMs === null ? null : 1_000 * Math.ceil(backInMs / 1_000);
  return new SuperfleetError('SF_FULL', message, {
    expected,
    got: tasks === 1 ? `${open}` : `${open}, and ${tasks} more`,
    hint:
      seconds === null
        ? 'submit again when some have ended; none has lately'
        : `submit again in about ${formatDuration(seconds)}, as fast as tasks have ended lately`,
    retryAfterMs: seconds,
  });
}
