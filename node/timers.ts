/** The time and the chance that a driver waits by; the simulator has its own. */
export interface Timers {
  /** Monotonic, ms. */
  now(): number;
  /** Runs it once after so many ms. Returns what calls that off. */
  after(ms: number, run: () => void): () => void;
  /** In [0, 1). */
  random(): number;
}

export const systemTimers: Timers = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};
