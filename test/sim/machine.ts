import type { Clock } from '../../node/core/types.ts';
import { Random } from './random.ts';
import type { Schedule } from './schedule.ts';

/**
 * A machine's clocks and its process. The monotonic clock drifts by a few thousandths, the wall clock is wrong, drifts
 * by up to a fiftieth, and jumps. A frozen process (SIGSTOP) does what came meanwhile when it goes on; a dead one never does.
 */
export class Machine {
  readonly name: string;
  readonly schedule: Schedule;
  readonly random: Random;
  /** When something last went wrong here; checks of timeliness hold only for machines that are well. */
  disturbedAt = Number.NEGATIVE_INFINITY;
  alive = false;
  frozen = false;
  /** Rises with each start of the process: what an older one was about to do is not done. */
  life = 0;
  readonly #rate: number;
  readonly #base: number;
  readonly #wallRandom: Random;
  readonly #wallRate: number;
  #wall: number;
  #inbox: (() => void)[] = [];

  constructor(name: string, seed: string, wallSeed: string, schedule: Schedule) {
    this.name = name;
    this.schedule = schedule;
    this.random = new Random(`${seed}/${name}`);
    this.#rate = this.random.between(0.997, 1.003);
    this.#base = this.random.between(1, 1e6);
    // Walls have a source of their own: two runs that differ only in it must decide the same (promise 11).
    this.#wallRandom = new Random(`${wallSeed}/${name}`);
    this.#wall = 1_700_000_000_000 + this.#wallRandom.between(-1e9, 1e9);
    this.#wallRate = this.#wallRandom.between(0.98, 1.02);
  }

  clock = (): Clock => ({
    now: this.mono,
    time: Math.floor(this.#wall + this.schedule.now * this.#wallRate),
    random: this.random.bytes,
  });

  get mono(): number {
    return this.#base + this.schedule.now * this.#rate;
  }

  /** Somebody sets the wall clock, forwards or back. */
  jumpWall(ms: number = this.#wallRandom.between(-1e8, 1e8)): void {
    this.#wall += ms;
  }

  start(): void {
    this.alive = true;
    this.frozen = false;
    this.life += 1;
    this.#inbox = [];
    this.disturb();
  }

  kill(): void {
    this.alive = false;
    this.frozen = false;
    this.life += 1;
    this.#inbox = [];
    this.disturb();
  }

  freeze(): void {
    if (this.alive) this.frozen = true;
    this.disturb();
  }

  thaw(): void {
    if (!this.frozen) return;
    this.frozen = false;
    this.disturb();
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const one of inbox) this.deliver(one);
  }

  disturb(): void {
    this.disturbedAt = this.schedule.now;
  }

  /** Runs it in this process now, or when it goes on. */
  deliver(work: () => void): void {
    if (!this.alive) return;
    if (this.frozen) this.#inbox.push(work);
    else work();
  }

  /** A timer of this process. */
  after(ms: number, work: () => void): void {
    const { life } = this;
    this.schedule.after(ms, () => {
      if (this.life === life) this.deliver(work);
    });
  }
}
