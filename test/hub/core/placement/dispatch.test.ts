import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LiveMember } from '../../../../hub/core/members/live-member.ts';
import { score } from '../../../../hub/core/placement/fit.ts';
import { Heap } from '../../../../hub/core/queue/heap.ts';
import { CAPACITY, Fleet, peerOf } from '../fleet.ts';

const whyOf = (fleet: Fleet, id: string, name: string): string =>
  fleet.why(id).members.find((member) => member.name === name)?.why ?? 'not named';

test('labels of the task are those of the member, its own or given with the invite', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ labels: { gpu: 'yes' } });
  assert.is(ada.running.size, 0);
  assert.is(whyOf(fleet, id, 'ada'), 'has no label gpu');
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, labels: { gpu: 'no' } } });
  assert.is(whyOf(fleet, id, 'ada'), 'has gpu=no, not yes');
  const bob = fleet.join('bob', { labels: { gpu: 'yes' } });
  assert.is(fleet.running(bob).task, id);
});

test('a task for one member waits for it, and others go on past it', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  fleet.disconnect(ada);
  const waiting = fleet.submit({ on: 'ada' });
  const other = fleet.submit();
  assert.is(fleet.running(bob).task, other);
  assert.is(whyOf(fleet, waiting, 'bob'), 'is not ada');
  assert.is(whyOf(fleet, waiting, 'ada'), 'is offline');
  fleet.connect(ada);
  assert.is(fleet.running(ada).task, waiting);
});

test('first submitted, first given out; one that comes back goes before later ones', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, slots: 1 } });
  const [one, two, three] = [fleet.submit(), fleet.submit(), fleet.submit()];
  assert.is(fleet.running(ada).task, one);
  assert.is(fleet.why(three).position, 1);
  fleet.gone(ada, fleet.running(ada));
  fleet.advance(500);
  const order: string[] = [];
  for (let round = 0; round < 3; round += 1) {
    const next = fleet.running(ada);
    order.push(next.task);
    fleet.finish(ada, next);
  }
  assert.ok(order.indexOf(two) < order.indexOf(three));
});

test('work is spread over the members, the less loaded first', () => {
  const fleet = new Fleet();
  const members = ['ada', 'bob', 'eve'].map((name) => fleet.join(name));
  for (let task = 0; task < 3; task += 1) fleet.submit();
  assert.equal(
    members.map((member) => member.running.size),
    [1, 1, 1],
  );
});

test('where another machine is as good, that of the founder is spared', () => {
  const idle = (peer: string, leases = 0): LiveMember =>
    ({
      peer,
      capacity: { ...CAPACITY, slots: 2 },
      leases: new Set(Array.from({ length: leases }, String)),
      stopping: new Map(),
      repositories: [],
      backOff: null,
    }) as unknown as LiveMember;
  const founder = peerOf('founder');
  assert.ok(score(idle(peerOf('ada')), null, founder) < score(idle(founder), null, founder));
  assert.ok(
    score(idle(founder), null, founder) < score(idle(peerOf('ada'), 1), null, founder),
    'a busy one is not',
  );
});

test('slots of a member and of the ring are never exceeded, and why says so', () => {
  const fleet = new Fleet({ config: { ringSlots: 3 } });
  const members = [fleet.join('ada'), fleet.join('bob')];
  for (let task = 0; task < 10; task += 1) fleet.submit();
  assert.is(
    members.reduce((sum, member) => sum + member.running.size, 0),
    3,
  );
  assert.match(
    fleet.why(fleet.submit()).reasons.join(),
    /3 attempts run, and the mesh may run 3 now \(ring 3, elastic 64\)/,
  );
});

test('a task whose secret is not set waits and holds up no other; set, it goes', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ secrets: ['TOKEN'] });
  const other = fleet.submit();
  assert.is(fleet.running(ada).task, other);
  assert.match(fleet.why(id).reasons.join(), /secret TOKEN is not set/);
  fleet.founder({
    type: 'secrets',
    values: new Map([
      ['TOKEN', 'hush'],
      ['OTHER', 'x'],
    ]),
  });
  const assigned = [...ada.running.values()].find((one) => one.task === id);
  assert.equal(assigned?.secrets, { TOKEN: 'hush' });
  assert.not.ok(JSON.stringify(fleet.entries).includes('hush'), 'no value reaches the log');
});

test('a drained member keeps what it runs and is given nothing more', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit();
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false });
  const id = fleet.submit();
  assert.is(ada.running.size, 1);
  assert.is(whyOf(fleet, id, 'ada'), 'is draining');
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: true });
  assert.is(ada.running.size, 2);
});

test('nothing is given to a machine without a sandbox (promise 14)', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, sandbox: null } });
  fleet.submit();
  assert.is(ada.running.size, 0);
});

test('a member that missed a heartbeat is given nothing until it is heard', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit();
  for (let passed = 0; passed < 11_000; passed += 250) {
    fleet.now += 250;
    fleet.founder({ type: 'tick' });
  }
  const id = fleet.submit();
  assert.is(whyOf(fleet, id, 'ada'), 'has missed a heartbeat');
  fleet.member(ada, { type: 'tick' });
  assert.is(ada.running.size, 2);
});

test('a member that refuses again and again is not asked without a pause (promise 18)', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit();
  let asked = 0;
  const refuse = (why: 'refused' | 'owner' | 'paused'): void => {
    for (const assignment of ada.running.values()) {
      const { task, attempt, epoch, correlation } = assignment;
      ada.running.clear();
      asked += 1;
      const message = { type: 'stopped' as const, task, attempt, epoch, correlation, why, detail: null };
      fleet.founder({ type: 'received', peer: ada.peer, session: ada.session!, message });
    }
  };
  for (const why of ['refused', 'owner', 'paused'] as const) {
    asked = 0;
    for (let passed = 0; passed < 5_000; passed += 250) {
      fleet.now += 250;
      fleet.founder({
        type: 'received',
        peer: ada.peer,
        session: ada.session!,
        message: { type: 'heartbeat', sequence: 1 },
      });
      fleet.founder({ type: 'tick' });
      refuse(why);
    }
    assert.ok(asked <= 6, `${asked} times asked after ${why}`);
  }
  assert.is(fleet.task(id).state === 'queued' || fleet.task(id).state === 'assigned', true);
});

test('three thousand tasks that nobody fits cost a decision nothing', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.disconnect(ada);
  const started = process.cpuUsage();
  for (let task = 0; task < 3_000; task += 1) fleet.submit({ labels: { rack: `r${task}` } });
  const id = fleet.submit();
  fleet.connect(ada);
  assert.is(fleet.running(ada).task, id);
  for (let task = 0; task < 200; task += 1) {
    const assignment = [...ada.running.values()][0];
    if (assignment !== undefined) fleet.finish(ada, assignment);
    fleet.submit();
  }
  const { user } = process.cpuUsage(started);
  assert.ok(user < 5e6, `${user} µs of processor`);
});

test('a heap gives its items by their keys', () => {
  fc.assert(
    fc.property(fc.array(fc.integer()), (keys) => {
      const heap = new Heap<number>();
      for (const key of keys) heap.push(key, key);
      const out: number[] = [];
      for (let next = heap.pop(); next !== undefined; next = heap.pop()) out.push(next.item);
      assert.equal(
        out,
        [...keys].sort((a, b) => a - b),
      );
    }),
  );
});

test('a member is known by its name or its peer id', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ on: peerOf('ada') });
  assert.is(fleet.running(ada).task, id);
});

test.run();
