import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer, type Server as NetServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type HttpProxy,
  type ProxyEvent,
  type ProxyOptions,
  startProxy,
} from '../../../node/environment/proxy.ts';
import { Folder } from '../sandbox/support.ts';

const portOf = (server: Server | NetServer): number => (server.address() as AddressInfo).port;

async function listening<T extends Server | NetServer>(server: T): Promise<T> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** A proxy whose owner allows `site.test` on this machine at that port, and what it told. */
class Setting implements AsyncDisposable {
  readonly folder = new Folder('proxy');
  readonly events: ProxyEvent[] = [];
  proxy!: HttpProxy;
  resolved: string[] = [];
  #waiting: (() => void)[] = [];

  static async open(port: number, more: Partial<ProxyOptions> = {}): Promise<Setting> {
    const setting = new Setting();
    setting.proxy = await startProxy({
      folder: setting.folder.path,
      allowed: [
        { host: 'site.test', ports: [port], addresses: ['127.0.0.1'] },
        { host: 'public.test', ports: [port] },
      ],
      onEvent: (event) => {
        setting.events.push(event);
        for (const wake of setting.#waiting.splice(0)) wake();
      },
      resolve: async (host) => {
        setting.resolved.push(host);
        return ['127.0.0.1'];
      },
      ...more,
    });
    return setting;
  }

  async event(at: number): Promise<ProxyEvent> {
    while (this.events.length <= at) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.events[at]!;
  }

  /** Status and, for a refusal, the sentence; for a tunnel, its socket. */
  async connect(target: string): Promise<{ status: number; body: string; socket: Socket }> {
    const asked = request({ socketPath: this.proxy.socket, method: 'CONNECT', path: target, agent: false });
    asked.end();
    const [answer, socket, head] = (await once(asked, 'connect')) as [IncomingMessage, Socket, Buffer];
    const status = answer.statusCode ?? 0;
    socket.on('error', () => {});
    return { status, body: status === 200 ? '' : `${head}${await text(socket)}`, socket };
  }

  async get(
    url: string,
    headers: Record<string, string> = {},
    body?: string,
  ): Promise<{ status: number; body: string; headers: IncomingMessage['headers'] }> {
    const asked = request({
      socketPath: this.proxy.socket,
      path: url,
      method: body === undefined ? 'GET' : 'POST',
      headers,
      agent: false,
    });
    asked.end(body);
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    return { status: answer.statusCode ?? 0, body: await text(answer), headers: answer.headers };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy.close();
    assert.not(existsSync(this.proxy.socket));
    assert.equal(readdirSync(this.folder.path), []);
    this.folder[Symbol.dispose]();
  }
}

/** By an error or not. */
const ended = (socket: Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()));

async function echo(): Promise<NetServer> {
  return listening(
    createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket)),
  );
}

test('a tunnel to a host the owner named with its address carries both ways, half-closed too, and is counted', async () => {
  const server = await echo();
  await using setting = await Setting.open(portOf(server));
  const { status, socket } = await setting.connect(`site.test:${portOf(server)}`);
  assert.is(status, 200);
  assert.is(statSync(setting.proxy.socket).mode & 0o777, 0o600);
  const big = Buffer.alloc(3_000_000, 'abc');
  socket.end(big);
  const back: Buffer[] = [];
  for await (const chunk of socket) back.push(chunk as Buffer);
  assert.ok(Buffer.concat(back).equals(big));
  assert.equal(await setting.event(0), {
    kind: 'closed',
    host: 'site.test',
    port: portOf(server),
    sentBytes: big.length,
    receivedBytes: big.length,
  });
  server.close();
});

