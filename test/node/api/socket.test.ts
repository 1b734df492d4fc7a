import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createBaseApp, createMemberApp } from '../../../node/api/app.ts';
import { Client } from '../../../node/api/client.ts';
import type { NodeObject, OwnNodeObject, PolicyObject } from '../../../node/api/objects.ts';
import type { MemberPort } from '../../../node/api/port.ts';
import { serveApi } from '../../../node/api/server.ts';
import { listenOn, markPath, readMark, runFolder, socketPath } from '../../../node/api/socket.ts';
import { lives, markOf } from '../../../node/process-mark.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

async function inFolder(body: (dir: string) => Promise<void>, name = ''): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'sf-sock-'));
  const dir = join(root, name);
  mkdirSync(dir, { recursive: true });
  try {
    await body(dir);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError, String(thrown));
    return (thrown as SuperfleetError).code;
  }
  return 'accepted';
}

const client = (dir: string): Client => new Client({ dir, startHint: 'start it' });
const serve = (dir: string) =>
  serveApi(
    createBaseApp(() => {}),
    dir,
  );

test('the socket lies in a folder of this user alone, and is gone after close', () =>
  inFolder(async (dir) => {
    const socket = await serve(dir);
    assert.is(lstatSync(runFolder(dir)).mode & 0o777, 0o700);
    assert.is(lstatSync(socketPath(dir)).mode & 0o777, 0o600);
    assert.is((await client(dir).get<{ pid: number }>('/v1/process')).pid, process.pid);
    await socket.close();
    assert.not.ok(existsSync(socketPath(dir)));
    assert.is(readMark(dir), null);
  }));

test('a folder whose path is longer than a socket address is served all the same', () =>
  inFolder(
    async (dir) => {
      assert.ok(Buffer.byteLength(socketPath(dir)) > 107);
      const socket = await serve(dir);
      assert.is((await client(dir).get<{ pid: number }>('/v1/process')).pid, process.pid);
      await socket.close();
      assert.not.ok(existsSync(socketPath(dir)));
      assert.is(await codeOf(client(dir).get('/v1/process')), 'SF_UNREACHABLE');
    },
    `${'a'.repeat(90)}/${'b'.repeat(90)}`,
  ));

test('a socket left by a dead process is replaced; anything else in its place is not removed', () =>
  inFolder(async (dir) => {
    const first = createServer();
    await listenOn(first, dir);
    // As SIGKILL leaves it: the file is there and nobody listens.
    const path = socketPath(dir);
    await new Promise<void>((resolve) => first.close(() => resolve()));
    const stale = createServer();
    if (!existsSync(path)) await new Promise<void>((resolve) => stale.listen(path, resolve));
    const second = await serve(dir);
    assert.is((await client(dir).get<{ pid: number }>('/v1/process')).pid, process.pid);
    await second.close();
    stale.close();
    writeFileSync(path, 'a file');
    assert.is(await codeOf(serve(dir)), 'SF_FOLDER');
    assert.ok(existsSync(path));
  }));

test('a run folder that is a link is refused', () =>
  inFolder(async (dir) => {
    mkdirSync(join(dir, 'elsewhere'));
    symlinkSync(join(dir, 'elsewhere'), runFolder(dir));
    assert.is(await codeOf(serve(dir)), 'SF_FOLDER');
  }));

test('a run folder open to others is closed to them', () =>
  inFolder(async (dir) => {
    mkdirSync(runFolder(dir));
    chmodSync(runFolder(dir), 0o777);
    const socket = await serve(dir);
    assert.is(lstatSync(runFolder(dir)).mode & 0o777, 0o700);
    await socket.close();
  }));

test('a mark names one process, not whoever has its pid later', () => {
  const mark = markOf(process.pid);
  assert.ok(lives(mark));
  assert.not.ok(lives({ ...mark, started: '1' }));
  assert.not.ok(lives({ pid: 2 ** 22 + 1, started: null }));
});

