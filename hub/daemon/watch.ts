import type { DurableBatch, Log } from '../../ledger/log/log.ts';
import { SuperfleetError } from '../../protocol/errors.ts';

/** Followers of tasks at one time. */
const WATCHERS_MAX = 1024;

/** Wakes whoever follows a task when an entry about it has become durable. */
export class TaskWatch {
  readonly #watchers = new Map<string, Set<() => void>>();
  #count = 0;

  constructor(log: Log) {
    log.subscribe((batch: DurableBatch) => {
      for (const { body } of batch.entries) {
        const task = (body as { task?: unknown } | null)?.task;
        if (typeof task === 'string') for (const wake of this.#watchers.get(task) ?? []) wake();
      }
    });
  }

  /**
   * Yields once at the start and then after each change, until the signal: changes that come while the consumer is
   * busy are seen as one.
   */
  async *changes(task: string, signal: AbortSignal): AsyncGenerator<void> {
    if (this.#count >= WATCHERS_MAX) {
      throw new SuperfleetError('SF_FULL', 'too many are following tasks', {
        expected: `at most ${WATCHERS_MAX}`,
      });
    }
    let dirty = true;
    let wake: (() => void) | null = null;
    const notify = (): void => {
      dirty = true;
      wake?.();
    };
    const watchers = this.#watchers.get(task) ?? new Set();
    this.#watchers.set(task, watchers.add(notify));
    this.#count += 1;
    signal.addEventListener('abort', notify);
    try {
      while (!signal.aborted) {
        if (!dirty) await new Promise<void>((resolve) => (wake = resolve));
        wake = null;
        if (signal.aborted) return;
        dirty = false;
        yield;
      }
    } finally {
      signal.removeEventListener('abort', notify);
      watchers.delete(notify);
      if (watchers.size === 0) this.#watchers.delete(task);
      this.#count -= 1;
    }
  }
}