test('a plain request is forwarded with the host that was admitted and no header of one connection', async () => {
  const seen: IncomingMessage[] = [];
  const bodies: string[] = [];
  const server = await listening(
    createHttp(async (message, response) => {
      seen.push(message);
      bodies.push(await text(message));
      response.writeHead(201, { 'x-answer': 'yes', connection: 'x-hop, close', 'x-hop': 'secret' });
      response.end('the answer');
    }),
  );
  const port = portOf(server);
  await using setting = await Setting.open(port);
  const answer = await setting.get(`http://site.test:${port}/a/b?c=d`, {
    host: 'other.test',
    'proxy-authorization': 'x',
    'x-own': '1',
    connection: 'x-drop',
    'x-drop': '2',
  });
  assert.is(answer.status, 201);
  assert.is(answer.body, 'the answer');
  assert.is(answer.headers['x-answer'], 'yes');
  assert.is(answer.headers['x-hop'], undefined);
  assert.is(seen[0]?.url, '/a/b?c=d');
  assert.is(seen[0]?.headers.host, `site.test:${port}`);
  assert.is(seen[0]?.headers['x-own'], '1');
  assert.is(seen[0]?.headers['x-drop'], undefined);
  assert.is(seen[0]?.headers['proxy-authorization'], undefined);
  await setting.get(`http://site.test:${port}/`, { 'transfer-encoding': 'chunked' }, 'sent in pieces');
  assert.equal(bodies, ['', 'sent in pieces']);
  const closed = await setting.event(1);
  assert.ok(closed.kind === 'closed' && closed.receivedBytes > 0 && closed.sentBytes > 0);
  server.close();
});

test('what is not allowed is refused with 403 and a sentence, and no name of it is resolved', async () => {
  const server = await echo();
  const port = portOf(server);
  await using setting = await Setting.open(port);
  for (const [target, sentence] of [
    [`evil.test:${port}`, /evil\.test is not among the hosts.*owner of this machine may allow it/],
    ['site.test:22', /not at 22; the owner of this machine may allow that port/],
    [`127.0.0.1:${port}`, /127\.0\.0\.1 is not among/],
    [`[::ffff:127.0.0.1]:${port}`, /is not among/],
  ] as [string, RegExp][]) {
    const { status, body } = await setting.connect(target);
    assert.is(status, 403, target);
    assert.match(body, sentence);
  }
  const plain = await setting.get(`http://evil.test:${port}/`);
  assert.is(plain.status, 403);
  assert.match(plain.body, /evil\.test/);
  assert.equal(setting.resolved, []);
  assert.ok(setting.events.length === 5 && setting.events.every((event) => event.kind === 'refused'));
  assert.is((await setting.connect('nonsense')).status, 400);
  assert.is((await setting.get('/path')).status, 400);
  assert.is((await setting.get('ftp://site.test/')).status, 400);
  server.close();
});

test('a name that resolves to an address that is not public is refused, whatever the form', async () => {
  let connected = 0;
  const server = await listening(
    createServer(() => {
      connected += 1;
    }),
  );
  const port = portOf(server);
  for (const address of [
    '127.0.0.1',
    '::1',
    '::ffff:127.0.0.1',
    '10.0.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '64:ff9b::7f00:1',
    'fe80::1%lo',
    '0.0.0.0',
    'localhost',
  ]) {
    await using setting = await Setting.open(port, { resolve: async () => [address] });
    const { status, body } = await setting.connect(`public.test:${port}`);
    assert.is(status, 403, address);
    assert.match(body, /naming both the host and the address/);
    const event = setting.events[0];
    assert.ok(event?.kind === 'refused' && event.refusal.reason === 'address');
  }
  assert.is(connected, 0);
  server.close();
});

test('a host is resolved once, and the address that was looked at is the one connected to (DNS rebinding)', async () => {
  const server = await echo();
  const port = portOf(server);
  let asked = 0;
  await using setting = await Setting.open(port, {
    // The second answer would be another machine: with one look-up it is never seen.
    resolve: async () => {
      asked += 1;
      return [asked === 1 ? '127.0.0.1' : '127.0.0.2'];
    },
  });
  const { status, socket } = await setting.connect(`site.test:${port}`);
  assert.is(status, 200);
  assert.is(asked, 1);
  socket.destroy();
  assert.is((await setting.connect(`site.test:${port}`)).status, 403);
  server.close();
});

