// limit: 400 s

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LOOKED } from '../../node/cli/lifecycle.ts';
import { isRoot, Mesh, run } from './mesh.ts';

const mesh = new Mesh();
const PORT = ['--port', '0'];
const unlooked = { [LOOKED]: '' };
const node = join(mesh.program, 'scripts/mesh-node');
test.after(() => mesh.close());

test('the first start looks first, and stops at a port that belongs to another program; the next start does not look', async () => {
  const server = createServer((socket) =>
    socket
      .on('error', () => {})
      .resume()
      .end('SSH-2.0-OpenSSH_9.2\r\n'),
  );
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const { port } = server.address() as { port: number };
  const init = await mesh.hub(['init', '--name', 'hub', '--recovery-key', join(mesh.home, 'recovery.key')]);
  assert.is(init.code, 0, init.stderr);
  const taken = await mesh
    .hub(['start', '--port', String(port)])
    .finally(() => new Promise((resolve) => server.close(resolve)));
  assert.is(taken.code, 6);
  assert.match(taken.stderr, /^looked at this machine; fine: node, sandbox, /m);
  assert.match(taken.stderr, new RegExp(`^FAIL  port +TCP ${port} belongs to another program$`, 'm'));
  assert.match(taken.stderr, /\(SF_PORT_IN_USE\)/);
  const first = await mesh.startFounder(PORT, unlooked);
  assert.match(first.log, /^\{"event":"doctor","able":true/m);
  await first.end('SIGTERM');
  const second = await mesh.startFounder(PORT, unlooked);
  assert.not.match(second.log, /"event":"doctor"/);
});

test('what is fine takes one line altogether when a machine joins in the background', async () => {
  const { token } = await mesh.json<{ token: string }>(['invite']);
  const done = await mesh.node('m1', ['join', token, '--name', 'm1', '--detach']);
  assert.is(done.code, 0, done.stderr);
  const looked = done.stderr.split('\n').filter((line) => line.startsWith('looked at this machine; fine: '));
  assert.is(looked.length, 1);
  assert.match(looked[0] ?? '', /node, sandbox, .*git, folder, disk, clock, founder, firewall$/);
  assert.is((await mesh.node('m1', ['stop'])).code, 0);
});

test('a founder that is not there ends the join with exit 3 before anything is made', async () => {
  const done = await mesh.node('m2', ['join', '--founder', '127.0.0.1:1']);
  assert.is(done.code, 3, done.stderr);
  assert.match(done.stderr, /^FAIL {2}founder +127\.0\.0\.1:1: the connection is refused/m);
  assert.match(done.stderr, /try: start the founder/);
  assert.is(existsSync(mesh.dir('m2')), false);
  assert.is((await mesh.node('m2', ['join', '--founder', 'a b'])).code, 2);
});

const asRoot = isRoot ? test : test.skip;
if (!isRoot) console.log('skipped: a covered bwrap and a full disk need mounts, which need root');

asRoot('a machine without a sandbox joins all the same, is told so, and offers no slot', async () => {
  const nothing = join(mesh.home, 'nothing');
  writeFileSync(nothing, '');
  const { token } = await mesh.json<{ token: string }>(['invite']);
  const script = 'mount --bind "$1" /usr/bin/bwrap && shift && exec "$@"';
  const argv = [node, '--dir', mesh.dir('m3'), 'join', token, '--name', 'm3', '--port', '0', '--detach'];
  const done = await run(['unshare', '--mount', 'sh', '-c', script, 'bare', nothing, ...argv]);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stderr, /^FAIL {2}sandbox +bubblewrap is not installed$/m);
  assert.match(done.stderr, /how: .*bubblewrap\n.*mesh-node doctor --fix$/m);
  assert.match(done.stderr, /^it joins all the same, and runs no tasks until that is mended$/m);
  const { slots } = await mesh.json<{ slots: { total: number } }>(['node', 'describe', 'm3']);
  assert.is(slots.total, 0);
  assert.is((await mesh.node('m3', ['stop'])).code, 0);
});

asRoot('a data folder on a full disk: said plainly with exit 6, and the token is still good', async () => {
  const disk = join(mesh.home, 'disk');
  mkdirSync(disk);
  const { token } = await mesh.json<{ token: string }>(['invite']);
  const script = 'mount -t tmpfs -o size=4m full "$1" && shift && exec "$@"';
  const argv = [node, '--dir', join(disk, 'data'), 'join', token, '--name', 'm4', '--port', '0'];
  const done = await run(['unshare', '--mount', 'sh', '-c', script, 'full', disk, ...argv]);
  assert.is(done.code, 6, done.stderr);
  assert.match(done.stderr, /\(SF_DISK_FULL\)/);
  assert.match(done.stderr, /--dir PATH/);
  const later = await mesh.joinWith('m4', token);
  await later.end('SIGTERM');
});

test.run();
