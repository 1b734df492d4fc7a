import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { CorePlugin } from '../../../../hub/core/plugin.ts';
import { FairShare } from '../../../../hub/core/queue/fair-share.ts';
import { RunQueue } from '../../../../hub/core/queue/queue.ts';
import type { Actor } from '../../../../ledger/lines/events.ts';
import type { Schedule } from '../../../../protocol/schedule.ts';
import { CAPACITY, Fleet, peerOf, type TestMember } from '../fleet.ts';

const person = (user: string): Actor => ({ kind: 'local', user, claimed: true });
const [ANNA, BERT] = [person('anna'), person('bert')];

function join(fleet: Fleet, name: string, slots: number, labels: Record<string, string> = {}): TestMember {
  const member = fleet.join(name, { labels });
  fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, slots } });
  return member;
}
const send = (fleet: Fleet, schedule: Schedule = {}, by: Actor = ANNA): string =>
  fleet.submit({ checks: [], repository: null }, { schedule }, by);
const tasksOf = (member: TestMember): string[] => [...member.running.values()].map(({ task }) => task);

/** Lets the one that runs on it end, again and again; in which order tasks came. */
function drain(fleet: Fleet, member: TestMember, most: number): string[] {
  const order: string[] = [];
  for (let at = 0; at < most && member.running.size > 0; at += 1) {
    const next = fleet.running(member);
    order.push(next.task);
    fleet.advance(1_000);
    fleet.finish(member, next);
  }
  return order;
}

test('higher priorities go first, and of one priority the first submitted', () => {
  const fleet = new Fleet();
  const ids = [10, 50, 90, 50, 90].map((priority) => send(fleet, { priority }));
  const order = drain(fleet, join(fleet, 'm1', 1), 5);
  assert.equal(
    order,
    [2, 4, 1, 3, 0].map((at) => ids[at]),
  );
});

test('who floods the queue goes by turns with whoever comes later', () => {
  const fleet = new Fleet();
  const flood = new Set(Array.from({ length: 50 }, () => send(fleet)));
  const member = join(fleet, 'm1', 1);
  drain(fleet, member, 10);
  const late = new Set(Array.from({ length: 5 }, () => send(fleet, {}, BERT)));
  assert.ok(fleet.why([...late][4]!).position! < 15, 'and is told so');
  const order = drain(fleet, member, 11);
  assert.is(order.filter((id) => late.has(id)).length, 5, 'all five of the other among the next eleven');
  assert.is(order.filter((id) => flood.has(id)).length, 6);
});

test('shares are of time: who sends long tasks is given fewer of them', () => {
  const share = new FairShare();
  const served = { long: 0, short: 0 };
  const tags = { long: share.tag('long'), short: share.tag('short') };
  let used = 0;
  for (let round = 0; round < 1_000; round += 1) {
    const next = tags.long < tags.short ? 'long' : 'short';
    share.serve(next, tags[next]);
    const ms = next === 'long' ? 9_000 : 1_000;
    share.ran(next, ms);
    tags[next] = share.tag(next);
    served[next] += ms;
    used += ms;
  }
  assert.ok(Math.abs(served.long / used - 0.5) < 0.05, `${served.long / used} of the time`);
});

test('whoever was away gets no more than a share when back', () => {
  const share = new FairShare();
  let tag = share.tag('busy');
  for (let round = 0; round < 100; round += 1) {
    share.serve('busy', tag);
    tag = share.tag('busy');
  }
  assert.ok(tag - share.tag('back') <= 1, 'one turn ahead, not a hundred');
});

