import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Identify } from '@libp2p/identify';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { connect, host, Signal, withNet } from './hosts.ts';

async function errorOf(work: Promise<unknown>): Promise<SuperfleetError> {
  try {
    await work;
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError, String(thrown));
    return thrown as SuperfleetError;
  }
  throw new Error('expected a rejection');
}

test(
  'two hosts connect by peer id and address, and use the connection again',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    const connection = await connect(a, b);
    assert.is(connection.remotePeer.toString(), b.peer);
    assert.is(await connect(a, b), connection);
    assert.is(await a.dial(b.peer, []), connection);
    assert.match(b.addresses()[0] ?? '', new RegExp(`^/ip4/127.0.0.1/tcp/\\d+/p2p/${b.peer}$`));
  }),
);

test('a port in use is named, with how to choose another', async () => {
  const other = createServer();
  const port = await new Promise<number>((resolve) => {
    other.listen(0, '127.0.0.1', () => resolve((other.address() as AddressInfo).port));
  });
  try {
    const error = await errorOf(host({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }));
    assert.is(error.code, 'SF_PORT_IN_USE');
    assert.is(error.exitCode, 6);
    assert.match(error.message, new RegExp(String(port)));
    assert.match(error.hint ?? '', /--port/);
  } finally {
    other.close();
  }
});

test(
  'nothing but IP addresses is dialled: no names, no other transports (promise 17)',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    for (const address of [
      '/dns4/example.com/tcp/4701',
      '/dnsaddr/bootstrap.libp2p.io',
      '/ip4/127.0.0.1/udp/1/quic-v1',
      '/ip4/127.0.0.1/tcp/99999',
      '/ip4/1.2.3/tcp/1',
      '/ip6/127.0.0.1/tcp/1',
      `/ip4/127.0.0.1/tcp/1/p2p/${b.peer}/p2p-circuit`,
      'not an address',
    ]) {
      const error = await errorOf(a.dial(b.peer, [address]));
      assert.is(error.code, 'SF_USAGE', address);
    }
    const other = await errorOf(a.dial(b.peer, [`/ip4/127.0.0.1/tcp/1/p2p/${a.peer}`]));
    assert.match(other.message, /another peer/);
  }),
);

test(
  'what others claim of a peer is never dialled: only what the caller named (promise 17)',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    const id = peerIdFromString(b.peer);
    await a.libp2p.peerStore.merge(id, { multiaddrs: b.addresses().map((text) => multiaddr(text)) });
    assert.is((await errorOf(a.dial(b.peer, []))).code, 'SF_UNREACHABLE');
    assert.is(
      await a.libp2p.dial(id).then(
        () => 'dialled',
        () => 'denied',
      ),
      'denied',
    );
  }),
);

test(
  'a peer that does not answer is SF_UNREACHABLE, with what was tried',
  withNet(async (net) => {
    const a = await net.host();
    const gone = await host();
    const addresses = gone.addresses();
    await gone.stop();
    const error = await errorOf(a.dial(gone.peer, addresses));
    assert.is(error.code, 'SF_UNREACHABLE');
    assert.is(error.exitCode, 3);
    assert.match(error.message, /refused/);
    assert.match(error.expected ?? '', /127\.0\.0\.1/);
  }),
);

test(
  'another identity at the right address is not taken for the peer',
  withNet(async (net) => {
    const [a, b, c] = [await net.host(), await net.host(), await net.host()];
    const address = (c.addresses()[0] ?? '').replace(/\/p2p\/.*/, '');
    const error = await errorOf(a.dial(b.peer, [address]));
    assert.is(error.code, 'SF_UNREACHABLE');
    assert.match(error.message, /another identity/);
  }),
);

test(
  'a dial stops when its signal says so',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    const accepted = new Signal<Socket>();
    const silent = createServer((socket) => accepted.put(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    net.onStop(async () => void silent.close());
    const { port } = silent.address() as AddressInfo;
    const stop = new AbortController();
    const dialled = errorOf(a.dial(b.peer, [`/ip4/127.0.0.1/tcp/${port}`], stop.signal));
    const socket = await accepted.next();
    stop.abort(new SuperfleetError('SF_INTERRUPTED', 'enough'));
    assert.is((await dialled).code, 'SF_INTERRUPTED');
    socket.destroy();
  }),
);

test(
  'a host says no more of itself than it must',
  withNet(async (net) => {
    const [a, b] = [await net.host(), await net.host()];
    const asked: string[] = [];
    b.libp2p.addEventListener('peer:identify', () => asked.push('by b'));
    const connection = await connect(a, b);
    const { identify } = a.libp2p.services as { identify: Identify };
    const { agentVersion, protocols } = await identify.identify(connection);
    assert.is(agentVersion, 'superfleet/1');
    assert.equal(protocols, ['/superfleet/id/1.0.0']);
    assert.equal(asked, []);
  }),
);

test.run();
