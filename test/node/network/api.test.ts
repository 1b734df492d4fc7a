import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { forwardRequest } from '../../../node/network/api-client.ts';
import { serveRequests } from '../../../node/network/api-server.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import { exchangeLimits } from '../../../node/network/exchange.ts';
import {
  API_PROTOCOL,
  apiCreditBytes,
  apiData,
  apiDataBytesMax,
  apiRequestsPerPeerMax,
  apiWords,
  openApiFrame,
} from '../../../protocol/api.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { connect, type Net, withNet } from './hosts.ts';

type Answer = (request: Request, peer: string) => Promise<Response>;

/** A founder that answers requests like this, and a member connected to it. */
async function pair(net: Net, answer: Answer) {
  const founder = await net.founding();
  await serveRequests(founder.registry, answer);
  const member = await net.member();
  return { ...founder, member, connection: await connect(member, founder.host) };
}

const ask = (path: string, init: RequestInit & { duplex?: 'half' } = {}): Request =>
  new Request(`http://localhost${path}`, init);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (thrown: SuperfleetError) => thrown.code,
  );
const body = (source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): RequestInit =>
  ({ method: 'POST', body: ReadableStream.from(source), duplex: 'half' }) as RequestInit;

test(
  'a request crosses whole, and so does its answer; who asks is who the connection proved',
  withNet(async (net) => {
    const { connection, member } = await pair(net, async (request, peer) => {
      const { pathname, search } = new URL(request.url);
      const said = sha256(Buffer.from(await request.arrayBuffer()));
      const seen = ['host', 'content-type', 'superfleet-correlation', 'superfleet-user', 'origin'].map(
        (name) => request.headers.get(name),
      );
      return Response.json(
        { peer, method: request.method, path: pathname + search, said, seen },
        { status: 201 },
      );
    });
    const sent = randomBytes(3 * apiCreditBytes + 17);
    const response = await forwardRequest(
      connection,
      ask('/v1/blobs?a=1&b=%2F', {
        ...body([sent.subarray(0, 10), sent.subarray(10, 2_000_000), sent.subarray(2_000_000)]),
        headers: {
          'content-type': 'x/y',
          'superfleet-correlation': 'c-1',
          'superfleet-user': 'root',
          origin: 'http://x',
        },
      }),
    );
    assert.is(response.status, 201);
    assert.equal(await response.json(), {
      peer: member.peer,
      method: 'POST',
      path: '/v1/blobs?a=1&b=%2F',
      said: sha256(sent),
      seen: ['localhost', 'x/y', 'c-1', null, null],
    });
  }),
);

test(
  'a long answer comes as it is read: what nobody reads is not sent (promise 18)',
  withNet(async (net) => {
    let made = 0;
    const whole = 64 * apiDataBytesMax;
    const { connection } = await pair(net, async () => {
      async function* pieces(): AsyncGenerator<Uint8Array> {
        for (; made < whole; made += apiDataBytesMax) yield new Uint8Array(apiDataBytesMax).fill(made % 251);
      }
      return new Response(ReadableStream.from(pieces()));
    });
    const response = await forwardRequest(connection, ask('/v1/x'));
    const reader = response.body!.getReader();
    let read = (await reader.read()).value!.byteLength;
    // Another answer on the same connection goes past it, so what could come has come.
    await (await forwardRequest(connection, ask('/v1/x'))).body!.cancel();
    assert.ok(
      made <= 2 * (apiCreditBytes + 3 * apiDataBytesMax),
      `${made} bytes were made for a reader of ${read}`,
    );
    for (let next = await reader.read(); !next.done; next = await reader.read())
      read += next.value.byteLength;
    assert.ok(read > 0);
  }),
);

test(
  'an asker that goes away ends the work for it; a founder that breaks off is no whole answer',
  withNet(async (net) => {
    let asked: Request | null = null;
    const { connection } = await pair(net, async (request) => {
      asked = request;
      if (request.url.endsWith('/breaks')) {
        return new Response(
          ReadableStream.from(
            (async function* () {
              yield Buffer.from('half');
              throw new Error('the disk is gone');
            })(),
          ),
        );
      }
      return new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from('line\n')) }),
      );
    });
    const going = new AbortController();
    const response = await forwardRequest(connection, ask('/v1/follows', { signal: going.signal }));
    const reader = response.body!.getReader();
    await reader.read();
    const { signal } = asked! as Request;
    const gone = once(signal, 'abort');
    going.abort();
    await gone;
    const broken = await forwardRequest(connection, ask('/v1/breaks'));
    assert.is.not(await codeOf(broken.text()), 'none');
  }),
);

test(
  'an answer that does not wait for the body is heard',
  withNet(async (net) => {
    const { connection } = await pair(net, async () =>
      Response.json({ error: 'too large' }, { status: 400 }),
    );
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield new Uint8Array(apiDataBytesMax);
    }
    const response = await forwardRequest(connection, ask('/v1/blobs', body(endless())));
    assert.is(response.status, 400);
    assert.equal(await response.json(), { error: 'too large' });
  }),
);

test(
  'one member has a bounded number of requests under way, and the next is told so (promise 18)',
  withNet(async (net) => {
    const free: (() => void)[] = [];
    const { connection } = await pair(
      net,
      () => new Promise((resolve) => free.push(() => resolve(new Response('ok')))),
    );
    const open = Array.from({ length: apiRequestsPerPeerMax }, () =>
      forwardRequest(connection, ask('/v1/x')),
    );
    while (free.length < apiRequestsPerPeerMax) await new Promise((resolve) => setImmediate(resolve));
    assert.is(await codeOf(forwardRequest(connection, ask('/v1/x'))), 'SF_FULL');
    for (const answer of free) answer();
    for (const one of open) assert.is(await (await one).text(), 'ok');
    const again = forwardRequest(connection, ask('/v1/x'));
    while (free.length === apiRequestsPerPeerMax) await new Promise((resolve) => setImmediate(resolve));
    free.at(-1)!();
    assert.is((await again).status, 200);
  }),
);

test(
  'a peer that sends out of turn, or past what was granted, is broken off in words (promise 18)',
  withNet(async (net) => {
    const { connection } = await pair(net, async (request) => {
      if (request.method === 'GET') return new Response('served');
      // Never reads the body.
      await once(request.signal, 'abort');
      return new Response('');
    });
    const head = {
      type: 'request',
      method: 'POST',
      path: '/v1/x',
      contentType: null,
      correlation: null,
    } as const;
    const flood = Array.from({ length: apiCreditBytes / apiDataBytesMax + 1 }, () =>
      apiData(new Uint8Array(apiDataBytesMax)),
    );
    const wrongs: Uint8Array[][] = [
      [apiData(Buffer.from('a body first'))],
      [apiWords(head), apiWords(head)],
      [apiWords(head), apiWords({ type: 'grant', bytes: 1 })],
      [apiWords(head), ...flood],
      [apiWords({ type: 'answer', status: 200, contentType: null })],
      [apiWords({ ...head, path: '/etc/passwd' })],
      [Buffer.from('garbage')],
    ];
    for (const frames of wrongs) {
      const channel = new FrameChannel(await connection.newStream(API_PROTOCOL), exchangeLimits);
      for (const frame of frames) await channel.write(frame).catch(() => {});
      const word = openApiFrame((await channel.read())!);
      assert.is(word.type, 'fault');
      assert.is((word as { code: string }).code, 'SF_FRAME');
      channel.abort(new Error('done'));
    }
    assert.is(await (await forwardRequest(connection, ask('/v1/x'))).text(), 'served');
  }),
);

test.run();
