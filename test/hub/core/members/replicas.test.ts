import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { farBehindEntries, farBehindMs } from '../../../../hub/core/members/replicas.ts';
import type { NodeObject, StatusObject } from '../../../../node/api/objects.ts';
import { Fleet, LOCAL } from '../fleet.ts';

const status = (fleet: Fleet): StatusObject => fleet.ask<StatusObject>({ op: 'status' });
const warnings = (fleet: Fleet): string => status(fleet).warnings.join('\n');

test('a mesh without a replica says what to type; the founder itself is none', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  assert.match(warnings(fleet), /no replica yet: .*: mesh-hub invite --role worker --role replica$/m);
  assert.equal(status(fleet).replicas, []);
});

test('each replica is shown with what it lacks, and where none follows that is said at once', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { roles: ['worker', 'replica'] });
  const bob = fleet.join('bob', { roles: ['replica'] });
  const shown = () => status(fleet).replicas.map(({ name, lag }) => [name, lag]);
  assert.equal(shown(), [
    ['ada', null],
    ['bob', null],
  ]);
  assert.match(warnings(fleet), /no replica follows the log now \(ada, bob\)/);

  const size = fleet.entries.length;
  fleet.founder({ type: 'durable', index: size - 1, checkpoint: '', root: '00'.repeat(32) });
  fleet.founder({ type: 'replicas', held: new Map([[bob.peer, size - 2]]) });
  assert.equal(shown(), [
    ['ada', null],
    ['bob', 2],
  ]);
  assert.not.match(warnings(fleet), /replica/);
  assert.is(fleet.ask<NodeObject>({ op: 'node.get', member: 'bob' }).lag, 2);
  fleet.founder({ type: 'replicas', held: new Map([[ada.peer, size]]) });
  assert.equal(shown(), [
    ['ada', 0],
    ['bob', null],
  ]);
});

test('a replica that stays far behind is warned of, one that catches up is not', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { roles: ['replica'] });
  const holds = (size: number): void =>
    fleet.founder({ type: 'replicas', held: new Map([[ada.peer, size]]) });
  const durable = (size: number): void =>
    fleet.founder({ type: 'durable', index: size - 1, checkpoint: '', root: '00'.repeat(32) });
  durable(10 * farBehindEntries);
  holds(0);
  assert.not.match(warnings(fleet), /behind/);
  fleet.now += farBehindMs - 1;
  holds(farBehindEntries);
  assert.not.match(warnings(fleet), /behind/, 'not yet for long');
  fleet.now += 1;
  assert.match(warnings(fleet), /the replica ada is 9000 entries behind, for 1 min/);
  holds(9 * farBehindEntries);
  assert.not.match(warnings(fleet), /behind/, 'it has nearly caught up');
  durable(10 * farBehindEntries + 1);
  fleet.now += farBehindMs;
  assert.match(warnings(fleet), /the replica ada is 1001 entries behind/, 'the log left it behind again');
});

test('acknowledgements may wait for as many replicas as follow; the level is in the log, and an operator’s to set', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { roles: ['worker', 'replica'] });
  const set = (replicas: number, by = LOCAL) => fleet.refusal({ op: 'mesh.durability', replicas }, by);
  assert.equal(fleet.ask({ op: 'durability' }), { replicas: 0, following: 0 });
  assert.is(set(1), 'SF_CONFLICT', 'nobody follows');
  fleet.founder({ type: 'replicas', held: new Map([[ada.peer, 1]]) });
  assert.is(set(1, { kind: 'peer', peer: ada.peer }), 'SF_REFUSED');
  const size = fleet.entries.length;
  assert.is(set(1), 'accepted');
  assert.is(set(1), 'accepted');
  assert.is(set(2), 'SF_CONFLICT');
  assert.is(fleet.entries.length, size + 1, 'said once');
  assert.equal(fleet.ask({ op: 'durability' }), { replicas: 1, following: 1 });
  fleet.restart();
  assert.is(fleet.core.state.mesh.durability, 1);
});

test('while too few replicas follow nothing is given out, and status and why say so at once', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { roles: ['worker', 'replica'] });
  const follow = (): void =>
    fleet.founder({ type: 'replicas', held: new Map([[ada.peer, fleet.entries.length]]) });
  follow();
  fleet.ask({ op: 'mesh.durability', replicas: 1 });
  fleet.founder({ type: 'replicas', held: new Map() });
  const task = fleet.submit();
  assert.is(ada.running.size, 0);
  assert.match(warnings(fleet), /wait for 1 replica and 0 follow: nothing .*: mesh-hub durability 0$/m);
  assert.equal(status(fleet).waits, { replicas: 1 });
  const { wait, reasons } = fleet.ask<{ wait: string; reasons: string[] }>({ op: 'task.why', task });
  assert.is(wait, 'replicas');
  assert.match(reasons.join(), /wait for replicas: 1 of them, and 0 follow/);
  follow();
  fleet.founder({ type: 'tick' });
  assert.is(ada.running.size, 1);
  fleet.founder({ type: 'replicas', held: new Map() });
  assert.is(
    fleet.refusal({ op: 'mesh.durability', replicas: 0 }),
    'accepted',
    'fewer can always be asked for',
  );
  assert.not.match(warnings(fleet), /nothing is given out/);
});

test('members are told where replicas listen, those among them that went; no longer of one that is none', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { roles: ['replica'] });
  const bob = fleet.join('bob', { roles: ['replica'] });
  const cy = fleet.join('cy');
  const at = (peer: string, port: number) => ({ peer, addresses: [`/ip4/10.0.0.1/tcp/${port}`] });
  /** The last that cy was told, as its peers; null: nothing since. */
  const told = (): string[] | null => {
    const sent = fleet.log
      .splice(0)
      .flatMap((effect) =>
        effect.type === 'send' && effect.peer === cy.peer && effect.message.type === 'replicas'
          ? [effect.message.replicas.map(({ peer }) => peer).sort()]
          : [],
      );
    return sent.at(-1) ?? null;
  };
  const follow = (...places: ReturnType<typeof at>[]): void =>
    fleet.founder({ type: 'replicas', held: new Map(places.map(({ peer }) => [peer, 1])), places });
  const both = [ada.peer, bob.peer].sort();
  follow(at(ada.peer, 1), at(bob.peer, 2));
  assert.equal(told(), both);
  follow(at(bob.peer, 2));
  assert.is(told(), null, 'one that went is where it was');
  follow(at(bob.peer, 2), at(ada.peer, 3));
  assert.equal(told(), both, 'it came back elsewhere');
  fleet.ask({ op: 'member.revoke', member: 'ada', reason: null });
  follow(at(bob.peer, 2));
  assert.equal(told(), [bob.peer]);
  fleet.disconnect(cy);
  fleet.connect(cy);
  assert.equal(told(), [bob.peer], 'with each welcome');
});

test.run();
