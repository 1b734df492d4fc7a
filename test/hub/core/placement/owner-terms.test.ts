import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../../../hub/core/answers/why-answer.ts';
import type { Capacity } from '../../../../protocol/session.ts';
import { CAPACITY, Fleet, peerOf, type TestMember } from '../fleet.ts';

const MIN = 60_000;
/** The only worker of a mesh, with what its owner accepts. */
function mesh(offer: Partial<Capacity>): {
  fleet: Fleet;
  ada: TestMember;
  offers(next: Partial<Capacity>): void;
} {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const offers = (next: Partial<Capacity>): void =>
    fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, ...next } });
  offers(offer);
  return { fleet, ada, offers };
}
const whyOf = (fleet: Fleet, task: string): string =>
  fleet.ask<Why>({ op: 'task.why', task }).members.find(({ id }) => id === peerOf('ada'))?.why ?? '';

test('a machine is given only the kinds that its owner accepts, and why names them', () => {
  const { fleet, ada, offers } = mesh({ accepts: { kinds: ['code'] } });
  const id = fleet.submit({ checks: [] });
  assert.is(fleet.task(id).state, 'queued');
  assert.match(whyOf(fleet, id), /accepts no task of kind command \(its owner’s policy: code\)/);
  offers({});
  assert.is(fleet.running(ada).task, id);
});

test('by their names only members and accounts that the owner accepts are served; the machine is told whose task it is', () => {
  const { fleet, ada, offers } = mesh({ accepts: { submitters: ['bo'] } });
  const id = fleet.submit({ checks: [] });
  assert.match(whyOf(fleet, id), /accepts no task of olga/);
  offers({ accepts: { submitters: ['bo', 'olga'] } });
  assert.is(fleet.running(ada).task, id);
  assert.is(fleet.running(ada).sender, 'olga');
  const { fleet: other, ada: plain } = mesh({});
  other.submit({ checks: [] });
  assert.is(other.running(plain).sender, undefined, 'nobody else hears a name');
});

test('a submitter that is given a name which an owner accepts is served there at once', () => {
  const { fleet, ada } = mesh({ accepts: { submitters: ['bo'] } });
  const bob = fleet.join('bob', { roles: ['submitter'] });
  const id = fleet.submit({ checks: [], repository: null }, {}, { kind: 'peer', peer: bob.peer });
  fleet.advance(1_000);
  assert.is(fleet.task(id).state, 'queued');
  fleet.ask({ op: 'member.rename', member: 'bob', name: 'bo' });
  fleet.advance(1_000);
  assert.is(fleet.running(ada).task, id);
});

test('work that cannot end before the hours of a machine do is not begun there; shorter work is', () => {
  const { fleet, ada } = mesh({ worksUntil: 1_700_000_000_000 + 20 * MIN });
  const long = fleet.submit({ checks: [] });
  const short = fleet.submit({ checks: [], timeoutMs: 10 * MIN });
  assert.is(fleet.running(ada).task, short);
  assert.is(fleet.task(long).state, 'queued');
  assert.match(whyOf(fleet, long), /works for 20 min more, and the time-outs of the task add up to 30 min/);
});

test('a machine refuses what its owner does not accept, whatever its founder knows', () => {
  const { fleet, ada } = mesh({ accepts: { kinds: ['code'] } });
  const id = fleet.submit({ checks: [] });
  // As a founder of an older release takes it: a machine that says nothing about what it accepts.
  fleet.founder({
    type: 'received',
    peer: ada.peer,
    session: ada.session!,
    message: { type: 'capacity', capacity: CAPACITY },
  });
  const [attempt] = fleet.task(id).attempts;
  assert.is(attempt?.end?.kind === 'ended' ? attempt.end.reason : null, 'refused');
  assert.is(ada.running.size, 0);
});

test('a suspended attempt keeps its lease and says so; that time is not its own; evicted it costs nobody anything', () => {
  const { fleet, ada } = mesh({});
  const id = fleet.submit({ checks: [], timeoutMs: 2 * MIN });
  const assignment = fleet.running(ada);
  fleet.start(ada, assignment);
  const policy = (bar: string | null): void => fleet.member(ada, { type: 'policy', bar, brief: true });
  const words = (): string => fleet.ask<Why>({ op: 'task.why', task: id }).reasons.join();
  // Away for 50 s and back for 10 s, again and again: 150 s of work in 15 min.
  for (let minute = 0; minute < 15; minute += 1) {
    policy('is in use by its owner (policy idle)');
    fleet.advance(50_000);
    assert.match(words(), /ada: suspended, because the machine’s owner is there/);
    policy(null);
    fleet.advance(10_000);
    assert.is(fleet.task(id).state, 'running');
    assert.not.match(words(), /suspended/);
  }
  const { retriesUsed } = fleet.task(id);
  policy('is in use by its owner (policy idle)');
  fleet.advance(61_000);
  const lease = { task: id, attempt: assignment.attempt, epoch: assignment.epoch };
  fleet.gone(ada, lease);
  const end = fleet.task(id).attempts.at(-1)?.end;
  assert.is(end?.kind === 'ended' ? end.fault : null, 'person');
  assert.is(fleet.task(id).state, 'queued');
  assert.is(fleet.task(id).retriesUsed, retriesUsed);
  policy(null);
  fleet.advance(5_000);
  assert.is(fleet.task(id).state, 'assigned', 'and the machine is given it again');
});

test('what goes on while its member was not heard is not called suspended when it is back', () => {
  const { fleet, ada } = mesh({});
  const id = fleet.submit({ checks: [] });
  fleet.start(ada, fleet.running(ada));
  const words = (): string => fleet.why(id).reasons.join();
  fleet.member(ada, { type: 'policy', bar: 'is in use by its owner (policy idle)', brief: true });
  fleet.disconnect(ada);
  fleet.connect(ada);
  assert.match(words(), /suspended/, 'it says so again');
  fleet.disconnect(ada);
  fleet.member(ada, { type: 'policy', bar: null, brief: true });
  fleet.connect(ada);
  assert.is(fleet.task(id).state, 'running');
  assert.not.match(words(), /suspended/);
});

test.run();
