import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { commitNonce, opensCommitment, parseShortCode, shortCode } from '../../protocol/short-code.ts';
import { codeOf, digestOf, keys, mesh } from './samples.ts';

const input = {
  mesh,
  joiner: keys.executor.peer,
  founder: keys.founder.peer,
  joinerNonce: '1'.repeat(32),
  founderNonce: '2'.repeat(32),
};

test('both sides get the same nine digits, and other digits if anything differs', () => {
  assert.match(shortCode(input), /^\d{3}-\d{3}-\d{3}$/);
  assert.is(shortCode({ ...input }), shortCode(input));
  const others = [
    { mesh: '0'.repeat(64) },
    { joiner: keys.stranger.peer },
    { founder: keys.stranger.peer },
    { joinerNonce: '3'.repeat(32) },
    { founderNonce: '3'.repeat(32) },
    { joiner: input.founder, founder: input.joiner },
    { joinerNonce: input.founderNonce, founderNonce: input.joinerNonce },
  ];
  const codes = new Set([input, ...others.map((change) => ({ ...input, ...change }))].map(shortCode));
  assert.is(codes.size, others.length + 1);
});

test('codes use the whole range, leading zeros included', () => {
  const codes = Array.from({ length: 2000 }, (_, index) =>
    shortCode({ ...input, joinerNonce: digestOf(`${index}`).slice(0, 32) }),
  );
  assert.is(new Set(codes.map((code) => code[0])).size, 10);
  assert.is(new Set(codes).size, 2000);
});

test('only the nonce that was committed to opens the commitment', () => {
  const nonce = fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((bytes) => Buffer.from(bytes).toString('hex'));
  fc.assert(
    fc.property(nonce, nonce, (one, other) => {
      assert.ok(opensCommitment(commitNonce(one), one));
      assert.is(opensCommitment(commitNonce(one), other), one === other);
    }),
  );
  assert.not.ok(opensCommitment('', ''));
  assert.not.ok(opensCommitment(commitNonce('zz'), 'zz'));
});

test('a code is read as people type it', () => {
  for (const text of ['123456789', '123-456-789', ' 123 456 789 '])
    assert.is(parseShortCode(text), '123-456-789');
  for (const text of ['', '12345678', '1234567890', '12345678a'])
    assert.is(
      codeOf(() => parseShortCode(text)),
      'SF_USAGE',
    );
});

test.run();