test('kept apart, two tasks of one name never run on one machine, nor in one rack', () => {
  for (const [over, most] of [
    [null, 4],
    ['rack', 2],
  ] as const) {
    const fleet = new Fleet();
    const members = [0, 1, 2, 3].map((at) => join(fleet, `m${at}`, 4, { rack: `r${at % 2}` }));
    const ids = Array.from({ length: 6 }, () => send(fleet, { spread: { name: 'db', over, strict: true } }));
    const running = members.map((member) => member.running.size);
    assert.is(
      running.reduce((sum, size) => sum + size),
      most,
    );
    assert.is(Math.max(...running), 1);
    const busy = members.find(({ running }) => running.size === 1)!;
    fleet.finish(busy, fleet.running(busy));
    assert.is(
      ids.filter((id) => fleet.task(id).state === 'queued').length,
      6 - most - 1,
      'one that ends makes room for one',
    );
  }
});

test('spread, they go where the fewest of their name run, and share where there is no other place', () => {
  const fleet = new Fleet();
  const members = [0, 1, 2, 3].map((at) => join(fleet, `m${at}`, 8, { rack: at === 3 ? 'small' : 'large' }));
  for (let at = 0; at < 8; at += 1) send(fleet, { spread: { name: 'web', over: 'rack', strict: false } });
  assert.is(members[3]!.running.size, 4, 'half of them in the rack of one machine');
});

test('what a task needs of the whole machine is asked of executors, and said by why', () => {
  const fleet = new Fleet();
  const small = join(fleet, 'small', 2);
  const id = send(fleet, { needs: { cpus: 8, memoryBytes: 2 ** 34, diskBytes: 2 ** 37 } });
  const said = (): string => fleet.why(id).members.find(({ name }) => name === 'small')!.why;
  assert.is(said(), 'has 4 processors, not 8');
  const more = { ...CAPACITY, cpus: 8 };
  fleet.member(small, { type: 'capacity', capacity: more });
  assert.is(said(), 'has 8.0 GiB of memory, not 16.0 GiB');
  fleet.member(small, { type: 'capacity', capacity: { ...more, memoryBytes: 2 ** 35 } });
  assert.is(said(), 'has 64.0 GiB of disk free, not 128.0 GiB');
  fleet.member(small, {
    type: 'capacity',
    capacity: { ...more, memoryBytes: 2 ** 35, diskFreeBytes: 2 ** 38 },
  });
  assert.equal(tasksOf(small), [id]);
});

test('an urgent task is given the place of one of much lower priority, which goes on later and lost nothing', () => {
  const fleet = new Fleet();
  const member = join(fleet, 'm1', 1);
  const low = send(fleet, { priority: 10 });
  const near = send(fleet, { priority: 55 });
  assert.equal(tasksOf(member), [low]);
  const end = fleet.task(low).attempts[0]!.end;
  assert.is(end?.kind === 'ended' && end.fault, 'person', 'its place was given to the other');
  fleet.gone(member, [...member.running.values()][0]!);
  assert.equal(tasksOf(member), [near]);
  const equal = send(fleet, { priority: 60 });
  assert.equal(tasksOf(member), [near], 'a little higher takes nobody’s place');
  drain(fleet, member, 3);
  for (const id of [low, near, equal]) assert.is(fleet.task(id).state, 'delivered');
  assert.is(fleet.task(low).retriesUsed, 0);
  assert.equal(fleet.task(low).avoid, []);
});

test('an urgent task that no place would help takes none, and keeps no other from taking one', () => {
  for (const stuck of ['held', 'spread', 'offline'] as const) {
    let holds = false;
    const hold: CorePlugin['hold'] = (_view, { schedule }) =>
      holds && schedule?.priority === 90 ? 'has spent its day' : null;
    const fleet = new Fleet({ plugins: [{ name: 'tester', version: 1, events: [], hold }] });
    fleet.disconnect(join(fleet, 'away', 1));
    const member = join(fleet, 'm1', 2);
    const high: Schedule = { priority: 90 };
    if (stuck === 'spread') high.spread = { name: 'db', over: null, strict: true };
    const first = send(fleet, high);
    const low = send(fleet, { priority: 10 });
    assert.equal(tasksOf(member), [first, low]);
    holds = stuck === 'held';
    const on = stuck === 'offline' ? 'away' : null;
    const waits = fleet.submit({ checks: [], repository: null, on }, { schedule: high });
    fleet.advance(2_000);
    assert.is(fleet.task(waits).state, 'queued', stuck);
    assert.is(fleet.task(low).attempts[0]!.end, null, `${stuck}: nobody gave a place for it`);
    const other = send(fleet, { priority: 80, needs: { cpus: 2 } });
    assert.is.not(fleet.task(low).attempts[0]!.end, null, `${stuck}: one did for the other`);
    fleet.gone(member, [...member.running.values()].find(({ task }) => task === low)!);
    assert.equal(tasksOf(member), [first, other], stuck);
  }
});

