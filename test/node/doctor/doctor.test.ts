import { createServer } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { diskFree, measureCapacity } from '../../../node/doctor/capacity.ts';
import { check, isAble, renderChecks } from '../../../node/doctor/check.ts';
import {
  clockCheck,
  diskCheck,
  founderPort,
  limitsCheck,
  nodeVersion,
  runDoctor,
  sandboxCheck,
} from '../../../node/doctor/doctor.ts';
import { modelServers, parseModels } from '../../../node/doctor/models.ts';
import { multicastInterfaces, question } from '../../../node/doctor/multicast.ts';
import { founderAddress, reachFounder } from '../../../node/doctor/reach.ts';
import { parseVersions, toolVersions } from '../../../node/doctor/tools.ts';
import { dropPrivileges } from '../../../node/privileges.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { probe } from '../../../node/sandbox/probe.ts';
import { capacity as capacitySchema } from '../../../protocol/session.ts';

await dropPrivileges();
const sandbox = createSandbox();

test('every check says what was found, what it is for, and what to do about a lack', async () => {
  const checks = await runDoctor({ dir: '/no/such/folder/yet', founder: '127.0.0.1:1' });
  const names = checks.map(({ name }) => name);
  for (const name of [
    'Node',
    'sandbox',
    'seccomp',
    'limits',
    'user',
    'git',
    'tools',
    'models',
    'multicast',
    'founder’s port',
    'founder',
    'disk',
    'clock',
  ]) {
    assert.ok(names.includes(name), name);
  }
  for (const { name, status, found, why, fix, ok, required } of checks) {
    assert.ok(found !== '' && why !== '', name);
    assert.is(fix === null, status === 'ok', name);
    assert.is(ok, status === 'ok');
    assert.is(required, status === 'fail');
  }
  const of = (name: string) => checks.find((one) => one.name === name);
  assert.is(of('sandbox')?.status, 'ok', of('sandbox')?.found);
  assert.match(of('git')?.found ?? '', /^\d+\.\d+/);
  assert.is(of('founder')?.status, 'warn');
});

test('one failing check makes the machine unable, a warning does not', () => {
  const fine = check({ name: 'a', status: 'ok', found: 'x', why: 'y', fix: 'never shown' });
  const note = check({ name: 'bb', status: 'warn', found: 'x', why: 'y', fix: 'do it\nthus' });
  const fail = check({ name: 'c', status: 'fail', found: 'x', why: 'y', fix: null });
  assert.is(isAble([fine, note]), true);
  assert.is(isAble([fine, note, fail]), false);
  const text = renderChecks([fine, note]);
  assert.not.match(text, 'never shown');
  assert.match(text, /^note {2}bb {2}x\n +y\n +do it\n +thus$/m);
  assert.match(text, /This machine can run tasks\.$/);
  assert.match(renderChecks([fail]), /cannot run tasks yet\.$/);
});

test('an old Node, a full disk, a wrong clock and a missing sandbox are told apart', () => {
  assert.is(nodeVersion('20.20.2').status, 'fail');
  assert.is(nodeVersion('22.17.9').status, 'fail');
  assert.is(nodeVersion('22.18.0').status, 'ok');
  assert.is(nodeVersion('24.0.0').status, 'ok');
  assert.is(diskCheck(100).status, 'fail');
  assert.is(diskCheck(2 ** 30).status, 'warn');
  assert.is(diskCheck(2 ** 40).status, 'ok');
  assert.is(diskCheck(null).status, 'fail');
  assert.is(clockCheck(0).status, 'warn');
  const limitKinds = { memory: 'watched', processes: 'nproc', disk: 'watched' } as const;
  assert.is(limitsCheck({ limitKinds }, false).status, 'warn');
  assert.is(limitsCheck({ limitKinds }, true).status, 'ok');
  const lacks = [{ what: 'bubblewrap is not installed', remedy: 'sudo apt install bubblewrap' }];
  const lacking = sandboxCheck({ works: false, limitKinds, bwrap: null, kernel: '6.1', lacks });
  assert.is(lacking.status, 'fail');
  assert.match(lacking.fix ?? '', 'apt install');
});

test('the founder’s port is free, or in use by somebody', async () => {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  assert.match((await founderPort(port)).found, /in use/);
  let says = (socket: Socket): unknown => socket.write('SSH-2.0-OpenSSH_9.2\r\nand more');
  server.on('connection', (socket) => {
    says(socket);
    socket.resume().on('error', () => {});
  });
  assert.match((await reachFounder(`127.0.0.1:${port}`)).found, /something else answers/);
  // libp2p's greeting is answered by the same one.
  says = (socket) => socket.pipe(socket);
  assert.is((await reachFounder(`127.0.0.1:${port}`)).status, 'ok');
  await new Promise((resolve) => server.close(resolve));
  assert.match((await founderPort(port)).found, /free/);
  assert.is((await reachFounder(`/ip4/127.0.0.1/tcp/${port}`)).status, 'warn');
});

