import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alarmGridMs, founderSleptMs, restMs, safetyTickMs } from '../../../hub/core/config.ts';
import { Alarms } from '../../../hub/core/due.ts';
import { graceMs, leaseMs } from '../../../protocol/limits.ts';
import { Fleet } from './fleet.ts';

/** Goes on as a driver does: to the next time that the core asks for, until `until`; members say nothing. Answers how often. */
function drive(fleet: Fleet, until: number): number {
  let ticks = 0;
  while (fleet.core.tickAt <= until) {
    fleet.wall += fleet.core.tickAt - fleet.now;
    fleet.now = fleet.core.tickAt;
    fleet.founder({ type: 'tick' });
    ticks += 1;
  }
  return ticks;
}

test('a founder that has nothing to do is woken by its safety tick alone', () => {
  const fleet = new Fleet();
  for (const name of ['ada', 'bob', 'cyd']) fleet.join(name);
  drive(fleet, fleet.now + safetyTickMs);
  const ticks = drive(fleet, fleet.now + 10_000);
  assert.is(ticks, 10_000 / safetyTickMs);
});

test('the end of a grace and of a lease are noticed when they are due, not by the next tick', () => {
  const left = new Fleet();
  const gone = left.join('ada');
  const first = left.submit();
  left.now += 730;
  left.disconnect(gone);
  const end = left.now + graceMs;
  drive(left, end - 1);
  assert.is(left.task(first).state, 'assigned');
  drive(left, end + alarmGridMs);
  assert.is(left.task(first).state, 'queued');

  const silent = new Fleet();
  silent.join('ada');
  const second = silent.submit();
  const lease = silent.now + leaseMs;
  drive(silent, lease - 1);
  assert.is(silent.task(second).state, 'assigned');
  drive(silent, lease + alarmGridMs);
  assert.is(silent.task(second).state, 'queued');
});

test('a machine whose owner stopped something is given work again when its rest is over', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit();
  const assignment = fleet.running(ada);
  fleet.member(ada, { type: 'owner', act: 'pause' });
  fleet.gone(ada, assignment);
  fleet.member(ada, { type: 'owner', act: 'resume' });
  assert.is(ada.running.size, 0);
  drive(fleet, fleet.now + restMs + alarmGridMs);
  assert.is(ada.running.size, 1);
});

test('a tick that comes a little late is no sleep; one that comes much later is', () => {
  for (const [lateMs, state] of [
    [founderSleptMs, 'queued'],
    [founderSleptMs + 1, 'assigned'],
  ] as const) {
    const fleet = new Fleet();
    fleet.join('ada');
    const id = fleet.submit();
    drive(fleet, fleet.now + leaseMs - 1);
    fleet.now = fleet.core.tickAt + lateMs;
    fleet.founder({ type: 'tick' });
    assert.is(fleet.task(id).state, state, `${lateMs} ms`);
  }
});

test('alarms come in order, none early, none lost, and many at one time are one', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5_000 }), { maxLength: 200 }), (times) => {
      const alarms = new Alarms();
      for (const at of times) alarms.add(at);
      const rung: number[] = [];
      while (alarms.next !== Number.POSITIVE_INFINITY) {
        rung.push(alarms.next);
        alarms.ticked(alarms.next);
      }
      assert.equal(
        rung,
        [...new Set(rung)].sort((a, b) => a - b),
      );
      for (const at of times) assert.ok(rung.some((one) => one >= at && one < at + alarmGridMs));
      assert.ok(rung.length <= 5_000 / alarmGridMs + 1);
    }),
  );
});

test.run();
