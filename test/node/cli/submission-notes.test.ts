import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { causeNote, quotedCommandNote } from '../../../node/cli/submission-notes.ts';

test('a command line in quotes is told apart from a program and its arguments', () => {
  assert.match(quotedCommandNote(['touch g']) ?? '', "sh -c 'touch g'");
  assert.is(quotedCommandNote(['touch', 'g h']), null);
  assert.is(quotedCommandNote(['make']), null);
});

test('output of a task that looked for a network says that it has none', () => {
  for (const tail of [
    'npm error code ENOTFOUND',
    'fatal: unable to access: Could not resolve host: example.org',
    'Temporary failure in name resolution',
    'connect: Network is unreachable',
    'npm error code ENOTCACHED',
    'ERROR: Could not find a version that satisfies the requirement six (from versions: none)',
    'main.go:3:8: module lookup disabled by GOPROXY=off',
    'attempting to make an HTTP request, but --offline was specified',
  ]) {
    assert.match(causeNote(tail) ?? '', 'has no network');
  }
  assert.is(causeNote('1 test failed'), null);
});

test.run();
