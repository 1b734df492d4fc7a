import { isTaskId } from '../../protocol/ids.ts';
import { type TaskState, TERMINAL_STATES } from '../../protocol/task.ts';
import type { Entry } from '../lines/entry.ts';
import type { DurableBatch } from '../log/log.ts';

/** Entries that became durable together, as far as the index asks for it. */
export type Batch = Pick<DurableBatch, 'first' | 'entries' | 'checkpoint'>;

/** What the entries of a stretch say of one task. */
export interface Said {
  /** Of the entries about it, ascending. */
  indexes: number[];
  /** Submissions before it; null: it was not submitted here. */
  number: number | null;
  /** Peer id of the member that submitted it here; null: nobody did, or the founder's own. */
  by: string | null;
  /** In which it ended here; null: it did not. */
  ended: TaskState | null;
}

/** Batches that follow each other, as far as they are about tasks: what is indexed next. */
export class Stretch {
  readonly #tasksBefore: number;
  readonly #said = new Map<string, Said>();
  readonly #submitted: string[] = [];
  #size: number;
  #root: string | null = null;
  #entries = 0;

  /** Behind so many entries, `tasks` of them submissions. */
  constructor(size: number, tasks: number) {
    this.#size = size;
    this.#tasksBefore = tasks;
  }

  /** Size of the log at its end, where a checkpoint was made. */
  get size(): number {
    return this.#size;
  }

  /** Root of that checkpoint; null: nothing was taken. */
  get root(): string | null {
    return this.#root;
  }

  /** Tasks submitted up to its end. */
  get tasks(): number {
    return this.#tasksBefore + this.#submitted.length;
  }

  /** Entries in it. */
  get entries(): number {
    return this.#entries;
  }

  get said(): ReadonlyMap<string, Readonly<Said>> {
    return this.#said;
  }

  /** Tasks that were submitted in it; the first has the number `firstNumber`, each the next. */
  get submitted(): readonly string[] {
    return this.#submitted;
  }

  get firstNumber(): number {
    return this.#tasksBefore;
  }

  /** False, and nothing is taken, for a batch that does not follow. */
  take({ first, entries, checkpoint }: Batch): boolean {
    if (first !== this.#size) return false;
    for (const entry of entries) this.#note(entry);
    this.#entries += entries.length;
    this.#size = checkpoint.size;
    this.#root = checkpoint.root;
    return true;
  }

  #note({ index, type, body }: Entry): void {
    const task = taskOf(body);
    if (task === null) return;
    let said = this.#said.get(task);
    if (said === undefined) {
      if (!isTaskId(task)) return;
      said = { indexes: [], number: null, by: null, ended: null };
      this.#said.set(task, said);
    }
    said.indexes.push(index);
    if (type === 'task.submitted') {
      said.number = this.tasks;
      said.by = submitterOf(body);
      this.#submitted.push(task);
    } else if (type === 'task.converged') said.ended = endOf(body) ?? said.ended;
  }
}

/** What an entry names as its task; entries of types this program does not know count too. */
function taskOf(body: unknown): string | null {
  if (typeof body !== 'object' || body === null) return null;
  const { task } = body as { task?: unknown };
  return typeof task === 'string' ? task : null;
}

function submitterOf(body: unknown): string | null {
  const { by } = body as { by?: { peer?: unknown } | null };
  return typeof by?.peer === 'string' ? by.peer : null;
}

function endOf(body: unknown): TaskState | null {
  const { state } = body as { state?: TaskState };
  return state !== undefined && TERMINAL_STATES.has(state) ? state : null;
}
