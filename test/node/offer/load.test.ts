import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  LoadSensor,
  machineTicks,
  othersPercent,
  processTicks,
  type Ticks,
} from '../../../node/offer/load.ts';

test('waiting for a disk is idle, and what a hypervisor took is nobody’s', () => {
  const text = 'cpu  100 20 30 800 40 5 5 50 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n';
  assert.equal(machineTicks(text), { all: 1050, idle: 890 });
  assert.is(machineTicks('no such line'), null);
});

test('the time of a process counts with that of the children it waited for, whatever its name', () => {
  assert.is(processTicks('7 (a) b (c) S 1 7 7 0 -1 4194304 9 9 9 9 10 20 3 4 20 0 1 0 5 0'), 37);
  assert.is(processTicks(''), 0);
});

test('what this machine does for the mesh is not others’ load', () => {
  const from: Ticks = { all: 1_000, idle: 500, own: 100 };
  assert.is(othersPercent(from, { all: 1_100, idle: 500, own: 180 }), 20);
  assert.is(othersPercent(from, { all: 1_100, idle: 600, own: 100 }), 0);
  assert.is(othersPercent(from, { all: 1_100, idle: 500, own: 300 }), 0);
  assert.is(othersPercent(from, from), null);
});

test('the load is of the last ten seconds, and nothing is said at the first look', () => {
  let ticks: Ticks = { all: 0, idle: 0, own: 0 };
  const sensor = new LoadSensor(() => ({ ...ticks }));
  assert.is(sensor.look(0), null);
  const pass = (idle: number): Ticks => ({ ...ticks, all: ticks.all + 100, idle: ticks.idle + idle });
  for (let second = 1; second <= 10; second += 1) {
    ticks = pass(100);
    assert.is(sensor.look(second * 1_000), 0);
  }
  for (let second = 11; second <= 15; second += 1) {
    ticks = pass(0);
    sensor.look(second * 1_000);
  }
  assert.is(sensor.look(15_000), 50);
  for (let second = 16; second <= 20; second += 1) {
    ticks = pass(0);
    sensor.look(second * 1_000);
  }
  assert.is(sensor.look(20_000), 100);
});

test('on a real machine a figure is had, and a tree of its own counts as its own', async () => {
  const sensor = new LoadSensor();
  let percent = sensor.look(0);
  for (let at = 1_000; percent === null; at += 1_000) {
    // The kernel counts in ticks: some have to pass.
    const until = performance.now() + 50;
    while (performance.now() < until);
    percent = sensor.look(at);
  }
  assert.ok(percent >= 0 && percent <= 100, String(percent));
});

test.run();
