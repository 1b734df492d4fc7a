import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readPolicy, requirePolicy } from '../../protocol/policy.ts';
import { knownPolicy, policyText } from '../../protocol/policy-schema.ts';

const MIN = 60_000;

test('each condition is read from its word, and several by comma', () => {
  assert.equal(readPolicy('always'), [{ kind: 'always' }]);
  assert.equal(readPolicy('idle'), [{ kind: 'idle', ms: 5 * MIN }]);
  assert.equal(readPolicy('idle=10m'), [{ kind: 'idle', ms: 10 * MIN }]);
  assert.equal(readPolicy('hours=18:00-08:00'), [{ kind: 'hours', from: 1080, to: 480, days: null }]);
  assert.equal(readPolicy('hours=00:00-24:00@sat+sun'), [{ kind: 'hours', from: 0, to: 1440, days: [0, 6] }]);
  assert.equal(readPolicy('hours=09:30-17:05@fri-mon+wed'), [
    { kind: 'hours', from: 570, to: 1025, days: [0, 1, 3, 5, 6] },
  ]);
  assert.equal(
    readPolicy('idle,hours=18:00-08:00@mon-fri').map(({ kind }) => kind),
    ['idle', 'hours'],
  );
});

for (const bad of [
  '',
  'Idle',
  'idle,',
  'idle, always',
  'always=1',
  'idle=9s',
  'idle=25h',
  'idle=',
  'idle=soon',
  'hours',
  'hours=18-08',
  'hours=18:00-18:00',
  'hours=24:00-08:00',
  'hours=18:60-08:00',
  'hours=25:00-08:00',
  'hours=18:00-08:00@',
  'hours=18:00-08:00@monday',
  'hours=18:00-08:00@mon-',
  'hours=18:00-08:00@mon,fri',
  'hours=18:00-08:00 mon-fri',
  'mains',
  'x'.repeat(300),
]) {
  test(`${JSON.stringify(bad.slice(0, 40))} is refused, naming what was expected`, () => {
    assert.throws(
      () => requirePolicy(bad),
      (error: { code: string; expected: string }) =>
        error.code === 'SF_USAGE' && /always, idle, idle=DURATION/.test(error.expected),
    );
    assert.is(knownPolicy.safeParse(bad).success, false);
  });
}

test('what is spelled as a policy and says what this release does not know can be held, and is unknown', () => {
  assert.is(policyText.safeParse('mains,idle').success, true);
  assert.equal(readPolicy('mains')[0], { kind: 'unknown', word: 'mains' });
  assert.is(policyText.safeParse('not a policy').success, false);
});

test('no policy needs quotes in a shell', () => {
  for (const good of ['always', 'idle=10m', 'hours=18:00-08:00@mon-fri+sun', 'idle,hours=00:00-24:00']) {
    assert.is(requirePolicy(good), good);
    assert.match(good, /^[A-Za-z0-9=:,@+-]+$/);
  }
});

test.run();
