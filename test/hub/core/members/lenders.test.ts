import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../../../hub/core/answers/why-answer.ts';
import { type Capacity, founderMessage, lendersBytesMax, lendersMax } from '../../../../protocol/session.ts';
import type { TaskSpecInput } from '../../../../protocol/task.ts';
import { CAPACITY, Fleet, HELLO, type TestMember } from '../fleet.ts';

type Lends = NonNullable<Capacity['lends']>;

const lends = (names: string[], at = '/ip4/10.0.0.1/tcp/1'): Lends => ({
  addresses: [at],
  models: names.map((name) => ({ name, promptTokensPerSecond: null, generateTokensPerSecond: 10 })),
});

/** What this member says that it has; its models are lent where nothing else is said. */
function offer(fleet: Fleet, member: TestMember, models: string[], more: Partial<Capacity> = {}): void {
  const capacity = { ...CAPACITY, models, lends: lends(models), ...more };
  fleet.member(member, { type: 'capacity', capacity });
}

/** Each list that the member was told since the last look, as names and models. */
function told(fleet: Fleet, { peer }: TestMember): string[][] {
  return fleet.log.flatMap((effect) =>
    effect.type === 'send' && effect.peer === peer && effect.message.type === 'models'
      ? [effect.message.lenders.map(({ name, models }) => `${name}: ${models.join(' ')}`)]
      : [],
  );
}
const forget = (fleet: Fleet): void => void fleet.log.splice(0);
const tick = (fleet: Fleet): void => fleet.founder({ type: 'tick' });
const code = (model?: string): Partial<TaskSpecInput> =>
  ({ kind: 'code', code: { goal: 'x' }, ...(model && { model }) }) as Partial<TaskSpecInput>;
const whyOf = (fleet: Fleet, task: string, name: string): string | undefined =>
  fleet.ask<Why>({ op: 'task.why', task }).members.find((member) => member.name === name)?.why;

test('members are told who lends what and where, each time that changes and not oftener', () => {
  const fleet = new Fleet();
  const [ada, bob, cy] = [fleet.join('ada'), fleet.join('bob'), fleet.join('cy')];
  offer(fleet, ada, ['phi', 'qwen:7b']);
  offer(fleet, bob, ['qwen:7b']);
  assert.equal(told(fleet, cy), [], 'with the tick, for all that came at once');
  tick(fleet);
  assert.equal(
    told(fleet, cy).map((list) => list.sort()),
    [['ada: phi qwen:7b', 'bob: qwen:7b']],
  );
  assert.equal(told(fleet, ada), [['bob: qwen:7b']], 'nobody borrows from itself');
  forget(fleet);
  offer(fleet, ada, ['qwen:7b', 'phi'], { diskFreeBytes: 5 });
  fleet.founder({
    type: 'received',
    peer: bob.peer,
    session: bob.session!,
    message: { type: 'heartbeat', sequence: 9 },
  });
  tick(fleet);
  assert.equal(told(fleet, cy), [], 'nothing of it is new');
  offer(fleet, ada, ['phi'], { lends: lends(['phi'], '/ip4/10.0.0.1/tcp/2') });
  tick(fleet);
  assert.equal(
    told(fleet, cy).map((list) => list.sort()),
    [['ada: phi', 'bob: qwen:7b']],
  );
  forget(fleet);
  fleet.disconnect(cy);
  fleet.connect(cy);
  assert.is(told(fleet, cy).length, 1, 'with each welcome');
});

test('whoever is paused, keeps its models, is gone or was shut out is not among them', () => {
  const fleet = new Fleet();
  const cy = fleet.join('cy');
  const names = ['ada', 'bob', 'dan', 'eve'];
  const [ada, bob, dan, eve] = names.map((name) => fleet.join(name)) as [
    TestMember,
    TestMember,
    TestMember,
    TestMember,
  ];
  for (const member of [ada, bob, dan, eve]) offer(fleet, member, ['phi']);
  tick(fleet);
  assert.equal(told(fleet, cy).at(-1)?.length, 4);
  fleet.member(ada, { type: 'owner', act: 'pause' });
  const { lends: _, ...kept } = { ...CAPACITY, models: ['phi'], lends: null };
  fleet.member(bob, { type: 'capacity', capacity: kept });
  fleet.disconnect(dan);
  fleet.ask({ op: 'member.revoke', member: 'eve', reason: null });
  tick(fleet);
  assert.equal(told(fleet, cy).at(-1), []);
});

