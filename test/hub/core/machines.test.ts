import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../../hub/core/answers/why-answer.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import { replay } from '../../../ledger/state/state.ts';
import { CAPACITY, Fleet, HELLO, hex, peerOf } from './fleet.ts';

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

/** A member whose sessions say what process they are of; `place` is the machine. */
function cloned() {
  const fleet = new Fleet();
  const { peer } = fleet.join('ada');
  fleet.disconnect(fleet.members.get(peer)!);
  fleet.members.delete(peer);
  const hello = (session: number, process: string, place: string): void => {
    const instance = { process: process.repeat(32), place: place.repeat(64), host: `host-${place}` };
    fleet.founder({
      type: 'connected',
      peer,
      session,
      hello: { ...HELLO, instance },
      address: `10.0.0.${place}`,
    });
  };
  const beat = (session: number): void =>
    fleet.founder({ type: 'received', peer, session, message: { type: 'heartbeat', sequence: 1 } });
  const sent = (session: number): string[] =>
    fleet.log.flatMap((e) => (e.type === 'send' && e.session === session ? [e.message.type] : []));
  const closed = (session: number) =>
    fleet.log.find((e) => e.type === 'close' && e.session === session) as
      | { code: string; message: string; disconnect?: boolean }
      | undefined;
  const warnings = (): string[] => fleet.ask<{ warnings: string[] }>({ op: 'status' }).warnings;
  return { fleet, peer, hello, beat, sent, closed, warnings };
}

test('duplicate identities: the machine that answers keeps its session, the other is refused in words, the operator is warned', () => {
  const { fleet, peer, hello, beat, sent, closed, warnings } = cloned();
  hello(50, 'a', '1');
  hello(51, 'b', '2');
  assert.ok(sent(50).includes('call'));
  assert.equal(sent(51), [], 'it waits for a word');
  assert.is(closed(50), undefined);
  beat(50);
  assert.is(closed(51)?.code, 'SF_CONFLICT');
  assert.match(closed(51)?.message ?? '', /another machine, host-1 \(10\.0\.0\.1\), which keeps it/);
  assert.is(closed(51)?.disconnect, true, 'nothing of the member is fetched from the copy');
  assert.ok(fleet.core.hasSession(peer, 50));
  fleet.founder({ type: 'disconnected', peer, session: 51 });
  const said = warnings().find((text) => text.includes('two machines'));
  assert.match(said ?? '', /ada.*host-1 \(10\.0\.0\.1\) keeps it.*host-2 \(10\.0\.0\.2\)/);
  for (let minutes = 0; minutes < 11; minutes += 1) {
    fleet.advance(60_000, 10_000);
    hello(60 + minutes, 'a', '1');
  }
  assert.is(
    warnings().find((text) => text.includes('two machines')),
    undefined,
    'it is over some day',
  );
});

test('duplicate identities: where the older one is silent the newer is taken, after a moment', () => {
  const { fleet, peer, hello, sent, closed } = cloned();
  hello(50, 'a', '1');
  hello(51, 'b', '2');
  fleet.advance(3_000);
  assert.ok(fleet.core.hasSession(peer, 50));
  fleet.advance(1_250);
  assert.ok(fleet.core.hasSession(peer, 51));
  assert.ok(sent(51).includes('welcome'));
  assert.is(closed(50)?.code, 'SF_CONFLICT');
});

test('duplicate identities: where the older session ends meanwhile, the newer is taken at once; one that goes is forgotten', () => {
  const { fleet, peer, hello, closed } = cloned();
  hello(50, 'a', '1');
  hello(51, 'b', '2');
  hello(52, 'c', '3');
  assert.is(closed(51)?.code, 'SF_CONFLICT', 'one waits at a time');
  fleet.founder({ type: 'disconnected', peer, session: 52 });
  fleet.advance(5_000);
  assert.ok(fleet.core.hasSession(peer, 50));
  hello(53, 'd', '4');
  fleet.founder({ type: 'disconnected', peer, session: 50 });
  assert.ok(fleet.core.hasSession(peer, 53));
  fleet.ask({ op: 'member.revoke', member: 'ada', reason: null });
  assert.is(closed(53)?.code, 'SF_REVOKED');
});

