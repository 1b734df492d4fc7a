/**
 * `npm run sim -- --seed N [--keep 1,4] [--tasks N] [--steps N] [--small] [--walls] [--trace]` replays one simulated run, or what is
 * left of one; `--seeds A..B` runs many and stops at the first that breaks a promise; `--minutes N` explores fresh ones on all
 * processors. `--mutations` plants bugs in copies of the cores and shows who catches them. `--scale` measures 10,000
 * members and a million tasks. `--replicas`: meshes whose log is copied, restored and handed over. Exit 1: a promise was broken.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { explore } from '../test/sim/explore.ts';
import { MUTATIONS } from '../test/sim/mutations.ts';
import { type RunOptions, runBothWalls, runSeed, small, usual } from '../test/sim/run.ts';
import { Scale } from '../test/sim/scale.ts';
import { shrink } from '../test/sim/shrink.ts';
import { showMutations } from './sim-mutations.ts';
import { manyReplicated, replicated } from './sim-replicas.ts';

const USAGE = `npm run sim -- --seed N [--keep 1,4|none] [--tasks N] [--steps N] [--walls] [--small] [--shrink] [--trace]
npm run sim -- --seeds A..B [--walls] [--all]
npm run sim -- --minutes N
npm run sim -- --mutations [--seeds-max N] [--only WORD]
npm run sim -- --scale [--members N] [--tasks N]
npm run sim -- --replicas (--seed N [--trace] | --seeds A..B | --minutes N)`;
const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    steps: { type: 'string' },
    /** Places of the faults of the seed that are done; the others are not. */
    keep: { type: 'string' },
    /** The first so many of its tasks. */
    tasks: { type: 'string' },
    trace: { type: 'boolean', default: false },
    /** The founder keeps next to nothing of what has ended, and starts from snapshots. */
    small: { type: 'boolean', default: false },
    /** Makes a seed that breaks a promise smaller. */
    shrink: { type: 'boolean', default: false },
    /** Runs each seed a second time with other wall clocks and compares. */
    walls: { type: 'boolean', default: false },
    /** Goes on after a failure and counts them. */
    all: { type: 'boolean', default: false },
    /** Fresh seeds, for so long. */
    minutes: { type: 'string' },
    /** Plants bugs in copies of the cores. */
    mutations: { type: 'boolean', default: false },
    'seeds-max': { type: 'string', default: '400' },
    /** Measures many members and tasks. */
    scale: { type: 'boolean', default: false },
    members: { type: 'string', default: '10000' },
    only: { type: 'string', default: '' },
    replicas: { type: 'boolean', default: false },
  },
});

/** What the largest may take. */
const scaleMsMax = 20 * 60_000;

const number = (text: string | undefined): number => {
  if (text !== undefined && /^[0-9]{1,9}$/.test(text)) return Number(text);
  console.error(`expected a number, got ${text}\n${USAGE}`);
  process.exit(2);
};
const fresh = (): number => 1_000 + Math.floor(Math.random() * 1e8);
const range = (text: string): [number, number] => {
  const [from, to] = text.split('..');
  return [number(from), number(to)];
};
const run = values.walls ? runBothWalls : runSeed;

if (values.replicas) {
  const { walls, trace, all } = values;
  const until = values.minutes === undefined ? null : Date.now() + number(values.minutes) * 60_000;
  if (until !== null)
    await manyReplicated(fresh(), Number.MAX_SAFE_INTEGER, until, { walls, trace, all: true });
  else if (values.seeds !== undefined)
    await manyReplicated(...range(values.seeds), Number.MAX_SAFE_INTEGER, { walls, trace, all });
  else await replicated(number(values.seed), { walls, trace, all });
} else if (values.mutations) {
  const planted = MUTATIONS.filter(({ name }) => name.includes(values.only));
  if (!(await showMutations(planted, number(values['seeds-max'])))) process.exitCode = 1;
} else if (values.scale) {
  const tasks = number(values.tasks ?? '1000000');
  const told = (line: string): void => console.log(line);
  console.log(new Scale({ members: number(values.members), tasks, limitMs: scaleMsMax, told }).run());
} else if (values.minutes !== undefined) {
  await exploreFor(number(values.minutes));
} else if (values.seeds !== undefined) {
  many(...range(values.seeds));
} else if (values.shrink) {
  console.log(shrink(number(values.seed), values.small ? small : {}) ?? 'it breaks no promise');
} else one(number(values.seed));

function one(seed: number): void {
  const keep =
    values.keep === undefined
      ? {}
      : { keep: values.keep === 'none' ? [] : values.keep.split(',').map(number) };
  const options: RunOptions = {
    ...keep,
    ...(values.tasks === undefined ? {} : { tasks: number(values.tasks) }),
    ...(values.steps === undefined ? {} : { steps: number(values.steps) }),
    ...(values.small ? small : {}),
    ...(values.trace ? { trace: (line: string) => console.log(line) } : {}),
  };
  attempt(() => console.log(run(seed, options)));
}

async function exploreFor(minutes: number): Promise<void> {
  const began = Date.now();
  const first = fresh();
  const processors = availableParallelism();
  console.log(`seeds from ${first} on ${processors} processors`);
  let told = began;
  const rate = (seeds: number): string =>
    `${((1000 * seeds) / (Date.now() - began)).toFixed(1)} seeds a second`;
  const { seeds, found } = await explore(first, began + minutes * 60_000, processors, (ran, one) => {
    if (one !== null) {
      process.exitCode = 1;
      console.log(`broken: ${one.checker}\n${one.message}`);
      if (one.smaller !== null) console.log(`smaller: ${one.smaller}`);
    }
    if (Date.now() - told < 30_000) return;
    told = Date.now();
    console.log(`${ran} seeds, ${rate(ran)}`);
  });
  console.log(`${seeds} seeds from ${first}, ${rate(seeds)}, ${found.length} broke a promise`);
  for (const { checker, seed, smaller } of found)
    console.log(`${checker}: seed ${seed}${smaller === null ? '' : `; ${smaller}`}`);
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
      const report = run(seed, values.small ? small : usual(seed));
      for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += report[key];
    });
    if (!well) failures += 1;
    if (!well && !values.all) return;
  }
  console.log(`${to - from + 1} seeds in ${((Date.now() - began) / 1000).toFixed(1)} s, ${failures} failed`);
  console.log(totals);
}

function attempt(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    console.error(values.all ? (error as Error).message : error);
    process.exitCode = 1;
    return false;
  }
}
