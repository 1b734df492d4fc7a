/** GETs by the owner's rules, of real servers on this machine. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { type AddressInfo, createServer as createNet, type Server } from 'node:net';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Fetched, fetcherOf } from '../../../node/environment/fetch.ts';
import { Folder } from '../sandbox/support.ts';

const listening = async <T extends Server>(server: T): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};
const never = new AbortController().signal;

interface Asked {
  url: string;
  headers: IncomingHttpHeaders;
}

/** A server and a fetcher whose owner allows `site.test` there, by its address. */
async function site(answer: RequestListener) {
  const asked: Asked[] = [];
  const server = createServer((message, response) => {
    asked.push({ url: message.url ?? '', headers: message.headers });
    answer(message, response);
  });
  const port = await listening(server);
  const resolved: string[] = [];
  const fetch = fetcherOf({
    allowed: [
      { host: 'site.test', ports: [port], addresses: ['127.0.0.1'] },
      { host: 'unnamed.test', ports: [port] },
      { host: '*.sites.test', ports: [port], addresses: ['127.0.0.1'] },
    ],
    resolve: async (host) => {
      resolved.push(host);
      return ['127.0.0.1'];
    },
  });
  return {
    asked,
    resolved,
    port,
    get: (url: string, signal = never): Promise<Fetched> =>
      fetch(new URL(url.replace('PORT', `${port}`)), signal),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

async function text({ body }: Fetched): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const refusal = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it was asked',
    (error: Error) => error.message,
  );

test('a page comes with its status and type, asked for by name, with nothing that tells who asks', async () => {
  await using there = await site((_, response) => {
    response.writeHead(203, { 'content-type': 'text/plain', 'set-cookie': 'id=1' }).end('a page');
  });
  for (let round = 0; round < 2; round += 1) {
    const page = await there.get('http://site.test:PORT/a?b=c#d');
    assert.equal([page.status, page.type, await text(page)], [203, 'text/plain', 'a page']);
  }
  assert.equal(
    there.asked.map(({ url }) => url),
    ['/a?b=c', '/a?b=c'],
  );
  for (const { headers } of there.asked) {
    assert.equal(Object.keys(headers).sort(), [
      'accept',
      'accept-encoding',
      'connection',
      'host',
      'user-agent',
    ]);
    assert.equal([headers.host, headers['user-agent']], [`site.test:${there.port}`, 'superfleet']);
  }
});

test('what the owner does not allow is not asked: hosts, ports, private addresses, credentials, other schemes', async () => {
  await using there = await site((_, response) => response.end('seen'));
  const cases: [string, RegExp][] = [
    ['http://other.test:PORT/', /other\.test is not among the hosts/],
    ['http://site.test.other.test:PORT/', /not among the hosts/],
    ['http://sites.test:PORT/', /not among the hosts/],
    ['http://127.0.0.1:PORT/', /127\.0\.0\.1 is not among the hosts/],
    ['http://2130706433:PORT/', /127\.0\.0\.1 is not among the hosts/],
    ['http://[::ffff:127.0.0.1]:PORT/', /not among the hosts/],
    ['http://site.test/', /at port \d+, not at 80/],
    ['https://site.test/', /at port \d+, not at 443/],
    ['http://unnamed.test:PORT/', /resolves to 127\.0\.0\.1, which is no public address/],
    ['http://a:b@site.test:PORT/', /a name or password/],
    ['file:///etc/passwd', /expected http: or https:/],
    ['ftp://site.test:PORT/', /expected http: or https:/],
  ];
  for (const [url, words] of cases) assert.match(await refusal(there.get(url)), words, url);
  assert.is(there.asked.length, 0);
  assert.equal(there.resolved, ['unnamed.test'], 'no name is resolved that may not be asked');
});

test('each redirect is judged as a request of its own, and they end', async () => {
  await using there = await site(({ url }, response) => {
    const to = decodeURIComponent(url?.slice(1) ?? '');
    if (to === 'end') response.end('the end');
    else response.writeHead(302, { location: to === 'round' ? '/round' : to }).end('on');
  });
  const via = (to: string): Promise<Fetched> => there.get(`http://site.test:PORT/${encodeURIComponent(to)}`);
  const page = await via(`//a.sites.test:${there.port}/end`);
  assert.equal([page.url.host, await text(page)], [`a.sites.test:${there.port}`, 'the end']);
  const before = there.asked.length;
  const cases: [string, RegExp][] = [
    ['http://127.0.0.1/latest/meta-data', /127\.0\.0\.1 is not among the hosts/],
    [`http://unnamed.test:${there.port}/end`, /no public address/],
    ['https://site.test/', /not at 443/],
    [`http://me:secret@site.test:${there.port}/end`, /a name or password/],
    ['file:///etc/passwd', /expected http: or https:/],
    ['http://[', /no address/],
  ];
  for (const [to, words] of cases) assert.match(await refusal(via(to)), words, to);
  assert.is(there.asked.length, before + cases.length);
  assert.match(await refusal(via('round')), /led on more than 5 times/);
  assert.is(there.asked.length, before + cases.length + 6);
});

test('a name is resolved once for each request, and the address that was looked at is the one asked', async () => {
  await using there = await site((_, response) => response.end('seen'));
  const answers = [['127.0.0.1'], ['169.254.169.254']];
  const fetch = fetcherOf({
    allowed: [{ host: 'rebound.test', ports: [there.port], addresses: ['127.0.0.1'] }],
    resolve: async () => answers.shift() ?? [],
  });
  const url = new URL(`http://rebound.test:${there.port}/`);
  assert.is(await text(await fetch(url, never)), 'seen');
  assert.match(await refusal(fetch(url, never)), /resolves to 169\.254\.169\.254, which is no public/);
  assert.match(await refusal(fetch(url, never)), /could not be resolved/);
  assert.is(there.asked.length, 1);
});

test('a signal ends a request that nothing answers; leaving a body that never ends closes its connection', async () => {
  let left!: () => void;
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  await using there = await site(({ url }, response) => {
    if (url === '/silent') return;
    const more = (): void =>
      void (response.destroyed || (response.write(Buffer.alloc(65_536, 'x')) && setImmediate(more)));
    response.on('drain', more).on('close', left);
    more();
  });
  const stop = new AbortController();
  const silent = refusal(there.get('http://site.test:PORT/silent', stop.signal));
  while (there.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
  stop.abort();
  assert.match(await silent, /broke off/);
  const endless = await there.get('http://site.test:PORT/endless');
  for await (const chunk of endless.body) {
    assert.ok(chunk.length > 0);
    break;
  }
  await gone;
});

test('what is no HTTP, a head without end and a connection that is cut are told, and hang nothing', async () => {
  const answers = [
    '220 smtp.example ready\r\n',
    `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(5000)}`,
    'HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
    '',
  ];
  const server = createNet((socket) => {
    socket
      .on('error', () => {})
      .resume()
      .end(answers.shift() ?? '');
  });
  const port = await listening(server);
  const fetch = fetcherOf({ allowed: [{ host: '127.0.0.1', ports: [port], addresses: ['127.0.0.1'] }] });
  while (answers.length > 0)
    assert.match(
      await refusal(fetch(new URL(`http://127.0.0.1:${port}/`), never)),
      /broke off|no answer|another protocol/,
    );
  await new Promise((done) => server.close(done));
});

test('https is asked for by a name that its certificate must hold', async () => {
  using folder = new Folder('fetch');
  const [key, cert] = [join(folder.path, 'key'), join(folder.path, 'cert')];
  const names = 'subjectAltName=DNS:site.test';
  const make = [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=site.test',
    '-addext',
    names,
  ];
  execFileSync('openssl', [...make, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const server = createSecure({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => {
    response.end('in private');
  });
  const port = await listening(server);
  const rule = { ports: [port], addresses: ['127.0.0.1'] };
  const fetch = fetcherOf({
    allowed: [
      { host: 'site.test', ...rule },
      { host: 'other.test', ...rule },
    ],
    resolve: async () => ['127.0.0.1'],
  });
  const system = getCACertificates('default');
  try {
    assert.match(await refusal(fetch(new URL(`https://site.test:${port}/`), never)), /self-signed/);
    setDefaultCACertificates([readFileSync(cert, 'utf8')]);
    assert.is(await text(await fetch(new URL(`https://site.test:${port}/`), never)), 'in private');
    assert.match(
      await refusal(fetch(new URL(`https://other.test:${port}/`), never)),
      /broke off: .*altnames/,
    );
  } finally {
    setDefaultCACertificates(system);
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});

test.run();