test('places of tasks that were stopped do not pile up behind one that waits', () => {
  const watch = { made: () => {}, gone: () => {}, stirred: () => {} };
  const queue = new RunQueue(watch);
  const fleet = new Fleet();
  const [first, ...rest] = Array.from({ length: 40 }, (_, at) =>
    send(fleet, {}, at % 3 === 1 ? BERT : ANNA),
  ).map((id) => fleet.task(id));
  const now = { notBefore: 0, sameMemberAt: 0, anyMemberAt: 0 };
  queue.add(first!, now, 0);
  for (let round = 0; round < 200; round += 1) {
    for (const task of rest) queue.add({ ...task, number: task.number + round }, now, 0);
    for (const task of rest) queue.remove(task.id);
  }
  assert.ok(queue.places < 1_000, `${queue.places} places of one task`);
  const [bucket] = queue.buckets.values();
  assert.is(queue.head(bucket!)?.queued.id, first!.id);
  queue.add(rest[0]!, now, 0);
  queue.serve(first!.id);
  assert.is(queue.head(bucket!)?.queued.id, rest[0]!.id);
});

test('a task for one machine by its name goes to the one that is given that name', () => {
  const fleet = new Fleet();
  const old = join(fleet, 'old', 1);
  send(fleet);
  const idle = join(fleet, 'idle', 1);
  const id = fleet.submit({ checks: [], repository: null, on: 'old' });
  assert.is(fleet.task(id).state, 'queued');
  fleet.ask({ op: 'member.rename', member: 'old', name: 'older' });
  fleet.ask({ op: 'member.rename', member: 'idle', name: 'old' });
  assert.equal([old.running.size, tasksOf(idle)], [1, [id]]);
});

test('whoever asks for something else with each task gets no more for it', () => {
  const fleet = new Fleet();
  const member = join(fleet, 'm1', 1);
  const first = send(fleet);
  const mine = [1, 2, 3, 4, 5, 6].map((at) => send(fleet, { needs: { memoryBytes: at } }, BERT));
  const theirs = [1, 2, 3].map(() => send(fleet, {}, person('carl')));
  const order = drain(fleet, member, 7).filter((id) => id !== first);
  assert.is(order.filter((id) => mine.includes(id)).length, 3, order.join());
  assert.is(order.filter((id) => theirs.includes(id)).length, 3);
});

test('what must not share a place does not after a restart either, where machines name their places themselves', () => {
  const fleet = new Fleet();
  const capacity = { ...CAPACITY, slots: 4, labels: { zone: 'cellar' } };
  const [a, b] = [fleet.join('a'), fleet.join('b')];
  for (const member of [a, b]) fleet.member(member, { type: 'capacity', capacity });
  const spread = { name: 'db', over: 'zone', strict: true };
  send(fleet, { spread });
  const second = send(fleet, { spread });
  const [busy, other] = a.running.size === 1 ? [a, b] : [b, a];
  assert.equal([busy.running.size, other.running.size], [1, 0]);
  fleet.restart();
  fleet.connect(other);
  fleet.advance(1_000);
  assert.is(other.running.size, 0, 'where the first runs is not known yet');
  fleet.connect(busy);
  fleet.advance(1_000);
  assert.equal([busy.running.size, other.running.size], [1, 0]);
  fleet.finish(busy, fleet.running(busy));
  assert.is(fleet.task(second).state, 'assigned');
});

