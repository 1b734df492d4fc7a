import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { StatusObject, UnreachedObject } from '../../../../node/api/objects.ts';
import { leaseMs } from '../../../../protocol/limits.ts';
import { Fleet } from '../fleet.ts';

const unreached = (fleet: Fleet): [string, number, number][] =>
  fleet
    .ask<{ items: UnreachedObject[] }>({ op: 'pause.unreached' })
    .items.map(({ name, attempts, within }) => [name, attempts, within]);
const status = (fleet: Fleet): StatusObject => fleet.ask({ op: 'status' });

test('members that have not said that they stopped are named, until they say so or their lease is over (promise 15)', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  for (let task = 0; task < 4; task += 1) fleet.submit();
  fleet.disconnect(bob);
  fleet.now += 500;
  fleet.ask({ op: 'mesh.pause' });
  assert.equal(unreached(fleet), [
    ['ada', 2, leaseMs - 500],
    ['bob', 2, leaseMs - 500],
  ]);
  for (const assignment of [...ada.running.values()]) fleet.gone(ada, assignment);
  assert.equal(unreached(fleet), [['bob', 2, leaseMs - 500]]);
  assert.match(
    status(fleet)
      .needs.map(({ what }) => what)
      .join(),
    /bob has not said that it stopped 2 attempts: it stops by itself within 15 s/,
  );
  fleet.now += leaseMs;
  assert.equal(unreached(fleet), []);
  assert.equal(bob.running.size, 2, 'nobody could tell it');
  fleet.member(bob, { type: 'tick' });
  assert.ok(
    bob.core.attempts.every(({ phase }) => phase === 'stopping'),
    'it stopped by itself',
  );
});

test('one that comes back while the mesh is paused stops what it holds, and is named until then', () => {
  const fleet = new Fleet();
  const bob = fleet.join('bob');
  fleet.submit();
  const running = fleet.running(bob);
  fleet.disconnect(bob);
  fleet.ask({ op: 'mesh.pause' });
  fleet.connect(bob);
  assert.is(bob.core.attempts[0]?.phase, 'stopping');
  assert.equal(unreached(fleet).length, 1);
  fleet.gone(bob, running);
  assert.equal(unreached(fleet), []);
});

test('what comes in while the mesh is paused is kept, and goes out when it is resumed, also after a restart', () => {
  for (const restarts of [false, true]) {
    const fleet = new Fleet();
    const ada = fleet.join('ada');
    const id = fleet.submit({ checks: [] });
    fleet.holdCollects = [];
    fleet.finish(ada, fleet.running(ada));
    fleet.ask({ op: 'mesh.pause' });
    fleet.collected(fleet.holdCollects[0]!);
    assert.is(fleet.task(id).state, 'executed', 'not delivered');
    assert.equal(status(fleet).queue, { queued: 0, running: 0 }, 'no machine does anything');
    if (restarts) fleet.restart();
    fleet.advance(60_000);
    assert.is(fleet.task(id).state, 'executed');
    fleet.ask({ op: 'mesh.resume' });
    assert.is(fleet.task(id).state, 'delivered');
  }
});

test('a deadline that passes while the mesh is paused lets nothing out, and fails nothing that was verified in time', () => {
  for (const comesIn of ['executed', 'verified', 'refuted'] as const) {
    for (const restarts of [false, true]) {
      const fleet = new Fleet();
      const members = [fleet.join('ada'), fleet.join('bob')];
      const id = fleet.submit({ retries: 0 }, { schedule: { deadlineMs: 30_000 } });
      const finish = (role: 'execute' | 'verify', passed = true): void => {
        const busy = members.find(({ running }) => running.size > 0)!;
        fleet.finish(busy, fleet.running(busy, role), {}, passed);
      };
      if (comesIn !== 'executed') finish('execute');
      fleet.holdCollects = [];
      finish(comesIn === 'executed' ? 'execute' : 'verify', comesIn !== 'refuted');
      fleet.ask({ op: 'mesh.pause' });
      fleet.collected(fleet.holdCollects[0]!);
      const state = comesIn === 'verified' ? 'verified' : 'executed';
      assert.is(fleet.task(id).state, state);
      if (restarts) fleet.restart();
      fleet.advance(40_000);
      if (comesIn !== 'refuted') assert.is(fleet.task(id).state, state, 'kept back');
      fleet.ask({ op: 'mesh.resume' });
      assert.is(fleet.task(id).state, comesIn === 'refuted' ? 'failed' : 'delivered', comesIn);
      assert.is(fleet.task(id).converged?.verified, comesIn === 'verified');
    }
  }
});

