/**
 * `npm run sim -- --seed N [--steps N] [--trace]` replays one simulated run; `--seeds A..B` runs many and stops at the
 * first that breaks a promise. Exit 1: one did.
 */
import { parseArgs } from 'node:util';
import { type Report, runSeed } from '../test/sim/run.ts';

const USAGE = 'npm run sim -- --seed N [--steps N] [--trace] | --seeds A..B [--walls]';
const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    steps: { type: 'string' },
    trace: { type: 'boolean', default: false },
    /** Runs each seed a second time with other wall clocks and compares. */
    walls: { type: 'boolean', default: false },
    /** Goes on after a failure and counts them. */
    all: { type: 'boolean', default: false },
  },
});

const number = (text: string | undefined): number => {
  if (text !== undefined && /^[0-9]{1,9}$/.test(text)) return Number(text);
  console.error(`expected a number, got ${text}\n${USAGE}`);
  process.exit(2);
};

if (values.seeds !== undefined) {
  const [from, to] = values.seeds.split('..');
  many(number(from), number(to));
} else {
  const steps = values.steps === undefined ? {} : { steps: number(values.steps) };
  const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
  attempt(() => show(runSeed(number(values.seed), { ...steps, ...trace })));
}

function many(from: number, to: number): void {
  const began = Date.now();
  const totals = {
    events: 0,
    tasks: 0,
    delivered: 0,
    verified: 0,
    failed: 0,
    cancelled: 0,
    waiting: 0,
    evidence: 0,
  };
  let failures = 0;
  for (let seed = from; seed <= to; seed += 1) {
    const well = attempt(() => {
      const report = runSeed(seed);
      if (values.walls && runSeed(seed, { wallSeed: `other ${seed}` }).decisions !== report.decisions) {
        throw new Error(`seed ${seed}: other wall clocks, other decisions (promise 11)`);
      }
      for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += report[key];
    });
    if (!well) failures += 1;
    if (!well && !values.all) return;
  }
  console.log(`${to - from + 1} seeds in ${((Date.now() - began) / 1000).toFixed(1)} s, ${failures} failed`);
  console.log(totals);
}

function show(report: Report): void {
  console.log(report);
}

function attempt(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    console.error(values.all ? (error as Error).message : error);
    process.exitCode = 1;
    return false;
  }
}
