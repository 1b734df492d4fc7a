import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { WakefulClock } from '../../../node/daemon/clock.ts';

/** A machine whose monotonic clock stands still while it is suspended, and whose uptime goes on, as Linux has it. */
class Machine {
  monotonic = 5_000;
  uptime = 905_000;
  clock = new WakefulClock(
    () => this.monotonic,
    // The kernel tells hundredths of a second.
    () => Math.floor(this.uptime / 10) * 10,
  );

  runs(ms: number): void {
    this.monotonic += ms;
    this.uptime += ms;
  }

  sleeps(ms: number): void {
    this.uptime += ms;
  }
}

test('awake it is the monotonic clock, to the millisecond', () => {
  const machine = new Machine();
  for (let n = 0; n < 1_000; n += 1) {
    machine.runs(3.7);
    assert.is(machine.clock.now(), machine.monotonic);
  }
  assert.is(machine.clock.asleepMs, 0);
});

test('time asleep counts at the first look after it, and once', () => {
  const machine = new Machine();
  const before = machine.clock.now();
  machine.runs(40);
  machine.sleeps(60_000);
  machine.runs(1);
  assert.ok(Math.abs(machine.clock.now() - before - 60_041) <= 10);
  const after = machine.clock.now();
  machine.runs(1_000);
  assert.is(machine.clock.now() - after, 1_000);
  machine.sleeps(3_000);
  assert.ok(Math.abs(machine.clock.now() - after - 4_000) <= 20);
});

test('it never goes back, also where the uptime does or cannot be read', () => {
  let uptime: () => number = () => 50_000;
  let monotonic = 10;
  const clock = new WakefulClock(
    () => monotonic,
    () => uptime(),
  );
  uptime = () => 20_000;
  monotonic += 100;
  assert.is(clock.now(), 110);
  uptime = () => {
    throw new Error('EPERM');
  };
  monotonic += 100;
  assert.is(clock.now(), 210);
});

test('on this machine, which is awake, it goes as the monotonic clock does', async () => {
  const clock = new WakefulClock();
  const began = [clock.now(), performance.now()] as const;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(Math.abs(clock.now() - began[0] - (performance.now() - began[1])) < 5);
  assert.is(clock.asleepMs, 0);
});

test.run();
