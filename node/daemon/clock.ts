import { uptime } from 'node:os';
import { performance } from 'node:perf_hooks';
import type { Clock } from '../core/types.ts';
import { RandomPool } from './random-pool.ts';

const pool = new RandomPool();
const random = (length: number): Uint8Array => pool.take(length);

/** The system's clocks and random source, as the cores want them. `now` stands still while the machine is suspended. */
export const systemClock = (): Clock => ({
  now: performance.now(),
  time: Date.now(),
  random,
});

/** Between two looks the clocks drift apart by less than this: the kernel tells its uptime in hundredths of a second. */
const SLEEP_MIN_MS = 500;

/**
 * Monotonic ms that go on while the machine is suspended. Linux' CLOCK_MONOTONIC, which Node counts by, stands still then:
 * a laptop that wakes would hold its lease for good. The kernel's uptime (CLOCK_BOOTTIME) goes on.
 */
export class WakefulClock {
  readonly #monotonicMs: () => number;
  readonly #uptimeMs: () => number;
  #apartMs = 0;
  #asleepMs = 0;

  constructor(monotonicMs = () => performance.now(), uptimeMs = () => uptime() * 1_000) {
    this.#monotonicMs = monotonicMs;
    this.#uptimeMs = uptimeMs;
    this.#apartMs = this.#apart(monotonicMs());
  }

  /** How long the machine has slept since this clock was made, ms. */
  get asleepMs(): number {
    return this.#asleepMs;
  }

  now(): number {
    const monotonic = this.#monotonicMs();
    const apart = this.#apart(monotonic);
    if (apart - this.#apartMs >= SLEEP_MIN_MS) {
      this.#asleepMs += apart - this.#apartMs;
      this.#apartMs = apart;
    }
    return monotonic + this.#asleepMs;
  }

  #apart(monotonic: number): number {
    try {
      return this.#uptimeMs() - monotonic;
    } catch {
      // A container may hide it: then only what Node counts is left.
      return this.#apartMs;
    }
  }
}

/** As `systemClock`, but time asleep counts: what a member's leases run by. */
export function wakefulClock(): () => Clock {
  const clock = new WakefulClock();
  return () => ({ ...systemClock(), now: clock.now() });
}
