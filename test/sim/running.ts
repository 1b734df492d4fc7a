import type { Assignment } from '../../protocol/session.ts';
import type { Machine } from './machine.ts';

/** Something that an attempt does once it was given so much time, ms. */
interface Deed {
  at: number;
  run: () => void;
}

/** An attempt as its machine runs it. Its time stands still while it is suspended; nothing of it is lost. */
export class Running {
  readonly assignment: Assignment;
  /** It was told to stop, and is not gone yet. */
  stopping = false;
  /** Since when its owner keeps it from running (its machine's monotonic clock); null: it runs. */
  suspendedAt: number | null = null;
  readonly #machine: Machine;
  readonly #deeds: Deed[];
  /** True time that it was given before `#since`. */
  #given = 0;
  #since = 0;
  /** Rises with each stop and start: a timer of before counts no more. */
  #turn = 0;

  constructor(machine: Machine, assignment: Assignment, deeds: Deed[]) {
    this.#machine = machine;
    this.assignment = assignment;
    this.#deeds = deeds;
    this.#goOn();
  }

  suspend(): void {
    if (this.suspendedAt !== null) return;
    this.suspendedAt = this.#machine.mono;
    this.#given += this.#machine.schedule.now - this.#since;
    this.#turn += 1;
  }

  resume(): void {
    if (this.suspendedAt === null) return;
    this.suspendedAt = null;
    this.#goOn();
  }

  #goOn(): void {
    this.#since = this.#machine.schedule.now;
    const turn = this.#turn;
    for (const deed of [...this.#deeds]) {
      this.#machine.after(deed.at - this.#given, () => {
        if (this.#turn !== turn) return;
        this.#deeds.splice(this.#deeds.indexOf(deed), 1);
        deed.run();
      });
    }
  }
}
