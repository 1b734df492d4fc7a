import { spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { diskFree, measureCapacity } from '../../../node/doctor/capacity.ts';
import { examine, look, portOf } from '../../../node/doctor/doctor.ts';
import { stranger } from '../../../node/doctor/introduce.ts';
import { modelServers, parseModels } from '../../../node/doctor/models.ts';
import { multicast, question } from '../../../node/doctor/multicast.ts';
import { reach } from '../../../node/doctor/reach.ts';
import { CHECKS } from '../../../node/doctor/table.ts';
import { parseVersions, toolVersions } from '../../../node/doctor/tools.ts';
import { dropPrivileges } from '../../../node/privileges.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { probe } from '../../../node/sandbox/probe.ts';
import { SANDBOX_PATH } from '../../../node/sandbox/profile.ts';
import { capacity as capacitySchema } from '../../../protocol/session.ts';

await dropPrivileges();
const sandbox = createSandbox();

test('every check says what, why and how, on a machine without a data folder (issue 3: every line says what, why, how)', async () => {
  const findings = await examine({ bin: 'mesh-hub', dir: '/no/such/folder/yet', founders: ['127.0.0.1:1'] });
  const checks = new Set(findings.map(({ check }) => check));
  for (const check of CHECKS) assert.ok(checks.has(check.check), check.check);
  for (const { check, finding, status, what, why, how, stops } of findings) {
    assert.ok(what !== '' && why !== '' && finding.startsWith(`${check}/`), check);
    assert.is(how === null, status === 'ok', check);
    assert.is(stops !== null, status === 'fail', check);
  }
  const of = (name: string) => findings.find(({ check }) => check === name);
  assert.is(of('sandbox')?.status, 'ok', of('sandbox')?.what);
  assert.match(of('git')?.what ?? '', /^git \d+\.\d+/);
  assert.is(of('founder')?.finding, 'founder/refused');
});

test('a brief look asks no tool, no model and nobody who he is, and meets the same founder', async () => {
  const facts = await look({
    bin: 'mesh-node',
    dir: '/tmp',
    founders: ['127.0.0.1:1'],
    brief: true,
    mdns: false,
  });
  assert.is(facts.tools, null);
  assert.is(facts.models, null);
  assert.is(facts.multicast, null);
  assert.is(facts.port, null);
  assert.is(facts.founder?.places[0]?.outcome, 'refused');
  assert.is(facts.sandbox.works, true);
});

test('the founder’s port is free, or in use by somebody; a founder’s address answers, or another program does', async () => {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  let says = (socket: Socket): unknown => socket.write('SSH-2.0-OpenSSH_9.2\r\nand more');
  server.on('connection', (socket) => {
    says(socket);
    socket.resume().on('error', () => {});
  });
  const nobody = { mesh: null, introduce: null };
  const outcome = async (place: string) => (await reach(place, nobody)).outcome;
  assert.is(await outcome(`127.0.0.1:${port}`), 'another-program');
  assert.is((await portOf(port, null)).holder?.outcome, 'another-program');
  // libp2p's greeting is answered by the same one.
  says = (socket) => socket.pipe(socket);
  assert.is(await outcome(`localhost:${port}`), 'answers');
  says = (socket) => socket.end();
  assert.is(await outcome(`/ip4/127.0.0.1/tcp/${port}`), 'silent');
  await new Promise((resolve) => server.close(resolve));
  assert.equal(await portOf(port, null), { port, fault: null, holder: null });
  assert.is(await outcome(`/ip4/127.0.0.1/tcp/${port}`), 'refused');
  assert.is(await outcome('no-such-name.invalid:1'), 'no-name');
  assert.is(await outcome('http://x:1/'), 'no-address');
});

test('whoever answers is asked whose founder he is: another mesh is told apart, and a machine that is none', async () => {
  const server = createTcpServer((socket) => {
    socket.pipe(socket).on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const mesh = 'a'.repeat(64);
  const introduce = async () => ({ mesh, name: 'home' });
  const place = `127.0.0.1:${port}`;
  assert.equal((await reach(place, { mesh, introduce })).mesh, { id: mesh, name: 'home' });
  assert.is((await reach(place, { mesh: 'b'.repeat(64), introduce })).outcome, 'another-mesh');
  assert.is((await reach(place, { mesh, introduce: async () => 'no-founder' })).outcome, 'no-founder');
  // An echo greets as libp2p does and cannot prove a key.
  const { introduce: ask, close } = await stranger();
  assert.is(await ask([`/ip4/127.0.0.1/tcp/${port}`]), 'silent');
  await close();
  await new Promise((resolve) => server.close(resolve));
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
  // Its version is read, not asked, and is the same.
  const npm = spawnSync('npm', ['--version'], { env: { PATH: SANDBOX_PATH }, encoding: 'utf8' });
  if (npm.status === 0) assert.is(tools.npm, npm.stdout.trim());
});

test('a question sent out of each interface is heard again, or the reason is given', async () => {
  const { interfaces } = await multicast({ listenMs: 0 });
  for (const { address, fault } of interfaces) {
    assert.match(address, /^\d+\.\d+\.\d+\.\d+$/);
    assert.ok(fault === null || fault.length > 0);
  }
  assert.is(
    question('ab.local').subarray(2).toString('hex'),
    '00000001000000000000' + '026162056c6f63616c00000c0001',
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