test('a reconnect and a restart of one machine are taken for what they are, at once', () => {
  const { fleet, peer, hello, closed } = cloned();
  hello(50, 'a', '1');
  hello(51, 'a', '1');
  assert.ok(fleet.core.hasSession(peer, 51), 'the same process');
  hello(52, 'b', '1');
  assert.ok(fleet.core.hasSession(peer, 52), 'another process in the same place');
  assert.match(closed(51)?.message ?? '', /newer session/);
  fleet.founder({ type: 'connected', peer, session: 53, hello: HELLO });
  assert.ok(fleet.core.hasSession(peer, 53), 'an older release says nothing of itself');
});

test('a clock two hours off is named in the status, and nothing else is made of it', () => {
  const { fleet, peer, closed } = cloned();
  const clocks = (): string[] =>
    fleet.ask<{ warnings: string[] }>({ op: 'status' }).warnings.filter((text) => /the clock of/.test(text));
  const hello = (session: number, aheadMs: number): void =>
    fleet.founder({
      type: 'connected',
      peer,
      session,
      hello: { ...HELLO, time: fleet.wall + aheadMs },
    });
  hello(50, 2 * 3_600_000);
  assert.match(clocks().join(), /the clock of ada is 2 h ahead of the founder's/);
  hello(51, -7_500_000);
  assert.match(clocks().join(), /the clock of ada is 2 h 5 min behind the founder's/);
  const time = fleet.wall - 59_000;
  fleet.founder({ type: 'received', peer, session: 51, message: { type: 'heartbeat', sequence: 1, time } });
  assert.equal(clocks(), [], 'less than a minute is nothing to tell of');
  hello(52, 2 * 3_600_000);
  fleet.founder({ type: 'disconnected', peer, session: 52 });
  assert.equal(clocks(), [], 'of one that is away nothing is known');
  assert.is(closed(52), undefined);
});

/** An invite for a machine that takes the place of this one; answers what the operator sees of it. */
function replacement(fleet: Fleet, member: string) {
  const blank = { expiresAt: fleet.wall + 1e6, uses: 5, roles: [], labels: {}, owner: null };
  const invite = { ...blank, invite: hex('replace'), by: peer('founder') };
  return fleet.ask<{ uses: number; roles: string[]; labels: object }>({
    op: 'invite.create',
    invite,
    replace: member,
  });
}
const byReplacement = { kind: 'invite' as const, secretHash: hex('replace') };

test('a re-imaged machine takes its old place: name, roles, labels and owner; the old key is refused, its attempts are lost', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { labels: { room: '2' }, owner: 'lab' });
  const id = fleet.submit({ checks: [] });
  assert.is(fleet.running(ada).task, id);
  const made = replacement(fleet, 'ada');
  assert.equal([made.uses, made.roles, made.labels], [1, ['worker'], { room: '2' }]);
  fleet.disconnect(ada);
  fleet.advance(500);
  const joins = { ...admission('ada again', 'debian', byReplacement), exact: true };
  const node = fleet.ask<{ name: string; owner: string; labels: object }>(joins);
  assert.equal([node.name, node.owner, node.labels], ['ada', 'lab', { room: '2' }]);
  const types = fleet.entries.slice(-3).map(({ type }) => type);
  assert.equal(types, ['member.revoked', 'attempt.ended', 'member.admitted']);
  const [revoked, ended] = fleet.entries.slice(-3).map(({ body }) => body as Record<string, unknown>);
  assert.is(revoked?.reason, `replaced by ${peerOf('ada again')}`);
  assert.equal([ended?.reason, ended?.detail], ['lost', 'the machine was replaced']);
  assert.equal([fleet.task(id).state, fleet.task(id).retriesUsed], ['queued', 0]);
  fleet.connect(ada);
  assert.ok(ada.effects.some((effect) => effect.type === 'refused' && effect.code === 'SF_REVOKED'));
  assert.is(fleet.refusal(admission('third', 'x', byReplacement)), 'SF_INVITE', 'good once');
  assert.is(fleet.ask<{ id: string }>({ op: 'node.get', member: 'ada' }).id, peerOf('ada again'));
});

