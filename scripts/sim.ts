/**
 * `npm run sim -- --seed N [--steps N] [--trace]` replays one simulated run; `--seeds A..B` runs many and stops at the
 * first that breaks a promise; `--minutes N` runs fresh ones for so long. `--replicas`: meshes whose log is copied, restored
 * and handed over. Exit 1: a promise was broken.
 */
import { parseArgs } from 'node:util';
import { type Report, runSeed } from '../test/sim/run.ts';
import { runSuccession } from '../test/sim/succession/run.ts';

const USAGE =
  'npm run sim -- [--replicas] --seed N [--steps N] [--trace] | --seeds A..B [--walls] [--all] | --minutes N';
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
    /** Fresh seeds of meshes with replicas, for so long. */
    minutes: { type: 'string' },
    replicas: { type: 'boolean', default: false },
  },
});

const number = (text: string | undefined): number => {
  if (text !== undefined && /^[0-9]{1,9}$/.test(text)) return Number(text);
  console.error(`expected a number, got ${text}\n${USAGE}`);
  process.exit(2);
};

if (values.minutes !== undefined) {
  const from = 1_000 + Math.floor(Math.random() * 1e8);
  await manyReplicated(from, Number.MAX_SAFE_INTEGER, Date.now() + number(values.minutes) * 60_000);
} else if (values.replicas && values.seeds !== undefined) {
  const [from, to] = values.seeds.split('..');
  await manyReplicated(number(from), number(to), Number.MAX_SAFE_INTEGER);
} else if (values.replicas) {
  await replicated(number(values.seed));
} else if (values.seeds !== undefined) {
  const [from, to] = values.seeds.split('..');
  many(number(from), number(to));
} else {
  const steps = values.steps === undefined ? {} : { steps: number(values.steps) };
  const trace = values.trace ? { trace: (line: string) => console.log(line) } : {};
  attempt(() => show(runSeed(number(values.seed), { ...steps, ...trace })));
}

/** One mesh with replicas; null: a promise was broken. */
async function replicated(seed: number, quiet = false): Promise<Record<string, number | string> | null> {
  try {
    const report = await runSuccession(seed, values.trace ? { trace: (line) => console.log(line) } : {});
    if (
      values.walls &&
      (await runSuccession(seed, { wallSeed: `other ${seed}` })).decisions !== report.decisions
    )
      throw new Error(`seed ${seed}: other wall clocks, other decisions (promise 11)`);
    if (!quiet) console.log(report);
    return { ...report };
  } catch (error) {
    console.error(quiet ? (error as Error).message : error);
    process.exitCode = 1;
    return null;
  }
}

async function manyReplicated(from: number, to: number, until: number): Promise<void> {
  const began = Date.now();
  const totals: Record<string, number> = {};
  let ran = 0;
  let failures = 0;
  for (let seed = from; seed <= to && Date.now() < until; seed += 1) {
    const report = await replicated(seed, true);
    ran += 1;
    if (report === null) failures += 1;
    if (report === null && !values.all && values.minutes === undefined) break;
    for (const [key, value] of Object.entries(report ?? {}))
      if (typeof value === 'number' && key !== 'seed') totals[key] = (totals[key] ?? 0) + value;
  }
  console.log(
    `${ran} seeds from ${from} in ${((Date.now() - began) / 1000).toFixed(1)} s, ${failures} failed`,
  );
  console.log(totals);
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