test('a mark that is garbage, or of another account’s process, is not believed', () =>
  inFolder(async (dir) => {
    mkdirSync(runFolder(dir));
    for (const text of ['', '{', '{"pid":1}', '{"pid":-5}', '{"pid":"7"}', 'null']) {
      writeFileSync(markPath(dir), text);
      assert.is(readMark(dir), null, text);
    }
    writeFileSync(markPath(dir), JSON.stringify({ pid: process.pid, started: null }));
    assert.is(readMark(dir)?.pid, process.pid);
  }));

test('garbage and silence on the socket disturb nobody else', () =>
  inFolder(async (dir) => {
    const socket = await serve(dir);
    const silent = connect(socketPath(dir));
    const noisy = connect(socketPath(dir));
    noisy.on('error', () => {});
    const closed = new Promise<void>((resolve) => noisy.once('close', () => resolve()));
    noisy.resume();
    noisy.end(Buffer.alloc(100_000, '\x16\x03\x01 garbage'));
    await closed;
    assert.is((await client(dir).get<{ pid: number }>('/v1/process')).pid, process.pid);
    silent.destroy();
    await socket.close();
  }));

test('a member answers its owner itself and hands everything else on to the founder', () =>
  inFolder(async (dir) => {
    const calls: unknown[] = [];
    const port: MemberPort = {
      status: async () => ({ name: 'm1' }) as OwnNodeObject,
      copy: () => null,
      pause: async (ms) => void calls.push(['pause', ms]),
      resume: async () => void calls.push(['resume']),
      policy: async (test) => {
        calls.push(['policy', test]);
        return { policy: 'idle' } as PolicyObject;
      },
      setPolicy: async (policy) => {
        calls.push(['set', policy]);
        return { policy } as PolicyObject;
      },
      leave: async () => void calls.push(['leave']),
      models: async () => [],
      addModels: async (url) => ({ url, from: 'lent', speaks: null, models: [], fault: 'silent' }),
      removeModels: async (url) => void calls.push(['remove', url]),
      allModels: async () => [],
      endpoint: () => ({ on: false, url: null, port: 4711, token: null, fault: null }),
      setEndpoint: async ({ on, port = 4711 }) => ({ on, url: null, port, token: null, fault: null }),
      stop: () => void calls.push(['stop']),
      forward: async (request) => {
        const { pathname } = new URL(request.url);
        if (pathname === '/v1/status')
          throw new SuperfleetError('SF_UNREACHABLE', 'no session with the founder');
        return Response.json({ forwarded: pathname, body: await request.text() });
      },
    };
    const socket = await serveApi(createMemberApp(port), dir);
    const member = client(dir);
    assert.is((await member.get<NodeObject>('/v1/node')).name, 'm1');
    await member.post('/v1/node/pause', { ms: 1000 });
    assert.is(await codeOf(member.post('/v1/node/pause', { ms: 'soon' })), 'SF_USAGE');
    await member.post('/v1/node/resume');
    await member.post('/v1/node/leave');
    const url = 'http://10.0.0.1:11434/a b?';
    assert.equal(await member.get('/v1/node/models'), { items: [], next: null });
    assert.is((await member.post<{ fault: string }>('/v1/node/models', { url })).fault, 'silent');
    await member.json({ method: 'DELETE', path: `/v1/node/models?url=${encodeURIComponent(url)}` });
    assert.is(await codeOf(member.post('/v1/node/models', { address: url })), 'SF_USAGE');
    assert.equal(await member.get('/v1/node/models/all'), { items: [], next: null });
    assert.is((await member.get<{ on: boolean }>('/v1/node/endpoint')).on, false);
    assert.is((await member.post<{ port: number }>('/v1/node/endpoint', { on: true, port: 1 })).port, 1);
    assert.is(await codeOf(member.post('/v1/node/endpoint', { port: 1 })), 'SF_USAGE');
    assert.equal(calls, [['pause', 1000], ['resume'], ['leave'], ['remove', url]]);
    assert.equal(await member.post('/v1/tasks', { spec: 1 }), { forwarded: '/v1/tasks', body: '{"spec":1}' });
    assert.is(await codeOf(member.get('/v1/status')), 'SF_UNREACHABLE');
    await socket.close();
  }));

test.run();
