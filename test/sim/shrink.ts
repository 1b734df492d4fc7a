import { type RunOptions, runBothWalls, runSeed, scenarioFor } from './run.ts';
import { checkerOf } from './violation.ts';

/** What is left of a seed that still breaks the promise that the whole of it breaks. */
export interface Smaller {
  checker: string;
  /** Places of the faults that are kept, and how many of the tasks. */
  keep: number[];
  tasks: number;
  /** Runs that it took. */
  runs: number;
}

/** Runs tried at most: each takes as long as the seed. */
const runsMax = 200;

/** Makes a seed that breaks a promise smaller: fewer tasks, fewer faults, the same checker. `how`: as the whole of it is run. Null: it breaks none. */
export function shrink(seed: number, how: RunOptions = {}): Smaller | null {
  let runs = 0;
  let run: typeof runSeed = runSeed;
  const checkerFor = (keep?: number[], tasks?: number): string | null => {
    runs += 1;
    try {
      run(seed, {
        ...how,
        ...(keep === undefined ? {} : { keep }),
        ...(tasks === undefined ? {} : { tasks }),
      });
      return null;
    } catch (error) {
      return checkerOf(error);
    }
  };
  let checker = checkerFor();
  if (checker === null) {
    run = runBothWalls;
    checker = checkerFor();
  }
  if (checker === null) return null;
  const scenario = scenarioFor(seed);
  let keep = scenario.faults.map((_fault, at) => at);
  let tasks = scenario.tasks.length;
  const broken = (faults: number[], count: number): boolean =>
    runs < runsMax && checkerFor(faults, count) === checker;
  for (let half = Math.floor(tasks / 2); half >= 1; half = Math.floor(half / 2))
    while (tasks > half && broken(keep, tasks - half)) tasks -= half;
  for (let part = Math.max(1, Math.floor(keep.length / 2)); part >= 1; part = Math.floor(part / 2)) {
    for (let at = 0; at < keep.length; ) {
      const without = [...keep.slice(0, at), ...keep.slice(at + part)];
      if (broken(without, tasks)) keep = without;
      else at += part;
    }
  }
  return { checker, keep, tasks, runs };
}