test('nothing of default priority takes anybody’s place', () => {
  const fleet = new Fleet();
  const member = join(fleet, 'm1', 1);
  const low = send(fleet, { priority: 0 });
  send(fleet, { priority: 50 });
  assert.equal(tasksOf(member), [low]);
  assert.is(fleet.task(low).attempts[0]!.end, null);
});

test('the index says what a look at every member would: nothing waits that could run (500 worlds)', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('submit' as const),
      need: fc.integer({ min: 0, max: 5 }),
      by: fc.integer({ min: 0, max: 2 }),
    }),
    fc.record({
      kind: fc.constant('slots' as const),
      at: fc.integer({ min: 0, max: 3 }),
      slots: fc.integer({ min: 0, max: 2 }),
    }),
    fc.record({
      kind: fc.constant('tools' as const),
      at: fc.integer({ min: 0, max: 3 }),
      tool: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('finish' as const), at: fc.integer({ min: 0, max: 3 }) }),
    fc.record({ kind: fc.constant('away' as const), at: fc.integer({ min: 0, max: 3 }) }),
    fc.record({
      kind: fc.constant('drain' as const),
      at: fc.integer({ min: 0, max: 3 }),
      eligible: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant('pause' as const),
      at: fc.integer({ min: 0, max: 3 }),
      paused: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('advance' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
      const fleet = new Fleet();
      const capacities = [0, 1, 2, 3].map(() => ({ ...CAPACITY, slots: 1 }));
      const members = [0, 1, 2, 3].map((at) =>
        fleet.join(`m${at}`, { labels: at % 2 === 0 ? { rack: 'even' } : {} }),
      );
      const tell = (at: number, change: Partial<typeof CAPACITY>): void => {
        capacities[at] = { ...capacities[at]!, ...change };
        if (members[at]!.session === null) fleet.connect(members[at]!);
        fleet.member(members[at]!, { type: 'capacity', capacity: capacities[at]! });
      };
      for (const at of [0, 1, 2, 3]) tell(at, {});
      const needs = [
        {},
        { labels: { rack: 'even' } },
        { tools: { node: '>=20' } },
        { on: 'm1' },
        { labels: { rack: 'even' }, tools: { node: '*' } },
        { on: peerOf('m2') },
      ];
      for (const one of steps) {
        if (one.kind === 'submit') {
          fleet.submit({ checks: [], repository: null, ...needs[one.need] }, {}, person(`p${one.by}`));
        } else if (one.kind === 'slots') tell(one.at, { slots: one.slots });
        else if (one.kind === 'tools') tell(one.at, { tools: one.tool ? { node: 'v22.1.0' } : {} });
        else if (one.kind === 'pause') tell(one.at, { ownerPaused: one.paused });
        else if (one.kind === 'away') {
          if (members[one.at]!.session === null) fleet.connect(members[one.at]!);
          else fleet.disconnect(members[one.at]!);
        } else if (one.kind === 'drain') {
          fleet.ask({ op: 'member.eligible', member: `m${one.at}`, eligible: one.eligible });
        } else if (one.kind === 'advance') fleet.advance(1_000);
        else {
          const running = [...members[one.at]!.running.values()][0];
          if (running !== undefined && members[one.at]!.session !== null)
            fleet.finish(members[one.at]!, running);
        }
        for (const id of fleet.core.state.tasks.open) {
          if (fleet.task(id).state !== 'queued') continue;
          // `why` asks each member itself, not the index.
          const { wait, members: lines } = fleet.why(id);
          const could = lines.filter(({ why }) => why === 'can take it').map(({ name }) => name);
          assert.ok(
            wait !== 'turn' || could.length === 0,
            `${id} waits for ${wait}, and ${could} could take it`,
          );
        }
      }
    }),
    { numRuns: 500 },
  );
});

test.run();
