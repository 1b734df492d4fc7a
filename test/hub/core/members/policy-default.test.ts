import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../../../hub/core/answers/why-answer.ts';
import type { PolicyDefaultObject } from '../../../../node/api/objects.ts';
import { CAPACITY, Fleet, HELLO, LOCAL, peerOf, type TestMember } from '../fleet.ts';

const whyOf = (fleet: Fleet, task: string, name = 'ada'): string =>
  fleet.ask<Why>({ op: 'task.why', task }).members.find(({ id }) => id === peerOf(name))?.why ?? '';
/** What the driver of a member was told of the mesh's policy, oldest first. */
const heard = ({ effects }: TestMember): (string | null)[] =>
  effects.flatMap((effect) => (effect.type === 'meshPolicy' ? [effect.policy] : []));
const set = (fleet: Fleet, policy: string | null): PolicyDefaultObject =>
  fleet.ask({ op: 'mesh.policy', policy });

test('the default is the operator’s, is in the log once, told at once and with each welcome, and outlives a restart', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  assert.equal(heard(ada), [null]);
  const by = { kind: 'peer', peer: ada.peer } as const;
  assert.is(fleet.refusal({ op: 'mesh.policy', policy: 'idle' }, by), 'SF_REFUSED');
  const size = fleet.entries.length;
  assert.equal(set(fleet, 'idle'), { policy: 'idle', older: [] });
  assert.equal(set(fleet, 'idle'), { policy: 'idle', older: [] });
  assert.equal(
    fleet.entries.slice(size).map(({ type, body }) => [type, body]),
    [['mesh.policy', { policy: 'idle', by: LOCAL }]],
  );
  assert.equal(heard(ada), [null, 'idle']);
  fleet.restart();
  assert.is(fleet.ask<PolicyDefaultObject>({ op: 'policy' }).policy, 'idle');
  fleet.connect(ada);
  assert.equal(heard(ada), [null, 'idle', 'idle']);
  set(fleet, null);
  assert.is(heard(ada).at(-1), null);
  assert.is(fleet.core.state.mesh.policy, undefined);
});

test('nobody is told before it is durable', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.durableTo = fleet.entries.length - 1;
  assert.throws(() => set(fleet, 'idle'), /held back/);
  assert.equal(heard(ada), [null]);
  fleet.durableTo = null;
  fleet.flush();
  assert.equal(heard(ada), [null, 'idle']);
});

test('what it lets machines take counts from that moment, before they have said so; of a task they are told whose it is', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  set(fleet, 'kinds=code');
  const id = fleet.submit({ checks: [] });
  assert.is(fleet.task(id).state, 'queued');
  assert.match(whyOf(fleet, id), /accepts no task of kind command \(the mesh’s policy: code\)/);
  set(fleet, 'submitters=bo');
  assert.match(whyOf(fleet, id), /accepts no task of olga \(the mesh’s policy names others\)/);
  fleet.join('bob', { roles: ['submitter'] });
  const his = fleet.submit({ checks: [], repository: null }, {}, { kind: 'peer', peer: peerOf('bob') });
  assert.is(fleet.task(his).state, 'queued');
  fleet.ask({ op: 'member.rename', member: 'bob', name: 'bo' });
  fleet.advance(1_000);
  assert.is(fleet.running(ada).task, his, 'of two like it the one whose sender is named');
  assert.is(fleet.running(ada).sender, 'bo');
  set(fleet, null);
  fleet.advance(1_000);
  assert.is(fleet.task(id).state, 'assigned');
});

test('a member of an older release hears nothing of it, and is given nothing while it asks anything', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.founder({ type: 'connected', peer: ada.peer, session: 99, hello: { ...HELLO, capacity: CAPACITY } });
  const sent = fleet.log.length;
  assert.equal(set(fleet, 'idle'), { policy: 'idle', older: ['ada'] });
  const id = fleet.submit({ checks: [] });
  assert.match(whyOf(fleet, id), /older release, which does not keep the mesh’s policy/);
  assert.is(fleet.task(id).state, 'queued');
  const messages = fleet.log
    .slice(sent)
    .flatMap((effect) => (effect.type === 'send' ? [effect.message.type] : []));
  assert.not.ok(messages.includes('policy'));
  set(fleet, 'always');
  fleet.advance(1_000);
  assert.is(fleet.task(id).state, 'assigned', 'always asks nothing');
});

test.run();
