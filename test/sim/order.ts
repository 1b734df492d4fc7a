import type { KnownEntry } from '../../ledger/lines/entry.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import { Violation } from './violation.ts';

/**
 * What tasks asked of each other, held against the log: who comes after others begins when these were delivered, of a group no
 * more have their turn than it allows, and tasks that are kept apart never run on one machine.
 */
export class OrderChecker {
  readonly #asked = new Map<string, Schedule>();
  readonly #delivered = new Set<string>();
  readonly #turns = new Map<string, Set<string>>();
  /** Of each name that is kept apart: machines that run something of it, by attempt. */
  readonly #apart = new Map<string, Map<string, string>>();

  take(entry: KnownEntry): void {
    switch (entry.type) {
      case 'task.submitted':
        if (entry.body.schedule !== undefined) this.#asked.set(entry.body.task, entry.body.schedule);
        break;
      case 'attempt.assigned':
        if (entry.body.role === 'execute') this.#begins(entry);
        break;
      case 'attempt.ended':
      case 'task.executed':
        this.#stops(entry.body.task, entry.body.attempt);
        break;
      case 'task.converged':
        this.#ends(entry);
    }
  }

  #begins(entry: KnownEntry & { type: 'attempt.assigned' }): void {
    const { task, attempt, member } = entry.body;
    const { after = [], group, spread } = this.#asked.get(task) ?? {};
    for (const other of after)
      if (!this.#delivered.has(other)) fail(entry, `${task} begins before ${other} was delivered`);
    if (group !== undefined) {
      const turns = this.#turns.get(group.name) ?? new Set();
      this.#turns.set(group.name, turns.add(task));
      if (turns.size > group.limit) fail(entry, `${turns.size} of group ${group.name} have their turn`);
    }
    if (spread?.strict !== true || spread.over !== null) return;
    const running = this.#apart.get(spread.name) ?? new Map<string, string>();
    if ([...running.values()].includes(member)) fail(entry, `two of ${spread.name} run on one machine`);
    this.#apart.set(spread.name, running.set(`${task}.${attempt}`, member));
  }

  #stops(task: string, attempt: number): void {
    const { spread } = this.#asked.get(task) ?? {};
    if (spread !== undefined) this.#apart.get(spread.name)?.delete(`${task}.${attempt}`);
  }

  #ends({ body }: KnownEntry & { type: 'task.converged' }): void {
    if (body.state === 'delivered') this.#delivered.add(body.task);
    const { group } = this.#asked.get(body.task) ?? {};
    if (group !== undefined) this.#turns.get(group.name)?.delete(body.task);
    this.#asked.delete(body.task);
  }
}

function fail(entry: KnownEntry, why: string): never {
  throw new Violation('order', `entry ${entry.index} (${entry.type}): ${why}`);
}
