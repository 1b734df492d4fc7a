import { spawnSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { launchdPlist } from '../../../node/service/launchd.ts';
import { readMarkLine, type ServiceSpec } from '../../../node/service/types.ts';

// No Mac runs these tests: what is shown is that the file is a property list and says what was meant.

const spec: ServiceSpec = {
  bin: 'mesh-node',
  program: ['/usr/local/bin/node', '/Users/ann/über <x> & y/mesh-node.js'],
  dir: '/Users/ann/Library/Application Support/superfleet--2',
  beside: [],
  flags: [],
  scope: 'user',
};

const READ =
  'import json,plistlib,sys; print(json.dumps(plistlib.loads(sys.stdin.buffer.read(), fmt=plistlib.FMT_XML)))';
const python = spawnSync('python3', ['--version']).status === 0;
if (!python) console.log('skipped: property lists are read by python3, which is not here');

(python ? test : test.skip)(
  'the property list of agent and daemon is one, and has the command word by word',
  () => {
    for (const scope of ['user', 'system'] as const) {
      const input = launchdPlist({ ...spec, scope });
      const read = spawnSync('python3', ['-c', READ], { input, encoding: 'utf8' });
      assert.is(read.status, 0, read.stderr);
      const list = JSON.parse(read.stdout) as Record<string, unknown>;
      assert.is(list.Label, 'org.superfleet.node');
      assert.equal(list.ProgramArguments, [...spec.program, '--dir', spec.dir, 'start']);
      assert.equal(list.KeepAlive, { SuccessfulExit: false });
      assert.is(list.RunAtLoad, true);
      assert.is(list.Umask, 0o077);
    }
  },
);

test('it says that it is untested, and whose it is', () => {
  const text = launchdPlist(spec);
  assert.match(text, /Untested/);
  assert.equal(readMarkLine(text), { bin: spec.bin, dir: spec.dir });
  const comments = [...text.matchAll(/<!--(.*?)-->/gs)].map(([, inside]) => inside ?? '');
  assert.is(comments.length, 2);
  assert.not.ok(
    comments.some((inside) => inside.includes('--')),
    'XML allows no double hyphen in a comment',
  );
});

test('a path that XML cannot carry is refused', () => {
  assert.throws(() => launchdPlist({ ...spec, dir: '/Users/\u0007' }), /cannot carry/);
});

test.run();
