import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { programWords } from '../../../node/service/program.ts';

const words = (node: string, script: string, files: string[] = []): string[] =>
  programWords('mesh-node', { node, script, isFile: (path) => files.includes(path) });

test('a clone with its pinned Node is started by its launcher', () => {
  const launcher = '/srv/my clone/scripts/mesh-node';
  const node = '/srv/my clone/node_modules/node/bin/node';
  assert.equal(words(node, '/srv/my clone/hub/mesh-node.js', [launcher]), [launcher]);
  const hub = programWords('mesh-hub', { node, script: '/srv/my clone/hub/cli.js', isFile: () => true });
  assert.equal(hub, ['/srv/my clone/scripts/mesh-hub']);
});

test('a clone run by another Node is started by that Node, which no launcher may find at boot', () => {
  const script = '/srv/clone/hub/mesh-node.js';
  assert.equal(words('/opt/node/bin/node', script, ['/srv/clone/scripts/mesh-node']), [
    '/opt/node/bin/node',
    script,
  ]);
});

test('what was installed is started by the Node that runs it, whatever the PATH is at boot', () => {
  const script = '/usr/local/lib/superfleet/app/scripts/bin/mesh-node.js';
  const node = '/usr/local/lib/superfleet/node/bin/node';
  assert.equal(words(node, script), [node, script]);
});

test.run();
