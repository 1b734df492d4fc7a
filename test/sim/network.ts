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
  /** Chance that a packet is lost; what it carried comes later, and all behind it. @default 0 */
  loss?: number;
  disturbedAt: number;
}

/** The first wait of TCP for what was lost; doubled each time. */
const retransmitMs = 200;
/** Losses in a row after which the connection is given up. */
const lossesMax = 6;

/**
 * One stream (LIBP2P: a reliable one). Nothing on it is lost or comes twice: lost packets are a delay of all behind them, and
 * at last a reset. What is urgent may overtake what is not, as on the wire (`URGENT`); else order is kept. What comes twice
 * or out of order comes by another stream of the same member (`sever`).
 */
export class Session<Up, Down> {
  readonly id: number;
  readonly link: Link;
  readonly #schedule: Schedule;
  readonly #random: Random;
  readonly #ends: { toFounder: End<Up>; toMember: End<Down> };
  readonly #lives: Record<Direction, number>;
  readonly #open: Record<Direction, boolean> = { toFounder: true, toMember: true };
  readonly #queues: Record<Direction, { item: unknown; close: boolean; urgent: boolean }[]> = {
    toFounder: [],
    toMember: [],
  };
  readonly #busyUntil: Record<Direction, number> = { toFounder: 0, toMember: 0 };
  #reset = false;
  /** What is under way to the founder comes no sooner. */
  #heldUntil = 0;

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

  send(direction: Direction, message: Up | Down, urgent = false): void {
    this.#enqueue(direction, message, false, urgent);
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

  /** The member's end is gone and the founder does not know: what is under way comes late, then nothing more. */
  sever(lateMs: number): void {
    if (!this.#open.toMember || this.#reset) return;
    this.#heldUntil = this.#schedule.now + lateMs;
    this.#enqueue('toFounder', null, true);
    this.#open.toMember = false;
    const { machine } = this.#ends.toMember;
    if (machine.life === this.#lives.toMember) machine.deliver(() => this.#ends.toMember.closed());
  }

  /** The direction is up again. */
  pump(direction: Direction): void {
    for (let count = this.#queues[direction].length; count > 0; count -= 1) this.#deliverAt(direction);
  }

  #enqueue(direction: Direction, item: unknown, close: boolean, urgent = false): void {
    if (this.#reset && !close) return;
    const queue = this.#queues[direction];
    // Urgent ones overtake others, and never one another.
    const from = queue.findLastIndex((one) => one.urgent) + 1;
    const normal = urgent ? queue.findIndex((one, at) => at >= from && !one.urgent && !one.close) : -1;
    if (normal >= 0 && this.#random.chance(0.5)) queue.splice(normal, 0, { item, close, urgent });
    else queue.push({ item, close, urgent });
    this.#deliverAt(direction);
  }

  /** What lost packets cost one message. */
  #lostMs(): number {
    const { loss = 0 } = this.link;
    if (loss === 0) return 0;
    let losses = 0;
    while (losses < lossesMax && this.#random.chance(loss)) losses += 1;
    if (losses === lossesMax) this.#schedule.after(0, () => this.reset());
    return losses === 0 ? 0 : retransmitMs * (2 ** losses - 1);
  }

  #deliverAt(direction: Direction): void {
    const jitter = this.#random.between(0.5, 1.5);
    const sent = this.#schedule.now + this.#lostMs();
    const at = Math.max(this.#busyUntil[direction], sent + this.link.latencyMs * jitter);
    this.#busyUntil[direction] = at;
    this.#schedule.at(at, () => this.#deliver(direction));
  }

  #deliver(direction: Direction): void {
    if (this.link.down[direction]) return;
    if (direction === 'toFounder' && this.#schedule.now < this.#heldUntil) {
      this.#schedule.at(this.#heldUntil, () => this.#deliver(direction));
      return;
    }
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
