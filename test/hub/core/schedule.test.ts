import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Deadlines } from '../../../hub/core/queue/deadlines.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import { CAPACITY, Fleet, type TestMember } from './fleet.ts';

/** A fleet with one member of so many slots. */
function one(slots: number): { fleet: Fleet; m: TestMember } {
  const fleet = new Fleet();
  const m = fleet.join('m1');
  fleet.member(m, { type: 'capacity', capacity: { ...CAPACITY, slots } });
  return { fleet, m };
}

const send = (fleet: Fleet, schedule: Schedule): string => fleet.submit({ checks: [] }, { schedule });
const runningTasks = (m: TestMember): string[] => [...m.running.values()].map(({ task }) => task);
function finish(fleet: Fleet, m: TestMember, id: string): void {
  fleet.finish(m, [...m.running.values()].find(({ task }) => task === id)!);
}

test('a task begins when those it comes after have been delivered, also across a restart', () => {
  const { fleet, m } = one(4);
  const [a, b] = [send(fleet, {}), send(fleet, {})];
  const last = send(fleet, { after: [a, b] });
  assert.equal(runningTasks(m), [a, b]);
  assert.is(fleet.why(last).wait, 'others');
  assert.match(fleet.why(last).reasons[0]!, new RegExp(`comes after task ${a}, which is assigned`));
  finish(fleet, m, a);
  assert.match(fleet.why(last).reasons[0]!, new RegExp(`comes after task ${b}`));
  fleet.restart();
  fleet.connect(m);
  finish(fleet, m, b);
  fleet.advance(20_000);
  assert.is(fleet.task(b).state, 'delivered');
  assert.equal(runningTasks(m), [last]);
});

test('where one of them comes to nothing, so does the whole chain behind it, each with its reason', () => {
  const { fleet } = one(1);
  const first = send(fleet, {});
  const chain = [first];
  for (let at = 0; at < 2_000; at += 1) chain.push(send(fleet, { after: [chain.at(-1)!] }));
  fleet.ask({ op: 'task.stop', task: first });
  for (const [at, id] of chain.slice(1).entries()) {
    const { converged } = fleet.task(id);
    assert.is(converged?.state, 'failed');
    assert.is(converged?.reason, 'refused');
    assert.is(
      converged?.detail,
      `task ${chain[at]}, which it comes after, is ${at === 0 ? 'cancelled' : 'failed'}`,
    );
  }
  assert.is(fleet.core.state.tasks.open.size, 0);
});

test('one of several that comes to nothing ends what comes after it at once, and not when the others have ended and it is forgotten', () => {
  const fleet = new Fleet({}, { endedTasks: 1 });
  const m = fleet.join('m1');
  const [slow, fails, other] = [send(fleet, {}), send(fleet, {}), send(fleet, {})];
  const last = send(fleet, { after: [slow, fails] });
  fleet.ask({ op: 'task.stop', task: fails });
  const ends = fleet.entries.filter(({ type }) => type === 'task.converged').map(({ body }) => body);
  assert.equal(
    ends.map((body) => (body as { task: string }).task),
    [fails, last],
  );
  fleet.ask({ op: 'task.stop', task: other });
  finish(fleet, m, slow);
  assert.not(runningTasks(m).includes(last));
});

test('of a group no more run than it allows, in their order and by their priority', () => {
  const { fleet, m } = one(8);
  const group = { name: 'board', limit: 2 };
  const ids = [1, 2, 3, 4, 5].map(() => send(fleet, { group }));
  const urgent = send(fleet, { group, priority: 90 });
  const free = send(fleet, {});
  assert.equal(runningTasks(m), [ids[0], ids[1], free]);
  assert.match(fleet.why(ids[2]!).reasons[0]!, /2 of its group board have their turn; at most 2/);
  finish(fleet, m, ids[0]!);
  assert.ok(runningTasks(m).includes(urgent));
  fleet.ask({ op: 'task.stop', task: ids[2]! });
  finish(fleet, m, urgent);
  assert.equal(runningTasks(m).sort(), [ids[1], ids[3], free].sort());
});

test('where tasks of one group allow differently many, the least of them holds', () => {
  const { fleet, m } = one(8);
  const loose = send(fleet, { group: { name: 'board', limit: 3 } });
  const strict = send(fleet, { group: { name: 'board', limit: 1 } });
  const other = send(fleet, { group: { name: 'board', limit: 3 } });
  assert.equal(runningTasks(m), [loose], 'the others came after one that wants to be alone');
  finish(fleet, m, loose);
  assert.equal(runningTasks(m), [strict]);
  finish(fleet, m, strict);
  assert.equal(runningTasks(m), [other]);
});