test('pause --drain lets what runs finish and gives out nothing more, not even to verifiers, also after a restart', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const [first] = [fleet.submit(), fleet.submit(), fleet.submit()];
  fleet.ask({ op: 'mesh.pause', drain: true });
  const queued = fleet.submit();
  assert.equal([status(fleet).paused, status(fleet).draining], [true, true]);
  assert.match(fleet.why(queued).reasons.join(), /the mesh is draining/);
  assert.is(fleet.ask<{ state: string }>({ op: 'node.get', member: 'ada' }).state, 'draining');
  fleet.restart();
  for (const member of [ada, bob]) fleet.connect(member);
  assert.is(ada.running.size + bob.running.size, 3, 'they go on');
  assert.ok([ada, bob].every(({ core }) => core.attempts.every(({ phase }) => phase === 'running')));
  for (const member of [ada, bob])
    while (member.running.size > 0) fleet.finish(member, fleet.running(member));
  fleet.advance(30_000);
  assert.is(fleet.task(first!).state, 'executed', 'it waits for its verifier');
  assert.is(fleet.task(queued).state, 'queued');
  assert.is(ada.running.size + bob.running.size, 0);
  fleet.ask({ op: 'mesh.resume' });
  assert.is(status(fleet).draining, false);
  assert.is(ada.running.size + bob.running.size, 4);
});

test('a mesh that drains can be stopped at once; one that is stopped is not let run by a drain', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit();
  fleet.ask({ op: 'mesh.pause', drain: true });
  assert.is(ada.core.attempts[0]?.phase, 'running');
  fleet.ask({ op: 'mesh.pause' });
  assert.is(ada.core.attempts[0]?.phase, 'stopping');
  const size = fleet.entries.length;
  fleet.ask({ op: 'mesh.pause', drain: true });
  assert.equal([fleet.entries.length, status(fleet).draining], [size, false]);
});

test('a second pause names who holds what was begun since the first, however long that one waits already', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit();
  fleet.ask({ op: 'mesh.pause' });
  fleet.advance(leaseMs - 1_000);
  fleet.ask({ op: 'mesh.resume' });
  const begun = [...ada.running.values()].at(-1)!;
  assert.is(ada.running.size, 2, 'what is being stopped still takes a slot');
  fleet.disconnect(ada);
  fleet.ask({ op: 'mesh.pause' });
  fleet.now += 2_000;
  assert.is(unreached(fleet)[0]?.[0], 'ada', `it may still run attempt ${begun.attempt}`);
  fleet.now += leaseMs;
  assert.equal(unreached(fleet), []);
});

test('after a drain a result waits as long for its verifier as without one', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ on: 'ada' });
  fleet.disconnect(bob);
  fleet.finish(ada, fleet.running(ada));
  fleet.advance(10_000);
  fleet.ask({ op: 'mesh.pause', drain: true });
  fleet.advance(120_000);
  fleet.ask({ op: 'mesh.resume' });
  fleet.advance(10_000);
  assert.is(fleet.task(id).state, 'executed', 'bob may come yet');
  fleet.connect(bob);
  fleet.finish(bob, fleet.running(bob, 'verify'));
  assert.equal([fleet.task(id).state, fleet.task(id).converged?.verified], ['delivered', true]);
});

test.run();
