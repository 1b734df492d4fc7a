import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readPolicy } from '../../protocol/policy.ts';
import { knownPolicy } from '../../protocol/policy-schema.ts';
import { declined, longestMs, termsOf } from '../../protocol/terms.ts';

test('words about what a machine takes, what feeds it and what others do there are read', () => {
  assert.equal(readPolicy('on-mains,load=50%,kinds=code+command,submitters=ada+bo@lab'), [
    { kind: 'on-mains' },
    { kind: 'load', percent: 50 },
    { kind: 'kinds', kinds: ['command', 'code'] },
    { kind: 'submitters', names: ['ada', 'bo@lab'] },
  ]);
  for (const good of ['on-mains', 'load=1%', 'load=100%', 'kinds=code', 'submitters=ada']) {
    assert.ok(knownPolicy.safeParse(good).success, good);
  }
  for (const bad of [
    'on-mains=1',
    'load',
    'load=50',
    'load=0%',
    'load=101%',
    'kinds',
    'kinds=',
    'kinds=command+games',
    'submitters=',
    'submitters=ada+',
    'submitters=a:b',
  ]) {
    assert.not.ok(knownPolicy.safeParse(bad).success, bad);
  }
});

test('an owner’s terms and the mesh’s hold together: what both name is left', () => {
  assert.is(termsOf('idle,hours=18:00-08:00,on-mains'), null);
  assert.equal(termsOf('kinds=command+code,idle,kinds=code'), { kinds: ['code'] });
  assert.equal(termsOf('kinds=command,kinds=code'), { kinds: [] });
  assert.equal(termsOf('submitters=ada+bo,submitters=bo+cy'), { submitters: ['bo'] });
});

test('what is not accepted is said; where nobody names the submitter no list of names accepts him', () => {
  assert.is(declined(undefined, { kind: 'code', sender: null }), null);
  assert.is(declined({ kinds: ['code'] }, { kind: 'code', sender: null }), null);
  assert.match(
    declined({ kinds: ['code'] }, { kind: 'command', sender: null })!,
    /no task of kind command .*code/,
  );
  assert.match(declined({ kinds: [] }, { kind: 'code', sender: null })!, /none/);
  assert.is(declined({ submitters: ['ada'] }, { kind: 'code', sender: 'ada' }), null);
  assert.match(declined({ submitters: ['ada'] }, { kind: 'code', sender: 'bo' })!, /no task of bo/);
  assert.match(declined({ submitters: ['ada'] }, { kind: 'code', sender: null })!, /not named/);
});

test('an execution may take its own time-out and that of each check', () => {
  assert.is(longestMs({ timeoutMs: 1_000, checkTimeoutMs: 100, checks: ['a', 'b'] }), 1_200);
});

test.run();