test('after a restart what runs of a group counts before what waits', () => {
  const { fleet, m } = one(8);
  const group = { name: 'board', limit: 1 };
  const [a, b] = [send(fleet, { group }), send(fleet, { group })];
  fleet.restart();
  fleet.connect(m);
  fleet.advance(20_000);
  assert.equal(runningTasks(m), [a]);
  finish(fleet, m, a);
  fleet.advance(1_000);
  assert.equal(runningTasks(m), [b]);
});

test('after a restart what was begun once keeps its turn, and of the others the highest priority has the next', () => {
  const { fleet, m } = one(1);
  const group = { name: 'board', limit: 1 };
  const failed = fleet.submit({ checks: [], retries: 1 }, { schedule: { group } });
  const [late, urgent] = [send(fleet, { group }), send(fleet, { group, priority: 50 })];
  const high = send(fleet, { group, priority: 90 });
  fleet.finish(m, fleet.running(m), { outcome: 'failed', reason: 'task', fault: 'task' });
  assert.is(fleet.task(failed).state, 'queued');
  fleet.restart();
  fleet.connect(m);
  fleet.advance(20_000);
  assert.equal(runningTasks(m), [failed]);
  finish(fleet, m, failed);
  for (const id of [high, late, urgent]) {
    fleet.advance(1_000);
    assert.equal(runningTasks(m), [id]);
    finish(fleet, m, id);
  }
});

test('what nobody has begun in its time fails with timeout; what runs goes on', () => {
  const { fleet, m } = one(1);
  const runs = send(fleet, { queueMs: 5_000 });
  const waits = send(fleet, { queueMs: 5_000 });
  fleet.advance(4_000);
  assert.is(fleet.task(waits).state, 'queued');
  fleet.advance(1_250);
  assert.is(fleet.task(waits).converged?.reason, 'timeout');
  assert.match(fleet.task(waits).converged!.detail!, /no machine had begun it 5s after/);
  assert.equal(runningTasks(m), [runs]);
});

test('what is not done by its deadline fails and is stopped on its machine; what only lacks a verifier goes out unverified', () => {
  const { fleet, m } = one(4);
  const runs = send(fleet, { deadlineMs: 10_000 });
  const done = fleet.submit({}, { schedule: { deadlineMs: 10_000 } });
  const strict = fleet.submit({ requireVerified: true }, { schedule: { deadlineMs: 10_000 } });
  const other = fleet.join('m2');
  fleet.disconnect(other);
  finish(fleet, m, done);
  finish(fleet, m, strict);
  assert.is(fleet.task(done).state, 'executed');
  fleet.advance(11_000);
  assert.is(fleet.task(runs).converged?.reason, 'timeout');
  const end = fleet.task(runs).attempts[0]!.end;
  assert.is(end?.kind === 'ended' && end.fault, 'person', 'it counts against no machine');
  assert.ok(
    m.effects.some((effect) => effect.type === 'stop'),
    'its machine is told to stop',
  );
  assert.is(fleet.task(done).state, 'delivered');
  assert.is(fleet.task(done).converged?.verified, false);
  assert.match(fleet.task(done).converged!.detail!, /unverified: not done 10s after/);
  assert.is(fleet.task(strict).state, 'failed');
});

test('a deadline is counted on over a restart', () => {
  const { fleet, m } = one(1);
  const id = send(fleet, { deadlineMs: 10_000 });
  fleet.advance(6_000);
  fleet.restart();
  fleet.connect(m);
  fleet.advance(3_000);
  assert.is(fleet.task(id).converged, null);
  fleet.advance(2_000);
  assert.is(fleet.task(id).converged?.reason, 'timeout');
});

test('times that were given to tasks which have ended do not pile up', () => {
  const deadlines = new Deadlines();
  const noted = (id: string): TaskRecord =>
    ({ id, schedule: { deadlineMs: 1e9, queueMs: 1e8 } }) as TaskRecord;
  deadlines.add(noted('open'), 0, 0);
  for (let at = 0; at < 10_000; at += 1) {
    deadlines.add(noted(`t${at}`), 0, 0);
    deadlines.end(`t${at}`);
  }
  assert.ok(deadlines.size < 2_000, `${deadlines.size}`);
  assert.is(deadlines.next, 1e8);
  assert.equal(
    deadlines.take(1e9).filter(({ task }) => task === 'open'),
    [
      { task: 'open', what: 'queue' },
      { task: 'open', what: 'deadline' },
    ],
  );
});

test.run();
