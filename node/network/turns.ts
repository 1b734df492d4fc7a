import { performance } from 'node:perf_hooks';

export interface TurnLimits {
  /** Turns held at one time. */
  servedMax: number;
  /** Who has waited for so long is told that there is none. */
  turnMs: number;
  /** While others wait, who has been sending for longer than this loses its turn. Well below `turnMs`. */
  takeMs: number;
}

/** A turn that is held. It ends by `end`, once, whatever became of it. */
export interface Turn {
  /** From now on all depends on how fast the peer takes what it asked for; `lose` ends that, and `end` is called because of it. */
  sending(lose: () => void): void;
  end(): void;
}

interface Held extends Turn {
  readonly peer: string;
  lose: (() => void) | null;
  since: number;
}

interface Waiter {
  readonly peer: string;
  settle(turn: Turn | null): void;
}

/**
 * Lets so many on at one time. A turn that becomes free goes to the peer that holds the fewest, in the order in which they
 * came; and while anyone waits, those that take longer than they may lose theirs. So peers that take nothing keep nobody
 * from a turn for long, however many they ask for.
 */
export class Turns {
  readonly #limits: TurnLimits;
  /** In the order in which they began; those that send, in the order in which they began to send. */
  readonly #held = new Set<Held>();
  readonly #ofPeer = new Map<string, number>();
  readonly #waiting = new Set<Waiter>();
  #looking: NodeJS.Timeout | null = null;

  constructor(limits: TurnLimits) {
    this.#limits = limits;
  }

  /** Null: it did not come within `turnMs`. */
  next(peer: string): Promise<Turn | null> | Turn {
    if (this.#held.size < this.#limits.servedMax) return this.#hold(peer);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        peer,
        settle: (turn) => {
          clearTimeout(timer);
          this.#waiting.delete(waiter);
          resolve(turn);
        },
      };
      const timer = setTimeout(() => waiter.settle(null), this.#limits.turnMs);
      this.#waiting.add(waiter);
      this.#look();
    });
  }

  #hold(peer: string): Turn {
    const held: Held = {
      peer,
      lose: null,
      since: 0,
      sending: (lose) => {
        held.lose = lose;
        held.since = performance.now();
        this.#held.delete(held);
        this.#held.add(held);
        if (this.#waiting.size > 0) this.#look();
      },
      end: () => this.#end(held),
    };
    this.#held.add(held);
    this.#ofPeer.set(peer, (this.#ofPeer.get(peer) ?? 0) + 1);
    return held;
  }

  #end(held: Held): void {
    if (!this.#held.delete(held)) return;
    const left = (this.#ofPeer.get(held.peer) ?? 1) - 1;
    if (left > 0) this.#ofPeer.set(held.peer, left);
    else this.#ofPeer.delete(held.peer);
    let next: Waiter | null = null;
    let fewest = Number.POSITIVE_INFINITY;
    for (const waiter of this.#waiting) {
      const has = this.#ofPeer.get(waiter.peer) ?? 0;
      if (has >= fewest) continue;
      next = waiter;
      fewest = has;
      if (has === 0) break;
    }
    next?.settle(this.#hold(next.peer));
  }

  /** Takes the turns of those that have had them for too long, as many as are waited for; comes back while anyone waits. */
  #look(): void {
    if (this.#looking !== null) return;
    const now = performance.now();
    const { takeMs } = this.#limits;
    let wanted = this.#waiting.size;
    let soonest = Number.POSITIVE_INFINITY;
    const lost: (() => void)[] = [];
    for (const held of this.#held) {
      if (held.lose === null) continue;
      const left = held.since + takeMs - now;
      if (left > 0) {
        soonest = left;
        break;
      }
      if (wanted === 0) break;
      wanted -= 1;
      lost.push(held.lose);
      // Whoever loses it ends it when its stream is gone; it is not told twice.
      held.lose = null;
    }
    if (this.#waiting.size > 0 && soonest !== Number.POSITIVE_INFINITY) {
      this.#looking = setTimeout(() => {
        this.#looking = null;
        if (this.#waiting.size > 0) this.#look();
      }, soonest).unref();
    }
    for (const lose of lost) lose();
  }
}
