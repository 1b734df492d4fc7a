import { createHash, randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MemoryBlobStore } from '../../../node/blobs/memory.ts';
import type { BlobStore } from '../../../node/blobs/types.ts';
import { fetchBlobs } from '../../../node/network/blob-client.ts';
import { type BlobServerOptions, serveBlobs } from '../../../node/network/blob-server.ts';
import { FrameChannel } from '../../../node/network/channel.ts';
import { BLOB_PROTOCOL } from '../../../protocol/blob.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { frameOf } from '../../../protocol/frame.ts';
import { connect, type Net, Signal, withNet } from './hosts.ts';

const MiB = 2 ** 20;
/** Where a body is no longer copied on its way out. */
const KiB64 = 64 * 1024;
const never = new AbortController().signal;

const code = (expected: string, also?: RegExp) => (thrown: unknown) => {
  assert.instance(thrown, SuperfleetError);
  const error = thrown as SuperfleetError;
  assert.is(error.code, expected, error.message);
  if (also !== undefined) assert.match(error.message, also);
  return true;
};

async function rejects(work: Promise<unknown>, check: (thrown: unknown) => boolean): Promise<void> {
  let result: unknown;
  try {
    result = await work;
  } catch (thrown) {
    check(thrown);
    return;
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(result)}`);
}

/** Two members, one of which serves a store. */
async function pair(net: Net, store: BlobServerOptions['store'], options: Partial<BlobServerOptions> = {}) {
  const server = await net.founding();
  await serveBlobs({ registry: server.registry, store, ...options });
  const client = await net.member();
  return { server: server.host, client, errors: server.errors };
}

test(
  'several blobs of all sizes cross on one stream, each whole and verified',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const to = new MemoryBlobStore();
    const contents = [0, 1, KiB64 - 1, KiB64, MiB - 1, MiB, MiB + 1, 5 * MiB].map((size) =>
      randomBytes(size),
    );
    const put = [];
    for (const content of contents) put.push(await from.put(content));
    const { server, client } = await pair(net, from);
    const got = await fetchBlobs(client, server.peer, put, to, never, { addresses: server.addresses() });
    assert.equal(got, put);
    for (const [at, { blob }] of got.entries()) {
      const pieces: Uint8Array[] = [];
      for await (const piece of to.read(blob)) pieces.push(piece);
      assert.ok(Buffer.concat(pieces).equals(contents[at]!));
    }
    assert.equal(
      await fetchBlobs(client, server.peer, put, to, never),
      put,
      'what is held is not fetched again',
    );
  }),
);

test(
  'a transfer of 64 MiB resumes after the connection is cut, and no chunk comes twice',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const to = new MemoryBlobStore();
    const content = randomBytes(64 * MiB);
    const { blob } = await from.put(content);
    const served: number[] = [];
    const { server, client } = await pair(net, {
      manifest: (id) => from.manifest(id),
      chunk: (id, index) => {
        served.push(index);
        return from.chunk(id, index);
      },
    });
    const cutAt = new Set([7, 8, 40]);
    const stored: number[] = [];
    const [result] = await fetchBlobs(client, server.peer, [blob], to, never, {
      addresses: server.addresses(),
      retryMs: 10,
      onChunk: (_blob, index) => {
        stored.push(index);
        if (cutAt.delete(index)) {
          for (const connection of client.libp2p.getConnections()) connection.abort(new Error('cut'));
        }
      },
    });
    assert.is(result?.sha256, createHash('sha256').update(content).digest('hex'));
    assert.is(cutAt.size, 0, 'the connection was cut thrice');
    assert.equal(stored, [...Array(64).keys()], 'each chunk was stored once, in order');
    assert.ok(served.length <= 64 + 3 * 2, `no more than what was under way came again: ${served.length}`);
  }),
);

test(
  'a sender of wrong bytes is named, and nothing of it is kept',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const to = new MemoryBlobStore();
    const { blob } = await from.put(randomBytes(4 * MiB));
    const { server, client } = await pair(net, {
      manifest: (id) => from.manifest(id),
      chunk: async (id, index) => {
        const bytes = await from.chunk(id, index);
        if (index === 2) bytes[5] = (bytes[5] ?? 0) ^ 1;
        return bytes;
      },
    });
    await rejects(
      fetchBlobs(client, server.peer, [blob], to, never, { addresses: server.addresses() }),
      code('SF_NOT_PROVED', new RegExp(server.peer)),
    );
    assert.not(await to.has(blob));
    assert.is(to.usedBytes, 0);
  }),
);

test(
  'a manifest of another blob, or of another size than was announced, names its sender',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const one = await from.put(randomBytes(100));
    const other = await from.put(randomBytes(200));
    const { server, client } = await pair(net, {
      manifest: () => from.manifest(other.blob),
      chunk: (id, index) => from.chunk(id, index),
    });
    const to = new MemoryBlobStore();
    const fetch = (wanted: { blob: string; bytes?: number }) =>
      fetchBlobs(client, server.peer, [wanted], to, never, { addresses: server.addresses() });
    await rejects(fetch({ blob: one.blob }), code('SF_NOT_PROVED', new RegExp(server.peer)));
    await rejects(fetch({ blob: other.blob, bytes: 100 }), code('SF_NOT_PROVED', new RegExp(server.peer)));
    assert.is(to.usedBytes, 0);
  }),
);

test(
  'a blob that is not there, and one that is not for this member, are refused at once',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const { blob } = await from.put(randomBytes(10));
    const asked: string[] = [];
    const { server, client } = await pair(net, from, {
      allow: (peer, id) => {
        asked.push(peer);
        return id !== blob;
      },
    });
    const to = new MemoryBlobStore();
    const options = { addresses: server.addresses() };
    await rejects(
      fetchBlobs(client, server.peer, ['0'.repeat(64)], to, never, options),
      code('SF_NOT_FOUND'),
    );
    await rejects(fetchBlobs(client, server.peer, [blob], to, never, options), code('SF_REFUSED'));
    assert.equal(asked, [client.peer, client.peer]);
  }),
);

test(
  'a peer that cannot be reached is given up after the tries',
  withNet(async (net) => {
    const { server, client } = await pair(net, new MemoryBlobStore());
    await server.stop();
    await rejects(
      fetchBlobs(client, server.peer, ['0'.repeat(64)], new MemoryBlobStore(), never, {
        addresses: ['/ip4/127.0.0.1/tcp/1'],
        retryMs: 1,
        triesMax: 3,
      }),
      code('SF_UNREACHABLE'),
    );
  }),
);

test(
  'a fetch stops when its signal says so',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const { blob } = await from.put(randomBytes(8 * MiB));
    const { server, client } = await pair(net, from);
    const stop = new AbortController();
    const to = new MemoryBlobStore();
    const fetched = fetchBlobs(client, server.peer, [blob], to, stop.signal, {
      addresses: server.addresses(),
      onChunk: () => stop.abort(new SuperfleetError('SF_INTERRUPTED', 'enough')),
    });
    await rejects(fetched, code('SF_INTERRUPTED'));
    assert.is(to.usedBytes, 0);
  }),
);

test(
  'one peer has a bounded number of streams, and another is served meanwhile (promise 18)',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const put = await from.put(randomBytes(3 * MiB));
    const { server, client } = await pair(net, from, { limits: { streamsPerPeerMax: 2, idleMs: 20_000 } });
    const connection = await connect(client, server);
    const first = new FrameChannel(await connection.newStream(BLOB_PROTOCOL));
    const second = new FrameChannel(await connection.newStream(BLOB_PROTOCOL));
    for (const channel of [first, second]) {
      await channel.write(frameOf({ type: 'manifest', blob: put.blob } as { type: string }));
      await channel.expect();
    }
    await rejects(
      fetchBlobs(client, server.peer, [put.blob], new MemoryBlobStore(), never, { triesMax: 2, retryMs: 1 }),
      code('SF_FULL'),
    );
    const other = await net.member();
    const options = { addresses: server.addresses() };
    assert.equal(await fetchBlobs(other, server.peer, [put], new MemoryBlobStore(), never, options), [put]);
    first.abort(new Error('done'));
    second.abort(new Error('done'));
  }),
);

test(
  'members that fetch at once are served in turn, and none is turned away; one that waits too long is told so',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const put = await from.put(randomBytes(3 * MiB));
    let serving = 0;
    let most = 0;
    let stuck: Promise<void> | null = null;
    const store: BlobServerOptions['store'] = {
      manifest: (blob) => from.manifest(blob),
      chunk: async (blob, index) => {
        serving += 1;
        most = Math.max(most, serving);
        await new Promise(setImmediate);
        await stuck;
        serving -= 1;
        return from.chunk(blob, index);
      },
    };
    const { server, client } = await pair(net, store, { limits: { servedMax: 2, turnMs: 1_000 } });
    const hosts = [client, ...(await Promise.all(Array.from({ length: 7 }, () => net.member())))];
    const fetch = (host: typeof client, triesMax: number) =>
      fetchBlobs(host, server.peer, [put.blob], new MemoryBlobStore(), never, {
        addresses: server.addresses(),
        triesMax,
      });
    assert.equal(
      (await Promise.all(hosts.map((host) => fetch(host, 1)))).flat(),
      hosts.map(() => put),
    );
    assert.is(most, 2);
    let go = (): void => {};
    stuck = new Promise((resolve) => {
      go = resolve;
    });
    const holding = [fetch(hosts[0]!, 1), fetch(hosts[1]!, 1)];
    while (serving < 2) await new Promise(setImmediate);
    await rejects(fetch(hosts[2]!, 1), code('SF_FULL'));
    go();
    await Promise.all(holding);
  }),
);

test(
  'a member that asks and never reads holds one chunk of our memory, no more (promise 18)',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const { blob } = await from.put(randomBytes(2 * MiB));
    let served = 0;
    const { server, client } = await pair(net, {
      manifest: (id) => from.manifest(id),
      chunk: (id, index) => {
        served += 1;
        return from.chunk(id, index);
      },
    } as Pick<BlobStore, 'manifest' | 'chunk'>);
    const stream = await (await connect(client, server)).newStream(BLOB_PROTOCOL);
    stream.pause();
    const channel = new FrameChannel(stream);
    const request = frameOf({ type: 'chunk', blob, index: 0 } as { type: string });
    // Two requests are its right; the ones after them are more than it may have under way.
    const broke = new Promise((resolve) => stream.addEventListener('close', resolve));
    for (let n = 0; n < 200; n++) await channel.write(request).catch(() => {});
    await broke;
    assert.ok(served <= 6, `served ${served} chunks to a peer that read nothing`);
  }),
);

test(
  'members that ask for blobs and take no bytes lose their turns to one that waits, and it is not refused (promise 18)',
  withNet(async (net) => {
    const from = new MemoryBlobStore();
    const put = await from.put(randomBytes(2 * MiB));
    const asked = new Signal<number>();
    const { server, client } = await pair(
      net,
      {
        manifest: (id) => from.manifest(id),
        chunk: (id, index) => {
          asked.put(index);
          return from.chunk(id, index);
        },
      },
      { limits: { servedMax: 4, takeMs: 200 } },
    );
    const request = frameOf({ type: 'chunk', blob: put.blob, index: 0 } as { type: string });
    for (const idle of [client, await net.member()]) {
      const connection = await connect(idle, server);
      for (let at = 0; at < 2; at += 1) {
        const stream = await connection.newStream(BLOB_PROTOCOL);
        stream.pause();
        await new FrameChannel(stream).write(request);
        await asked.next();
      }
    }
    const other = await net.member();
    const options = { addresses: server.addresses(), triesMax: 1 };
    assert.equal(await fetchBlobs(other, server.peer, [put], new MemoryBlobStore(), never, options), [put]);
  }),
);

test.run();
