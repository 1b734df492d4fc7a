import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  encodeRoster,
  newerRoster,
  openRoster,
  type Roster,
  rosterMember,
  signRoster,
} from '../../protocol/roster.ts';
import { codeOf, keys, mesh } from './samples.ts';

const member = (who: 'executor' | 'verifier') => ({
  peer: keys[who].peer,
  name: who,
  owner: 'Anna',
  roles: ['worker' as const],
});
const roster = (change: Partial<Roster> = {}): Roster => ({
  mesh,
  epoch: 1,
  version: 1,
  members: [member('executor'), member('verifier')],
  revoked: [keys.stranger.peer],
  ...change,
});
const text = (one: Roster, key = keys.log) => encodeRoster(signRoster(one, key));

test('a roster comes back as it was signed, whatever the order of its members', () => {
  const turned = roster({ members: [member('verifier'), member('executor')] });
  assert.is(text(turned), text(roster()));
  const opened = openRoster(text(roster()), keys.log.publicKey, mesh);
  assert.equal(
    new Set(opened.members.map((one) => one.peer)),
    new Set([keys.executor.peer, keys.verifier.peer]),
  );
});

test('a roster of another mesh or by another key is refused', () => {
  assert.is(
    codeOf(() => openRoster(text(roster()), keys.log.publicKey, '0'.repeat(64))),
    'SF_NOT_PROVED',
  );
  assert.is(
    codeOf(() => openRoster(text(roster(), keys.stranger), keys.log.publicKey, mesh)),
    'SF_NOT_PROVED',
  );
});

test('only a newer roster replaces the one held', () => {
  const held = roster({ epoch: 2, version: 5 });
  assert.is(newerRoster(held, roster({ epoch: 2, version: 4 })), held);
  assert.is(newerRoster(held, roster({ epoch: 2, version: 5 })), held);
  assert.is(newerRoster(held, roster({ epoch: 1, version: 9 })), held);
  for (const next of [roster({ epoch: 2, version: 6 }), roster({ epoch: 3, version: 0 })]) {
    assert.is(newerRoster(held, next), next);
  }
  assert.is(newerRoster(null, held), held);
});

test('a revoked peer is no member, even where it is listed as one', () => {
  assert.is(rosterMember(roster(), keys.executor.peer)?.name, 'executor');
  assert.is(rosterMember(roster({ revoked: [keys.executor.peer] }), keys.executor.peer), null);
  assert.is(rosterMember(roster(), keys.founder.peer), null);
});

test.run();
