import { hash } from 'node:crypto';
import type { Actor } from '../../../ledger/lines/events.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import { type TaskSpec, TERMINAL_STATES } from '../../../protocol/task.ts';
import { submitterOf } from '../queue/fair-share.ts';

/** What tells one submission from another. */
type Said = Pick<TaskRecord, 'spec' | 'by' | 'schedule' | 'continues'>;

/** Keys that are kept without a look at whose tasks have left the state. */
const SWEEP_FROM = 1_024;

/** Ended tasks that are kept in the order of one content without a look. */
const ENDED_KEPT = 64;

/** Several open tasks of the same words; `order`: the newest last, some that have ended among them. */
interface Same {
  open: Set<string>;
  order: string[];
}

/**
 * Which tasks the same submitter sent before: by the key it gave them, for as long as they are in the state, and by their
 * words, while they are open.
 */
export class Repeats {
  readonly #byKey = new Map<string, { task: string; content: string }>();
  /** Of most words there is one open task, which stands here itself: sets would be most of what is kept. */
  readonly #byContent = new Map<string, string | Same>();
  readonly #contents = new Map<string, string>();
  #sweepAt = SWEEP_FROM;

  /** `known`: whether a task is in the state; keys of those that left it are forgotten. */
  add(task: TaskRecord, known: (task: string) => boolean): void {
    const content = contentOf(task);
    const key = keyOf(task.by, task.schedule);
    if (key !== null) {
      this.#byKey.set(key, { task: task.id, content });
      if (this.#byKey.size > this.#sweepAt) this.#sweep(known);
    }
    if (TERMINAL_STATES.has(task.state)) return;
    this.#contents.set(task.id, content);
    const same = this.#byContent.get(content);
    if (same === undefined) this.#byContent.set(content, task.id);
    else if (typeof same === 'string') {
      this.#byContent.set(content, { open: new Set([same, task.id]), order: [same, task.id] });
    } else {
      same.open.add(task.id);
      same.order.push(task.id);
    }
  }

  /** The task has ended: the same words are a new task from here on. */
  end(id: string): void {
    const content = this.#contents.get(id);
    if (content === undefined) return;
    this.#contents.delete(id);
    const same = this.#byContent.get(content);
    if (typeof same !== 'object') {
      if (same === id) this.#byContent.delete(content);
      return;
    }
    same.open.delete(id);
    if (same.open.size === 0) this.#byContent.delete(content);
    else if (same.order.length > 2 * same.open.size + ENDED_KEPT)
      same.order = same.order.filter((one) => same.open.has(one));
  }

  /** The task that has this submission's key; `same`: it says the same. */
  keyed(said: Said, stillKnown: (task: string) => boolean): { task: string; same: boolean } | null {
    const key = keyOf(said.by, said.schedule);
    const found = key === null ? undefined : this.#byKey.get(key);
    if (found === undefined) return null;
    if (stillKnown(found.task)) return { task: found.task, same: found.content === contentOf(said) };
    this.#byKey.delete(key!);
    return null;
  }

  #sweep(known: (task: string) => boolean): void {
    for (const [key, { task }] of this.#byKey) if (!known(task)) this.#byKey.delete(key);
    this.#sweepAt = 2 * this.#byKey.size + SWEEP_FROM;
  }

  /** The newest open task of the same submitter that says the same; null: there is none. */
  open(said: Said): string | null {
    const same = this.#byContent.get(contentOf(said));
    if (typeof same !== 'object') return same ?? null;
    const { open, order } = same;
    while (!open.has(order.at(-1)!)) order.pop();
    return order.at(-1)!;
  }
}

const keyOf = (by: Actor, asked: Schedule | undefined): string | null =>
  asked?.key === undefined ? null : `${submitterOf(by)} ${asked.key}`;

/** Keys stand in the order of their schemas; where a person put those of a map into another order, it passes for other words. */
function contentOf({ by, spec, schedule, continues }: Said): string {
  const { key: _, ...rest } = schedule ?? {};
  const said: { spec: TaskSpec; rest: object; from: string | null } = {
    spec,
    rest,
    from: continues?.commit ?? null,
  };
  return hash('sha256', `${submitterOf(by)} ${JSON.stringify(said)}`, 'base64');
}