test('a member of a release before is told nothing, and given no goal that it would need another’s model for', () => {
  const fleet = new Fleet();
  const [ada, old] = [fleet.join('ada'), fleet.join('old')];
  const hello = { ...HELLO, features: ['requirements', 'goals'], capacity: CAPACITY };
  fleet.founder({ type: 'connected', peer: old.peer, session: 99, hello });
  offer(fleet, ada, ['phi'], { slots: 0 });
  tick(fleet);
  assert.equal(told(fleet, old), []);
  const task = fleet.submit(code());
  assert.is(whyOf(fleet, task, 'old'), 'offers no model');
});

test('a message stays within half a frame, whatever members say', () => {
  const fleet = new Fleet();
  const wide = Array.from({ length: 64 }, (_, n) => `${String(n).padStart(3, '0')}${'\u0001'.repeat(125)}`);
  for (let n = 0; n < lendersMax + 8; n += 1) offer(fleet, fleet.join(`m${n}`), n % 2 === 0 ? wide : ['phi']);
  const cy = fleet.join('cy');
  forget(fleet);
  tick(fleet);
  const sent = fleet.log.flatMap((effect) =>
    effect.type === 'send' && effect.peer === cy.peer && effect.message.type === 'models'
      ? [effect.message]
      : [],
  );
  assert.is(sent.length, 1);
  assert.ok(Buffer.byteLength(JSON.stringify(sent[0])) <= lendersBytesMax + 1024);
  assert.ok(sent[0]!.lenders.length > 30, 'the small ones are not put out by the large');
  assert.ok(founderMessage.safeParse(sent[0]).success);
});

test('a goal goes to a machine that has the model, and to one that borrows it where none with it is free', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  offer(fleet, ada, ['qwen:7b'], { slots: 1 });
  tick(fleet);
  const first = fleet.submit(code('qwen:7b'));
  const second = fleet.submit(code('qwen:7b'));
  const other = fleet.submit(code('bigger:70b'));
  assert.is(fleet.running(ada).task, first, 'it has the model itself');
  assert.is(fleet.running(bob).task, second, 'it is lent it');
  assert.is(whyOf(fleet, other, 'bob'), 'offers no model (asked: bigger:70b)');
});

test('a command runs beside its model, and so does an agent: neither is given to a machine that borrows', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  offer(fleet, ada, ['qwen:7b'], { slots: 0 });
  offer(fleet, bob, [], { brains: ['opencode'] });
  tick(fleet);
  const command = fleet.submit({ model: 'qwen:7b' });
  const agent = fleet.submit({
    kind: 'code',
    code: { goal: 'x', brain: 'opencode' },
  } as Partial<TaskSpecInput>);
  assert.is(whyOf(fleet, command, 'bob'), 'offers no model (asked: qwen:7b)');
  assert.is(whyOf(fleet, agent, 'bob'), 'offers no model');
  const goal = fleet.submit(code('qwen:7b'));
  assert.is(fleet.running(bob).task, goal);
});

test('what a machine lends is no reason to give it a goal that it has no model for itself', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  offer(fleet, ada, [], { lends: lends(['phi']) });
  tick(fleet);
  const goal = fleet.submit(code());
  const named = fleet.submit(code('phi'));
  assert.is(whyOf(fleet, goal, 'ada'), 'offers no model');
  assert.is(whyOf(fleet, named, 'ada'), 'offers no model (asked: phi)');
});

test('a goal that nobody had a model for is given out when somebody lends one', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  offer(fleet, ada, [], { slots: 0 });
  const goal = fleet.submit(code());
  tick(fleet);
  assert.is(bob.running.size, 0);
  offer(fleet, ada, ['qwen:latest'], { slots: 0 });
  tick(fleet);
  assert.is(fleet.running(bob).task, goal);
});

test('a machine in quarantine lends nothing until a person trusts it', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const bob = fleet.join('bob');
  fleet.ask({ op: 'member.trust', member: 'bob', vouched: true });
  offer(fleet, ada, ['phi']);
  tick(fleet);
  const heard = (): string[][] => told(fleet, bob);
  assert.equal(heard().at(-1), ['ada: phi']);
  fleet.submit({ on: 'ada' });
  fleet.finish(ada, fleet.running(ada));
  const red = { outcome: 'failed', reason: 'check', fault: 'task' } as const;
  fleet.finish(bob, fleet.running(bob, 'verify'), red, false);
  assert.ok(fleet.core.state.members.byPeer.get(ada.peer)?.quarantined);
  tick(fleet);
  assert.equal(heard().at(-1), []);
  const goal = fleet.submit({ ...code('phi'), checks: [], on: 'bob' });
  assert.is(bob.running.size, 0);
  assert.is(fleet.task(goal).state, 'queued');
  fleet.ask({ op: 'member.trust', member: 'ada', vouched: false });
  tick(fleet);
  assert.equal(heard().at(-1), ['ada: phi']);
});

test.run();
