import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { classFailuresMax, failures } from '../../../hub/plugins/failures.ts';
import { type Failures, patternsMax } from '../../../ledger/state/failures.ts';
import { initialState, loadState, replay, saveState } from '../../../ledger/state/state.ts';
import type { FailuresObject, StatusObject } from '../../../node/api/objects.ts';
import type { AttemptResult } from '../../../protocol/session.ts';
import { Fleet, type TestMember } from '../core/fleet.ts';

const fleetOf = (): Fleet => new Fleet({ plugins: [failures] });
const shown = (fleet: Fleet): FailuresObject =>
  fleet.ask<FailuresObject>({ op: 'plugin.read', plugin: 'failures', verb: 'list', body: null });
const thaw = (fleet: Fleet, id: string): FailuresObject =>
  fleet.ask<FailuresObject>({ op: 'plugin.write', plugin: 'failures', verb: 'thaw', body: { class: id } });
const own = (fleet: Fleet): Failures => fleet.core.state.plugins.get('failures') as Failures;

const failed = (detail: string, change: Partial<AttemptResult> = {}): Partial<AttemptResult> => ({
  outcome: 'failed',
  reason: 'task',
  fault: 'task',
  detail,
  exitCode: 1,
  commit: null,
  bundle: null,
  ...change,
});

/** A task of this program that is executed and fails so. */
function fails(fleet: Fleet, member: TestMember, argv: string[], detail = 'it ended with 1'): string {
  const id = fleet.submit({ argv, checks: [], retries: 0, on: member.name });
  fleet.finish(member, fleet.running(member), failed(detail));
  return id;
}

test('failures that differ only in numbers, ids, paths and the machine are one pattern, with who and when', () => {
  const fleet = fleetOf();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const first = fails(fleet, ada, ['make', 'a'], 'ada: /w/1/a.c:3: error 17');
  fleet.advance(5_000);
  const second = fails(fleet, bob, ['make', 'b'], 'bob: /w/22/b.c:14: error 3');
  fails(fleet, bob, ['cargo', 'b'], 'bob: /w/22/b.c:14: error 3');
  const { items } = shown(fleet);
  assert.is(items.length, 2);
  assert.is(items[0]!.word, 'cargo', 'last seen first');
  const { count, first: from, last, members, tasks, text, reason, fault } = items[1]!;
  assert.equal([count, reason, fault, text], [2, 'task', 'task', 'NODE: PATH:N: error N']);
  assert.equal(tasks, [first, second]);
  assert.equal(
    members.map(({ name }) => name),
    ['ada', 'bob'],
  );
  assert.is(last - from, 5_000);
});

test('faults of machines are patterns too; what a person stopped is none', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  fleet.submit({ checks: [] });
  fleet.finish(
    ada,
    fleet.running(ada),
    failed('no room', { fault: 'machine', reason: 'refused', envelope: null }),
  );
  fleet.advance(2_000);
  fleet.ask({ op: 'mesh.pause' });
  assert.equal(
    shown(fleet).items.map(({ reason, fault, count }) => [reason, fault, count]),
    [['refused', 'machine', 1]],
  );
});

test('a class that failed again and again is frozen: new tasks wait and hold up no others, until a person thaws it', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  for (let count = 1; count < classFailuresMax; count += 1) fails(fleet, ada, ['make']);
  assert.equal(shown(fleet).frozen, []);
  // Queued before the last of them fails, and waiting in line when it does.
  const slots = [
    fleet.submit({ checks: [], argv: ['make'], retries: 0 }),
    fleet.submit({ checks: [], argv: ['sleep'] }),
  ];
  const queued = fleet.submit({ argv: ['make', 'x'], checks: [] });
  const last = [...ada.running.values()].find(({ task }) => task === slots[0])!;
  fleet.finish(ada, last, failed('it ended with 2'));
  const [frozen] = shown(fleet).frozen;
  assert.equal(
    [frozen!.kind, frozen!.word, frozen!.repository, frozen!.failures],
    ['command', 'make', 'app', 20],
  );
  const after = fleet.submit({ argv: ['make', 'y'], checks: [] });
  const other = fleet.submit({ argv: ['cargo'], checks: [] });
  assert.is(fleet.task(queued).state, 'queued');
  assert.is(fleet.task(after).state, 'queued');
  assert.is(fleet.task(other).state, 'assigned', 'of another class');
  const why = fleet.why(after);
  assert.is(why.wait, 'held');
  assert.match(
    why.reasons.join(),
    /its class is frozen, command “make” on app: 20 tasks .* mesh-hub failures thaw [0-9a-f]{10}/,
  );
  const status = fleet.ask<StatusObject>({ op: 'status' });
  assert.ok(status.needs.some(({ command }) => command === `mesh-hub failures thaw ${frozen!.id}`));
  assert.is(status.waits.held, 2);
  assert.is(status.queue.queued, 2);
  fleet.restart();
  fleet.connect(ada);
  fleet.advance(1_000);
  assert.is(fleet.task(after).state, 'queued', 'a restart changes nothing');
  assert.is(
    fleet.refusal({ op: 'plugin.write', plugin: 'failures', verb: 'thaw', body: { class: '0'.repeat(10) } }),
    'SF_NOT_FOUND',
  );
  for (const one of [...ada.running.values()]) fleet.finish(ada, one);
  assert.equal(thaw(fleet, frozen!.id).frozen, []);
  assert.equal([fleet.task(queued).state, fleet.task(after).state], ['assigned', 'assigned']);
});