test('a founder’s address is a host, a host and port, or a TCP multiaddr', () => {
  assert.equal(founderAddress('10.0.0.7'), { host: '10.0.0.7', port: 4701 });
  assert.equal(founderAddress('box.local:99'), { host: 'box.local', port: 99 });
  assert.equal(founderAddress('[fe80::1]:99'), { host: 'fe80::1', port: 99 });
  assert.equal(founderAddress('/ip4/10.0.0.7/tcp/4701/p2p/12D3KooW'), { host: '10.0.0.7', port: 4701 });
  for (const bad of ['', '/ip4/10.0.0.7/udp/1', 'a:99999', 'a b', 'http://x:1/'])
    assert.is(founderAddress(bad), null);
});

test('models are read from both forms of answer, and from nothing else', () => {
  assert.equal(parseModels('{"models":[{"name":"a:7b"},{"name":"a:7b"},{"name":"b"}]}'), ['a:7b', 'b']);
  assert.equal(parseModels('{"object":"list","data":[{"id":"m","object":"model"}]}'), ['m']);
  for (const bad of ['', '<html>', '[]', '{"models":"x"}', '{"data":[{"id":7}]}'])
    assert.is(parseModels(bad), null);
});

test('a model server on loopback is found, one that never ends its answer is given up', async () => {
  const server = createServer((asked, answer) => {
    if (asked.url === '/v1/models') answer.end('{"data":[{"id":"tiny"}]}');
    else answer.write('[');
  });
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(1234, '127.0.0.1', () => resolve(true));
  });
  if (!free) return console.log('skipped: port 1234 is in use');
  const stuck = createServer((_, answer) => answer.write('['));
  const second = await new Promise<boolean>((resolve) => {
    stuck.once('error', () => resolve(false));
    stuck.listen(8000, '127.0.0.1', () => resolve(true));
  });
  const found = await modelServers();
  assert.equal(
    found.filter(({ port }) => port === 1234),
    [{ name: 'LM Studio', port: 1234, models: ['tiny'] }],
  );
  if (second) assert.not.ok(found.some(({ port }) => port === 8000));
  for (const one of [server, stuck]) {
    one.closeAllConnections();
    await new Promise((resolve) => one.close(resolve));
  }
});

test('versions are the tools’ own, as the sandbox shows them', async () => {
  assert.equal(
    parseVersions(
      'git git version 2.39.5\nnode v20.1.0\nmake \nevil 9.9\njava openjdk version "17.0.15" 2025\ngo go version go1.22.1 linux/amd64\n',
    ),
    { git: '2.39.5', node: '20.1.0', java: '17.0.15', go: '1.22.1' },
  );
  const tools = await toolVersions(sandbox);
  assert.match(tools.perl ?? '', /^\d+\.\d+\.\d+$/);
  assert.match(tools.git ?? '', /^2\./);
});

test('a query sent out of each interface is heard again, or the reason is given', async () => {
  for (const { address, fault } of await multicastInterfaces()) {
    assert.match(address, /^\d+\.\d+\.\d+\.\d+$/);
    assert.ok(fault === null || fault.length > 0);
  }
  assert.is(
    question('ab.local').toString('hex'),
    '00000000000100000000000002616205' + '6c6f63616c' + '00000c0001',
  );
});

test('capacity is measured and of the form the session speaks (promise 20)', async () => {
  const report = await probe(sandbox);
  const measured = await measureCapacity({ dir: '/tmp', report, sandbox, labels: { gpu: 'no' } });
  assert.equal(capacitySchema.parse(measured), measured);
  assert.is(measured.sandbox, 'bubblewrap');
  assert.ok(measured.slots >= 1 && measured.slots <= measured.cpus);
  assert.ok(measured.diskFreeBytes > 0 && measured.diskFreeBytes === Math.floor(measured.diskFreeBytes));
  assert.ok(Object.keys(measured.tools).length > 0);
  assert.is((await measureCapacity({ dir: '/tmp', report, slots: 3, ownerPaused: true })).slots, 3);
  assert.ok((diskFree('/tmp/no/such/folder') ?? 0) > 0);
});

test('a machine without a working sandbox offers no slot (promise 14)', async () => {
  const report = { ...(await probe(sandbox)), works: false };
  const measured = await measureCapacity({ dir: '/tmp', report, sandbox, slots: 8 });
  assert.is(measured.slots, 0);
  assert.is(measured.sandbox, null);
  assert.equal(measured.limits, { memory: 'none', processes: 'none', disk: 'none' });
  assert.equal(measured.tools, {});
});

test.run();
