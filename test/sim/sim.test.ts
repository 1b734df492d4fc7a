// limit: 180 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runBothWalls, runSeed } from './run.ts';

/** Beyond these, `npm run sim -- --seeds A..B` runs as many as one likes. */
const SEEDS = 300;
/** Never the same: what they are is printed, so that a failure can be told again. */
const FRESH = 12;

test('through crashes, partitions and lies no task has two results, and none acknowledged is lost (promises 10, 12, 15, 16, 19)', () => {
  let delivered = 0;
  let evidence = 0;
  const owners = { suspended: 0, evicted: 0 };
  const heard = { asked: 0, doubted: 0, rejected: 0, partial: 0, flaky: 0, continued: 0 };
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const report = runSeed(seed);
    for (const kind of Object.keys(heard) as (keyof typeof heard)[]) heard[kind] += report.signals[kind];
    delivered += report.delivered;
    evidence += report.evidence;
    owners.suspended += report.owners.suspended;
    owners.evicted += report.owners.evicted;
  }
  // A simulation in which nothing happens would prove nothing.
  assert.ok(delivered > SEEDS, `${delivered} tasks delivered`);
  assert.ok(evidence > SEEDS / 10, `${evidence} late results kept`);
  assert.ok(owners.suspended > SEEDS / 10 && owners.evicted > SEEDS / 60, JSON.stringify(owners));
  assert.ok(
    Object.values(heard).every((count) => count > SEEDS / 25),
    JSON.stringify(heard),
  );
});

test('a founder whose state keeps no more than the last task that ended keeps every promise, and tells of all tasks', () => {
  let evidence = 0;
  for (let seed = 1; seed <= SEEDS; seed += 3) evidence += runSeed(seed, { endedTasks: 1 }).evidence;
  assert.ok(evidence > SEEDS / 60, `${evidence} late results kept`);
});

test('a founder that starts from snapshots decides as one that reads its whole log (promise 9)', () => {
  let starts = 0;
  for (let seed = 1; seed <= SEEDS; seed += 6) {
    const one = runSeed(seed, { endedTasks: 2 });
    const other = runSeed(seed, { endedTasks: 2, fromSnapshots: true });
    assert.is(other.decisions, one.decisions, `seed ${seed}`);
    starts += other.restarts;
  }
  assert.ok(starts > SEEDS / 10, `${starts} starts from a snapshot`);
});

test('other wall clocks, which jump and drift otherwise, change no decision (promise 11)', () => {
  for (let seed = 1; seed <= SEEDS; seed += 10) runBothWalls(seed);
});

test('fresh seeds keep the promises too', () => {
  const first = 1_000 + (Date.now() % 100_000_000);
  console.log(`fresh seeds ${first}..${first + FRESH - 1}`);
  for (let seed = first; seed < first + FRESH; seed += 1) runBothWalls(seed);
});

test('a seed is one run: it can be told again to the last event', () => {
  assert.equal(runSeed(7), runSeed(7));
  assert.is.not(runSeed(7).decisions, runSeed(8).decisions);
});

test.run();
