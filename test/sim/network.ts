import type { Machine } from './machine.ts';
import type { Random } from './random.ts';
import type { Schedule } from './schedule.ts';

export type Direction = 'toFounder' | 'toMember';

/** What one end of a session hears. */
export interface End<M> {
  machine: Machine;
  message(message: M): void;
  closed(): void;
}

/** The way between one member and the founder. */
export interface Link {
  latencyMs: number;
  /** A direction that is down keeps what is sent, as TCP does, and delivers it when it is up again. */
  down: Record<Direction, boolean>;
  disturbedAt: number;
}

/**
 * One stream: messages of a direction arrive in order, or not at all once the stream is reset. Loss is only by
 * closing (LIBP2P: a reliable stream).
 */
export class Session<Up, Down> {
  readonly id: number;
  readonly link: Link;
  readonly #schedule: Schedule;
  readonly #random: Random;
  readonly #ends: { toFounder: End<Up>; toMember: End<Down> };
  readonly #lives: Record<Direction, number>;
  readonly #open: Record<Direction, boolean> = { toFounder: true, toMember: true };
  readonly #queues: Record<Direction, { item: unknown; close: boolean }[]> = { toFounder: [], toMember: [] };
  readonly #busyUntil: Record<Direction, number> = { toFounder: 0, toMember: 0 };
  #reset = false;

  constructor(
    id: number,
    link: Link,
    schedule: Schedule,
    random: Random,
    ends: { toFounder: End<Up>; toMember: End<Down> },
  ) {
    this.id = id;
    this.link = link;
    this.#schedule = schedule;
    this.#random = random;
    this.#ends = ends;
    this.#lives = { toFounder: ends.toFounder.machine.life, toMember: ends.toMember.machine.life };
  }

  send(direction: Direction, message: Up | Down): void {
    this.#enqueue(direction, message, false);
  }

  /** This end closes: the other hears of it after all that was sent before. */
  close(by: 'member' | 'founder'): void {
    const own: Direction = by === 'member' ? 'toMember' : 'toFounder';
    const other: Direction = by === 'member' ? 'toFounder' : 'toMember';
    if (!this.#open[own]) return;
    this.#open[own] = false;
    this.#enqueue(other, null, true);
  }

  /** The connection is lost: what is under way is gone; each end that can be reached hears of it. */
  reset(): void {
    if (this.#reset) return;
    this.#reset = true;
    for (const direction of ['toFounder', 'toMember'] as const) {
      this.#queues[direction] = [];
      this.#enqueue(direction, null, true);
    }
  }

  /** The direction is up again. */
  pump(direction: Direction): void {
    for (let count = this.#queues[direction].length; count > 0; count -= 1) this.#deliverAt(direction);
  }

  #enqueue(direction: Direction, item: unknown, close: boolean): void {
    if (this.#reset && !close) return;
    this.#queues[direction].push({ item, close });
    this.#deliverAt(direction);
  }

  #deliverAt(direction: Direction): void {
    const jitter = this.#random.between(0.5, 1.5);
    const at = Math.max(this.#busyUntil[direction], this.#schedule.now + this.link.latencyMs * jitter);
    this.#busyUntil[direction] = at;
    this.#schedule.at(at, () => this.#deliver(direction));
  }

  #deliver(direction: Direction): void {
    if (this.link.down[direction]) return;
    const next = this.#queues[direction].shift();
    const end = this.#ends[direction];
    if (next === undefined || !this.#open[direction]) return;
    // A process that started anew has no part in what the old one opened.
    if (end.machine.life !== this.#lives[direction]) return;
    if (next.close) {
      this.#open[direction] = false;
      end.machine.deliver(() => end.closed());
    } else end.machine.deliver(() => (end as End<unknown>).message(next.item));
  }
}