test('a machine that is online is not replaced, whoever has the token; the invite stays good', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  replacement(fleet, 'ada');
  const size = fleet.entries.length;
  assert.is(fleet.refusal(admission('thief', 'x', byReplacement)), 'SF_CONFLICT');
  assert.is(fleet.entries.length, size);
  assert.not.ok(ada.effects.some(({ type }) => type === 'refused'));
  fleet.disconnect(ada);
  assert.is(fleet.ask<{ name: string }>(admission('new', 'x', byReplacement)).name, 'ada');
});

test('a machine that works is not replaced either while it comes back to a founder that has just started', () => {
  for (const busy of [true, false]) {
    const fleet = new Fleet();
    const ada = fleet.join('ada');
    if (busy) fleet.submit({ checks: [] });
    replacement(fleet, 'ada');
    fleet.advance(60_000);
    fleet.restart();
    assert.is(fleet.refusal(admission('thief', 'x', byReplacement)), 'SF_CONFLICT');
    fleet.connect(ada);
    assert.not.ok(ada.effects.some(({ type }) => type === 'refused'));
    fleet.restart();
    fleet.advance(16_000);
    assert.is(
      fleet.ask<{ name: string }>(admission('new', 'x', byReplacement)).name,
      'ada',
      'it stayed away',
    );
  }
});

test('one that was revoked or renamed meanwhile is replaced as what it was last; the founder never is', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  replacement(fleet, ada.peer);
  fleet.ask({ op: 'member.rename', member: 'ada', name: 'lab-1' });
  fleet.ask({ op: 'member.revoke', member: 'lab-1', reason: 'stolen' });
  assert.is(fleet.ask<{ name: string }>(admission('new', 'x', byReplacement)).name, 'lab-1');
  const other = new Fleet();
  assert.throws(() => replacement(other, 'founder'), /cannot be replaced/);
  assert.throws(() => replacement(other, 'nobody'), /no member/);
});

test('a member of a release without policies, let in by an invite with one, is given nothing until it keeps that', () => {
  const fleet = new Fleet();
  const expiresAt = fleet.wall + 1e6;
  const invite = {
    invite: hex('room'),
    expiresAt,
    uses: 1,
    roles: ['worker' as const],
    labels: {},
    owner: null,
  };
  fleet.ask({ op: 'invite.create', invite: { ...invite, policy: 'hours=18:00-08:00', by: peer('founder') } });
  fleet.ask(admission('ada', 'ada', { kind: 'invite', secretHash: hex('room') }));
  const ada = peerOf('ada');
  fleet.founder({ type: 'connected', peer: ada, session: 70, hello: HELLO });
  const id = fleet.submit({ checks: [] });
  assert.is(fleet.task(id).state, 'queued');
  const { members, remedies } = fleet.ask<Why>({ op: 'task.why', task: id });
  assert.match(
    members.find(({ id }) => id === ada)?.why ?? '',
    /older release, which does not keep the policy/,
  );
  assert.ok(remedies.includes('install this release on ada'));
  const capacity = { ...CAPACITY, policy: 'hours=18:00-08:00' };
  fleet.founder({ type: 'received', peer: ada, session: 70, message: { type: 'capacity', capacity } });
  assert.is(fleet.task(id).state, 'assigned');
});

test.run();
