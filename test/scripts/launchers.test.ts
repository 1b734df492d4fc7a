import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { refusal } from '../../scripts/bin/node-version.js';

test('an old Node is refused in one sentence, or as JSON where that is asked for', () => {
  for (const version of ['18.20.0', '20.20.2', '22.17.1']) {
    const words = refusal('mesh-hub', version, ['status', '--', '--json']);
    assert.is(words, `mesh-hub needs Node.js 22.18 or newer, and this is ${version}.`);
    const { error } = JSON.parse(refusal('mesh-node', version, ['--json']) ?? '');
    assert.is(error.code, 'SF_NODE_VERSION');
    assert.is(error.got, version);
  }
});

test('the versions that can run it are not refused', () => {
  for (const version of ['22.18.0', '22.20.1', '24.0.0', '100.1.0']) {
    assert.is(refusal('mesh-hub', version, []), null);
  }
});

test.run();
