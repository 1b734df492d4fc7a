import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet, HELLO } from './fleet.ts';

/** A fleet of two in which `holder` runs the one task. */
function holding() {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit();
  const [holder, other] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  const assignment = fleet.running(holder);
  fleet.start(holder, assignment);
  return { fleet, id, holder, other, assignment };
}

test('a task of a member whose connection closes runs on another within 3 s, and costs no retry (promise 16)', () => {
  const { fleet, id, holder, other } = holding();
  fleet.disconnect(holder);
  fleet.advance(1_750);
  assert.is(other.running.size, 0, 'the grace is kept');
  fleet.advance(1_250);
  assert.is(fleet.running(other).task, id);
  assert.is(fleet.task(id).retriesUsed, 0);
  assert.is(fleet.task(id).machineFaults, 1);
});

test('a member that comes back within its grace goes on with what it holds', () => {
  const { fleet, id, holder, other, assignment } = holding();
  fleet.disconnect(holder);
  fleet.advance(1_500);
  fleet.connect(holder);
  fleet.advance(20_000);
  assert.is(other.running.size, 0);
  fleet.finish(holder, assignment);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('a member that comes back without what it held has lost it, at once', () => {
  const { fleet, id, holder, other } = holding();
  fleet.disconnect(holder);
  const hello = { ...HELLO, held: [], ready: [] };
  fleet.founder({ type: 'connected', peer: holder.peer, session: 99, hello });
  assert.is(fleet.running(other).task, id);
});

test('a silent member with its connection open loses its lease after 15 s, and the work goes elsewhere', () => {
  const { fleet, id, other } = holding();
  const silent = (ms: number): void => {
    for (let passed = 0; passed < ms; passed += 250) {
      fleet.now += 250;
      // Only the other member is heard.
      fleet.member(other, { type: 'tick' });
      fleet.founder({ type: 'tick' });
    }
  };
  silent(14_500);
  assert.is(fleet.task(id).state, 'running');
  silent(750);
  assert.is(fleet.running(other).task, id);
});

test('more work does not renew the leases of a member that is not heard', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const first = fleet.submit();
  for (let passed = 0; passed < 16_000; passed += 250) {
    fleet.now += 250;
    if (passed === 6_000) fleet.submit();
    fleet.founder({ type: 'tick' });
  }
  assert.is(fleet.task(first).state, 'queued');
  assert.is(ada.session, null);
});

test('a late result is kept as evidence, settled as not accepted, and changes nothing (promise 10)', () => {
  const { fleet, id, holder, other, assignment } = holding();
  fleet.disconnect(holder);
  fleet.advance(2_250);
  fleet.finish(holder, assignment);
  fleet.connect(holder);
  assert.is(fleet.task(id).state, 'assigned');
  const evidence = fleet.entries.filter((entry) => entry.type === 'task.evidence');
  assert.is(evidence.length, 1);
  assert.equal(holder.core.attempts, [], 'the member may forget it');
  fleet.finish(other, fleet.running(other));
  assert.is(fleet.task(id).accepted?.member, other.peer);
  assert.is(fleet.task(id).accepted?.attempt, 2);
});

test('after a restart of the founder, what a member reports goes on and what it does not know is stopped (promise 16)', () => {
  const { fleet, id, holder, assignment } = holding();
  fleet.restart();
  fleet.connect(holder);
  assert.is(holder.core.attempts[0]?.phase, 'running');
  fleet.finish(holder, assignment);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('after a restart, an attempt nobody reports waits one lease and is then lost', () => {
  const { fleet, id, other } = holding();
  fleet.restart();
  fleet.connect(other);
  fleet.advance(14_500);
  assert.is(fleet.task(id).state, 'running');
  fleet.advance(750);
  assert.is(fleet.running(other).task, id);
});

test('a founder that lost the entry of an assignment has its member stop the attempt', () => {
  const { fleet, holder } = holding();
  const assigned = fleet.entries.findIndex((entry) => entry.type === 'attempt.assigned');
  fleet.restart(assigned);
  fleet.connect(holder);
  assert.is(holder.core.attempts[0]?.phase, 'stopping');
});

test('a result that was ready when the founder died is accepted when it is back', () => {
  const { fleet, id, holder, assignment } = holding();
  fleet.holdCollects = [];
  fleet.finish(holder, assignment);
  fleet.restart();
  fleet.holdCollects = null;
  assert.is(fleet.task(id).state, 'running');
  fleet.connect(holder);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('a result settled twice is accepted once', () => {
  const { fleet, id, holder, assignment } = holding();
  const result = fleet.finish(holder, assignment);
  const size = fleet.entries.length;
  fleet.founder({
    type: 'received',
    peer: holder.peer,
    session: holder.session!,
    message: { type: 'result', result },
  });
  assert.is(fleet.entries.length, size);
  assert.is(fleet.task(id).attempts.filter((attempt) => attempt.end?.kind === 'executed').length, 1);
});

test('a task that machines keep losing is given up as lost, with the reason (promise 16)', () => {
  const fleet = new Fleet({ config: { machineFaultsMax: 3 } });
  const ada = fleet.join('ada');
  const id = fleet.submit();
  for (let round = 0; round < 3; round += 1) {
    while (ada.running.size === 0) fleet.advance(250);
    fleet.gone(ada, fleet.running(ada));
  }
  assert.is(fleet.task(id).state, 'failed');
  assert.is(fleet.task(id).converged?.reason, 'lost');
  assert.match(fleet.task(id).converged?.detail ?? '', /3 faults of machines/);
});

test('a founder that slept gives its members the time back', () => {
  const { fleet, id } = holding();
  fleet.now += 60_000;
  fleet.founder({ type: 'tick' });
  assert.is(fleet.task(id).state, 'running');
});

test('so does one that is woken by a message before its clock ticks', () => {
  const { fleet, id } = holding();
  fleet.now += 60_000;
  fleet.founder({ type: 'secrets', values: new Map() });
  fleet.founder({ type: 'tick' });
  assert.is(fleet.task(id).state, 'running');
});

test.run();
