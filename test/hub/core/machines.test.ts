import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Actor } from '../../../ledger/events.ts';
import { replay } from '../../../ledger/state/state.ts';
import { Fleet, HELLO, hex, peerOf } from './fleet.ts';

/** Many machines: invites of many uses, names taken, names changed. */
const peer = (name: string): Actor => ({ kind: 'peer', peer: peerOf(name) });

function invite(fleet: Fleet, uses: number): { kind: 'invite'; secretHash: string } {
  const grant = { expiresAt: fleet.wall + 1e6, roles: ['worker' as const], labels: { room: '2' } };
  fleet.ask({
    op: 'invite.create',
    invite: { invite: hex('many'), uses, owner: 'lab', ...grant, by: peer('founder') },
  });
  return { kind: 'invite', secretHash: hex('many') };
}

const admission = (name: string, wanted: string, via: { kind: 'invite'; secretHash: string }) =>
  ({ op: 'member.admit', peer: peerOf(name), name: wanted, owner: null, via }) as const;

test('an invite of thirty uses lets thirty machines of one host name in, and not the 31st', () => {
  const fleet = new Fleet();
  const via = invite(fleet, 30);
  const admitted = Array.from({ length: 30 }, (_, n) =>
    fleet.ask<{ name: string; owner: string; labels: object }>(admission(`pc${n}`, 'debian', via)),
  );
  assert.is(new Set(admitted.map(({ name }) => name)).size, 30);
  assert.equal([admitted[0]?.name, admitted[29]?.name], ['debian', 'debian-30']);
  for (const { owner, labels } of admitted) assert.equal([owner, labels], ['lab', { room: '2' }]);
  assert.is(fleet.refusal(admission('pc30', 'debian', via)), 'SF_INVITE');
  assert.is(fleet.refusal(admission('pc3', 'debian', via)), 'accepted', 'one that is in may ask again');
});

test('a name a person chose is refused where it is taken, and uses no invite up', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const via = invite(fleet, 1);
  const size = fleet.entries.length;
  assert.is(fleet.refusal({ ...admission('eva', 'ada', via), exact: true }), 'SF_EXISTS');
  assert.is(fleet.entries.length, size);
  assert.is(fleet.ask<{ name: string }>({ ...admission('eva', 'eva', via), exact: true }).name, 'eva');
});

test('a member is renamed: logged with who did it, told at once, its old name free', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.ask({ op: 'member.rename', member: 'ada', name: 'lab-1' });
  assert.equal(fleet.entries.at(-1)?.type, 'member.renamed');
  assert.equal(fleet.entries.at(-1)?.body, {
    peer: ada.peer,
    name: 'lab-1',
    by: { kind: 'local', user: 'olga', claimed: true },
  });
  assert.ok(ada.effects.some((effect) => effect.type === 'renamed' && effect.name === 'lab-1'));
  assert.is(fleet.ask<{ id: string }>({ op: 'node.get', member: 'lab-1' }).id, ada.peer);
  assert.is(fleet.refusal({ op: 'node.get', member: 'ada' }), 'SF_NOT_FOUND');
  assert.is(fleet.join('ada', { peer: peerOf('other') }).peer, peerOf('other'), 'the old name is free');
  assert.is(fleet.refusal({ op: 'member.rename', member: 'lab-1', name: 'ada' }), 'SF_EXISTS');
  assert.is(fleet.refusal({ op: 'member.rename', member: 'nobody', name: 'x' }), 'SF_NOT_FOUND');
  assert.is(fleet.refusal({ op: 'member.rename', member: 'lab-1', name: 'y' }, peer('ada')), 'SF_REFUSED');
  const size = fleet.entries.length;
  fleet.ask({ op: 'member.rename', member: 'lab-1', name: 'lab-1' });
  assert.is(fleet.entries.length, size, 'its own name again is no change');
  const { members } = replay(structuredClone(fleet.entries));
  assert.is(members.byName.get('lab-1'), ada.peer);
  assert.is(
    members.byPeer.get(ada.peer)?.admittedAs,
    'ada',
    'the certificate says what was true at its index',
  );
});

test('a member renamed while it is away hears of it when it says another name, after a restart of the founder too', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.disconnect(ada);
  fleet.ask({ op: 'member.rename', member: 'ada', name: 'lab-1' });
  fleet.restart();
  const told = (): unknown[] => fleet.log.filter((e) => e.type === 'send' && e.message.type === 'renamed');
  const hello = (session: number, name: string): void =>
    fleet.founder({ type: 'connected', peer: ada.peer, session, hello: { ...HELLO, name } });
  hello(90, 'ada');
  assert.is(told().length, 1);
  hello(91, 'lab-1');
  assert.is(told().length, 1, 'one that knows it is not told again');
});

test.run();