test('a frozen task can be stopped, and one success between keeps a class from being frozen', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  for (let count = 1; count < classFailuresMax; count += 1) fails(fleet, ada, ['make']);
  fleet.submit({ argv: ['make'], checks: [] });
  fleet.finish(ada, fleet.running(ada));
  for (let count = 1; count < classFailuresMax; count += 1) fails(fleet, ada, ['make']);
  assert.equal(shown(fleet).frozen, []);
  fails(fleet, ada, ['make']);
  const waits = fleet.submit({ argv: ['make'], checks: [] });
  assert.is(fleet.task(waits).state, 'queued');
  fleet.ask({ op: 'task.stop', task: waits });
  assert.is(fleet.task(waits).state, 'cancelled');
  assert.is(fleet.ask<StatusObject>({ op: 'status' }).queue.queued, 0);
});

test('faults of machines freeze nothing', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  for (let count = 0; count < 2 * classFailuresMax; count += 1) {
    fleet.submit({ argv: ['make'], checks: [], on: 'ada' });
    fleet.finish(ada, fleet.running(ada), failed('no make', { fault: 'machine', reason: 'environment' }));
  }
  assert.equal(shown(fleet).frozen, []);
  assert.is(shown(fleet).items[0]!.count, 2 * classFailuresMax);
});

test('thawed, a class is frozen anew only by as many failures again', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  for (let round = 0; round < 3; round += 1) {
    for (let count = 0; count < classFailuresMax; count += 1) {
      assert.equal(shown(fleet).frozen, [], `${round} ${count}`);
      fails(fleet, ada, ['make']);
    }
    thaw(fleet, shown(fleet).frozen[0]!.id);
  }
});

test('whoever may not read others’ work sees no failures, and thaws nothing', () => {
  const fleet = fleetOf();
  const by = { kind: 'peer', peer: fleet.join('eve', { roles: ['submitter'] }).peer } as const;
  const read = { op: 'plugin.read', plugin: 'failures', verb: 'list', body: null } as const;
  assert.is(fleet.refusal(read, by), 'SF_REFUSED');
  const body = { class: '0'.repeat(10) };
  assert.is(fleet.refusal({ op: 'plugin.write', plugin: 'failures', verb: 'thaw', body }, by), 'SF_REFUSED');
});

test('seeds: what is kept is bounded, and a replay from any point gives the same', () => {
  for (let seed = 1; seed <= 3; seed += 1) {
    const fleet = fleetOf();
    const members = ['ada', 'bob', 'cyd'].map((name) => fleet.join(name));
    let state = seed;
    const below = (most: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * most);
    };
    const letters = (): string => String.fromCharCode(...Array.from({ length: 6 }, () => 97 + below(26)));
    for (let step = 0; step < 150 * seed; step += 1) {
      const member = members[below(3)]!;
      for (const { id } of shown(fleet).frozen) thaw(fleet, id);
      if (below(4) === 0) {
        fleet.submit({ argv: [letters()], checks: [], on: member.name });
        fleet.finish(member, fleet.running(member));
      } else fails(fleet, member, [below(3) === 0 ? 'make' : letters()], `${letters()} ${step}`);
    }
    assert.ok(own(fleet).patterns.size <= patternsMax);
    assert.is(shown(fleet).items.length, own(fleet).patterns.size);
    const at = below(fleet.entries.length);
    const before = replay(structuredClone(fleet.entries.slice(0, at)), initialState());
    const saved = JSON.parse(JSON.stringify(saveState(before)));
    const after = replay(structuredClone(fleet.entries.slice(at)), loadState(saved)!);
    assert.equal(saveState(after).failures, saveState(fleet.core.state).failures, `seed ${seed}`);
  }
});

test('a frozen task has no place in its group: others of the group, of other classes, go on', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  for (let count = 1; count < classFailuresMax; count += 1) fails(fleet, ada, ['make']);
  const group = { name: 'board', limit: 1 };
  const last = fleet.submit({ argv: ['make'], checks: [], retries: 0 });
  const busy = fleet.submit({ argv: ['sleep'], checks: [] });
  const make = { argv: ['make'], checks: [] };
  // The first has the group's place, and waits for a slot.
  const frozen = [fleet.submit(make, { schedule: { group } }), fleet.submit(make, { schedule: { group } })];
  const other = fleet.submit({ argv: ['cargo'], checks: [] }, { schedule: { group } });
  const of = (id: string) => [...ada.running.values()].find(({ task }) => task === id)!;
  fleet.finish(ada, of(last), failed('it ended with 2'));
  fleet.advance(5_000);
  assert.is(fleet.task(other).state, 'assigned');
  fleet.finish(ada, of(busy));
  fleet.advance(5_000);
  thaw(fleet, shown(fleet).frozen[0]!.id);
  fleet.advance(5_000);
  const states = (): string[] => frozen.map((id) => fleet.task(id).state);
  assert.equal(states(), ['queued', 'queued'], 'its place is taken meanwhile');
  fleet.finish(ada, of(other));
  fleet.advance(1_000);
  assert.equal(states(), ['assigned', 'queued']);
});

test.run();