test('a name that does not resolve in time, or a host that does not answer, is a 502', async () => {
  const server = await echo();
  const port = portOf(server);
  await using slow = await Setting.open(port, { resolve: () => new Promise(() => {}), connectMs: 20 });
  assert.match((await slow.connect(`site.test:${port}`)).body, /could not be resolved/);
  await using none = await Setting.open(port, { resolve: () => Promise.reject(new Error('ENOTFOUND')) });
  assert.is((await none.connect(`site.test:${port}`)).status, 502);
  const closed = new Promise((resolve) => server.close(resolve));
  await closed;
  await using gone = await Setting.open(port);
  const { status, body } = await gone.connect(`site.test:${port}`);
  assert.is(status, 502);
  assert.match(body, /does not answer/);
});

test('connections, bytes and idle time are bounded (promise 18)', async () => {
  const server = await echo();
  const port = portOf(server);
  await using few = await Setting.open(port, { connectionsMax: 2 });
  const held = [await few.connect(`site.test:${port}`), await few.connect(`site.test:${port}`)];
  const third = await few.connect(`site.test:${port}`);
  assert.is(third.status, 503);
  assert.match(third.body, /At most 2/);
  held[0]?.socket.destroy();
  await few.event(1);
  assert.is((await few.connect(`site.test:${port}`)).status, 200);

  await using small = await Setting.open(port, { bytesMax: 100_000 });
  const { socket } = await small.connect(`site.test:${port}`);
  socket.write(Buffer.alloc(1_000_000));
  socket.resume();
  await ended(socket);
  const spent = await small.event(0);
  assert.ok(spent.kind === 'closed' && spent.sentBytes < 1_000_000);
  const after = await small.connect(`site.test:${port}`);
  assert.is(after.status, 403);
  assert.match(after.body, /used up/);

  await using idle = await Setting.open(port, { idleMs: 30 });
  const quiet = await idle.connect(`site.test:${port}`);
  quiet.socket.resume();
  await ended(quiet.socket);
  assert.is((await idle.event(0)).kind, 'closed');
  server.close();
});

test('a client that goes away ends its way, and a server that breaks off ends the client', async () => {
  const sockets: Socket[] = [];
  const server = await listening(
    createServer((socket) => void sockets.push(socket.on('error', () => {}).resume())),
  );
  const port = portOf(server);
  await using setting = await Setting.open(port);
  const one = await setting.connect(`site.test:${port}`);
  one.socket.destroy();
  assert.is((await setting.event(0)).kind, 'closed');
  const two = await setting.connect(`site.test:${port}`);
  two.socket.resume();
  sockets[1]?.resetAndDestroy();
  await ended(two.socket);
  server.close();
});

test('garbage gets an answer or an end, and the proxy goes on', async () => {
  const server = await echo();
  const port = portOf(server);
  await using setting = await Setting.open(port);
  for (const bytes of [
    '\0\0\0',
    'GET\r\n\r\n',
    `CONNECT site.test:${port} HTTP/1.1\r\n\r\n`,
    `GET http://${'a'.repeat(40_000)}/ HTTP/1.1\r\n\r\n`,
    'CONNECT a:99999 HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET http://u:p@evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n',
  ]) {
    const socket = connect(setting.proxy.socket);
    socket.on('error', () => {});
    socket.end(bytes);
    await text(socket).catch(() => '');
  }
  const { status, socket } = await setting.connect(`site.test:${port}`);
  assert.is(status, 200);
  socket.destroy();
  server.close();
});

test('a socket whose path is longer than the kernel takes is reached through its folder', async () => {
  const server = await echo();
  const folder = new Folder('proxy');
  const deep = join(folder.path, 'd'.repeat(100));
  await import('node:fs/promises').then(({ mkdir }) => mkdir(deep));
  const proxy = await startProxy({ folder: deep, allowed: [], onEvent: () => {} });
  assert.ok(existsSync(proxy.socket));
  await proxy.close();
  assert.not(existsSync(proxy.socket));
  folder[Symbol.dispose]();
  server.close();
});

test.run();
