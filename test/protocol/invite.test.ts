import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROLES } from '../../protocol/ids.ts';
import {
  encodeInvite,
  type Invite,
  newInviteSecret,
  parseInvite,
  secretHash,
} from '../../protocol/invite.ts';
import { codeOf, digestOf, keyOf, keys, mesh, messageOf } from './samples.ts';

const invite: Invite = {
  mesh,
  founder: keys.founder.peer,
  addresses: ['/ip4/192.168.1.10/tcp/4747', '/ip6/fe80::1/tcp/4747'],
  secret: 'ab'.repeat(16),
  expiresAt: 1_760_000_000_000,
  roles: ['worker'],
};
const token = encodeInvite(invite);

test('a token gives back the invite it was made of', () => {
  const address = fc.stringMatching(/^\/[!-~]{1,80}$/);
  const any = fc.record(
    {
      mesh: fc.string().map(digestOf),
      founder: fc.string().map((text) => keyOf(text).peer),
      addresses: fc.array(address, { maxLength: 16 }),
      secret: fc.string().map((text) => digestOf(text).slice(0, 32)),
      expiresAt: fc.integer({ min: 0, max: 2 ** 47 }),
      roles: fc.subarray([...ROLES]),
    },
    { noNullPrototype: true },
  );
  fc.assert(fc.property(any, (one) => assert.equal(parseInvite(encodeInvite(one)), one)));
});

test('a token is one word, and spaces, line breaks and capitals from copying do no harm', () => {
  assert.match(token, /^sfi1_[a-z2-7]+$/);
  const pasted = `  ${token.slice(0, 80).toUpperCase()}\r\n  ${token.slice(80)}\n`;
  assert.equal(parseInvite(pasted), invite);
});

test('a token cut off anywhere is said to be cut off, not mistyped', () => {
  for (let length = 'sfi1_'.length; length < token.length; length += 1) {
    const cut = token.slice(0, length);
    assert.is(
      codeOf(() => parseInvite(cut)),
      'SF_INVITE',
    );
    assert.match(
      messageOf(() => parseInvite(cut)),
      /cut off/,
    );
  }
});

test('one wrong character anywhere is refused, and never gives another invite', () => {
  for (let at = 0; at < token.length; at += 1) {
    const wrong = token.slice(0, at) + (token[at] === 'k' ? 'm' : 'k') + token.slice(at + 1);
    assert.ok(['SF_INVITE', 'SF_VERSION'].includes(String(codeOf(() => parseInvite(wrong)))), wrong);
  }
  const late = token.slice(0, 60) + (token[60] === 'k' ? 'm' : 'k') + token.slice(61);
  assert.match(
    messageOf(() => parseInvite(late)),
    /mistyped/,
  );
});

test('of all last characters only the right one is taken, so that a token has one spelling', () => {
  for (let length = 1; length <= 5; length += 1) {
    const one = encodeInvite({ ...invite, addresses: [`/${'x'.repeat(length)}`] });
    const taken = [...'abcdefghijklmnopqrstuvwxyz234567'].filter(
      (last) => codeOf(() => parseInvite(one.slice(0, -1) + last)) === null,
    );
    assert.equal(taken, [one.at(-1)]);
  }
});

test('what is no token, goes on after its end, or is of another version is said to be so', () => {
  assert.match(
    messageOf(() => parseInvite('hello')),
    /no invite token/,
  );
  assert.match(
    messageOf(() => parseInvite('x'.repeat(100_000))),
    /too long/,
  );
  assert.match(
    messageOf(() => parseInvite(`${token}aa`)),
    /too long/,
  );
  assert.match(
    messageOf(() => parseInvite(`${token.slice(0, -1)}!`)),
    /character that no token has/,
  );
  assert.is(
    codeOf(() => parseInvite(token.replace('sfi1_', 'sfi2_'))),
    'SF_VERSION',
  );
});

test('the secret is known to others by its SHA-256 only', () => {
  const secret = newInviteSecret((length) => new Uint8Array(length).fill(7));
  assert.is(secret, '07'.repeat(16));
  assert.is(secretHash(secret), createHash('sha256').update(new Uint8Array(16).fill(7)).digest('hex'));
});

test.run();
