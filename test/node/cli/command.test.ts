import { homedir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { socketPath } from '../../../node/api/socket.ts';
import { type NodeCommand, parseNode } from '../../../node/cli/command.ts';
import { dataFolder } from '../../../node/cli/folder.ts';
import { placesOf } from '../../../node/cli/lifecycle.ts';
import { fields, nodeText, painter, table, tasksText } from '../../../node/cli/render.ts';
import { logFormatOf, type Session } from '../../../node/cli/session.ts';
import { folderPaths } from '../../../node/folder.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';

function commandOf(line: string): NodeCommand {
  const parsed = parseNode(line.split(' '), '9.9.9');
  if (parsed.kind !== 'command') throw new Error('a text');
  return parsed.command;
}

test('every command of the contract is understood', () => {
  const verbs =
    'join;join TOKEN --detach;start --slots 2;stop;status;leave;pause;pause 2h;resume;doctor'.split(';');
  for (const line of verbs) assert.is(commandOf(line).verb, line.split(' ')[0]);
  for (const line of ['task list', 'task run -- true', 'receipt verify f', 'receipt show abcdefghijkl']) {
    assert.is(
      commandOf(line).verb,
      line.split(' ').slice(0, 2).join(' '),
      'a submitter has the task verbs too',
    );
  }
});

test('join reads token, addresses and what the machine offers', () => {
  const line =
    'join abc --name m1 --port 0 --founder /ip4/10.0.0.1/tcp/4701 --slots 3 --label gpu=yes --policy idle --inhibit-sleep --cpu-weight 20 --memory-share 50% --owner ann --detach';
  assert.equal(commandOf(line), {
    verb: 'join',
    token: 'abc',
    mesh: null,
    owner: 'ann',
    founder: '/ip4/10.0.0.1/tcp/4701',
    slots: 3,
    labels: { gpu: 'yes' },
    policy: 'idle',
    inhibitSleep: true,
    cpuWeight: 20,
    memoryShare: '50%',
    name: 'm1',
    port: 0,
    user: null,
    detach: true,
    logLevel: null,
    logFormat: null,
    yes: false,
    start: true,
    service: false,
  });
});

test('pause takes a duration or none', () => {
  assert.equal(commandOf('pause 2h'), { verb: 'pause', ms: 7_200_000 });
  assert.equal(commandOf('pause'), { verb: 'pause', ms: null });
  try {
    commandOf('pause soon');
    assert.unreachable();
  } catch (thrown) {
    assert.is((thrown as SuperfleetError).code, 'SF_USAGE');
  }
});

const refusalOf = (line: string): SuperfleetError => {
  try {
    commandOf(line);
  } catch (thrown) {
    return thrown as SuperfleetError;
  }
  return assert.unreachable(line) as never;
};

test('models alone is what can be asked, and a word that it does not know is none of its commands', () => {
  for (const line of ['models', 'models all', '--dir /d models', 'models --json'])
    assert.is(commandOf(line).verb, 'models all', line);
  assert.is(commandOf('models list').verb, 'models list');
  const { code, message, expected } = refusalOf('models lst');
  assert.equal([code, message], ['SF_USAGE', 'mesh-node models has no command lst']);
  assert.is(expected, 'one of all, list, add, remove');
  assert.match(refusalOf('models all x').message, /got more words/);
});

test('the endpoint is told of, switched on with what is asked for, or off; nothing is asked of one that is not on', () => {
  const wish = (line: string) => {
    const command = commandOf(line);
    return command.verb === 'endpoint' ? command.wish : undefined;
  };
  assert.is(wish('endpoint'), null);
  assert.equal(wish('endpoint off'), { on: false, port: undefined, token: undefined });
  assert.equal(wish('endpoint on --port 4712 --token'), { on: true, port: 4712, token: true });
  assert.equal(wish('endpoint on --no-token'), { on: true, port: undefined, token: false });
  for (const line of [
    'endpoint maybe',
    'endpoint --port 5',
    'endpoint off --token',
    'endpoint on --port 70000',
  ])
    assert.is(refusalOf(line).code, 'SF_USAGE', line);
});

test('the data folder is what --dir says, else MESH_HOME, else the default of the user', () => {
  const at = { flag: null, env: {}, uid: 1000, home: '/home/ada', cwd: '/home/ada/work' };
  assert.is(dataFolder(at), '/home/ada/.local/share/superfleet');
  assert.is(dataFolder({ ...at, env: { XDG_DATA_HOME: '/data' } }), '/data/superfleet');
  assert.is(dataFolder({ ...at, env: { XDG_DATA_HOME: 'relative' } }), '/home/ada/.local/share/superfleet');
  assert.is(dataFolder({ ...at, uid: 0, env: { XDG_DATA_HOME: '/data' } }), '/var/lib/superfleet');
  assert.is(dataFolder({ ...at, uid: 0, env: { MESH_HOME: 'mesh' } }), '/home/ada/work/mesh');
  assert.is(dataFolder({ ...at, flag: 'other', env: { MESH_HOME: '/mesh' } }), '/home/ada/work/other');
  assert.is(socketPath('/d'), folderPaths('/d').apiSocket);
  assert.ok(join(homedir(), 'x'));
});

test('the log is text on a terminal, JSON elsewhere and under --json, and what was asked for in any case', () => {
  const at = (json: boolean, isTTY: boolean) =>
    ({ voice: { json }, terminal: { stderr: { isTTY } } }) as Session;
  assert.is(logFormatOf(null, at(false, true)), 'text');
  assert.is(logFormatOf(null, at(false, false)), 'json');
  assert.is(logFormatOf(null, at(true, true)), 'json');
  assert.is(logFormatOf('json', at(false, true)), 'json');
  assert.is(logFormatOf('text', at(true, false)), 'text');
});

test('addresses are told as people know them, loopback only where there is nothing else', () => {
  const loopback = '/ip4/127.0.0.1/tcp/4701/p2p/12D3KooW';
  assert.equal(placesOf([loopback, '/ip4/192.168.1.5/tcp/4701/p2p/12D3KooW', '/ip6/fd00::1/tcp/9']), [
    '192.168.1.5:4701',
    '[fd00::1]:9',
  ]);
  assert.equal(placesOf([loopback]), ['127.0.0.1:4701']);
  assert.equal(placesOf([]), []);
});

test('columns are aligned by their widest cell, colours not counted', () => {
  const text = table(
    ['A', 'LONGER'],
    [
      [painter(true)('x', 'red'), 'y'],
      ['longest', 'z'],
    ],
  );
  assert.equal(text.replace(/\x1b\[\d+m/g, '').split('\n'), ['A        LONGER', 'x        y', 'longest  z']);
});

test('nothing from outside reaches the terminal as a control, and absent values are shown as such', () => {
  const node = {
    id: 'id\x1b[2J',
    name: 'na\nme',
    owner: null,
    roles: ['wo\x07rker'],
    state: 'online' as const,
    code: null,
    slots: { used: 0, total: 1 },
    models: [],
    tools: { git: '2\x1b]0;pwned\x07' },
    labels: { 'a\u202e': 'b' },
    limits: null,
    policy: null,
    work: null,
    lag: null,
  };
  const text = nodeText(node, painter(false));
  assert.not.match(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
  assert.is(text.split('\n').length, 13);
  assert.match(text, /^owner +-$/m);
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (value) => {
      assert.not.match(fields([['x', value]]), /[\x00-\x1f\x7f-\x9f]/);
    }),
  );
});

test('a list without tasks is its head', () => {
  assert.match(tasksText([], painter(false)), /^ID +STATE/);
});

test.run();
