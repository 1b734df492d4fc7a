import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { encode } from 'dns-packet';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Announced, privateAddresses, SERVICE_TAG } from '../../../node/network/announcer.ts';
import { discoverFounders, type PassedOver } from '../../../node/network/discovery.ts';
import type { Host } from '../../../node/network/host.ts';
import type { FoundFounder } from '../../../node/network/join-client.ts';
import { serveJoins } from '../../../node/network/join-server.ts';
import { MESH, type Net, Signal, withNet } from './hosts.ts';

/** Whether multicast works here at all: a datagram sent to the group comes back. */
async function multicastWorks(): Promise<boolean> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  try {
    return await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), 1_000);
      socket.on('error', () => resolve(false));
      socket.on('message', () => {
        clearTimeout(timer);
        resolve(true);
      });
      socket.bind(0, () => {
        try {
          socket.addMembership('224.0.0.251');
          socket.setMulticastLoopback(true);
          socket.send('?', socket.address().port, '224.0.0.251');
        } catch {
          resolve(false);
        }
      });
    });
  } finally {
    socket.close();
  }
}

const multicast = await multicastWorks();
if (!multicast) {
  console.log(`skipped: no multicast on ${Object.keys(networkInterfaces()).join(', ') || 'this machine'}`);
}
const withMulticast = multicast ? test : test.skip;

/** A founder's join protocol and nothing else. */
async function founder(net: Net, options: Parameters<Net['host']>[0] = {}): Promise<Host> {
  const { host, registry } = await net.founding({}, options);
  await serveJoins({
    registry,
    mesh: MESH,
    name: 'home',
    admitByInvite: () => Promise.reject(new Error('not asked for')),
    readmit: async () => null,
  });
  return host;
}

test('only addresses of a LAN are taken from announcements, loopback last (promise 17)', () => {
  const usable = privateAddresses([
    '/ip4/127.0.0.1/tcp/1',
    '/ip4/8.8.8.8/tcp/4701',
    '/ip4/192.168.1.5/tcp/4701',
    '/ip4/10.1.2.3/tcp/1/p2p/12D3KooW',
    '/dns4/evil.example/tcp/1',
    '/ip6/2001:4860:4860::8888/tcp/1',
    '/ip6/fe80::1/tcp/1',
    '/ip4/192.168.1.5/udp/1/quic-v1',
    '/ip4/172.32.0.1/tcp/1',
    '/ip4/999.1.1.1/tcp/1',
  ]);
  assert.equal(usable, [
    '/ip4/192.168.1.5/tcp/4701',
    '/ip4/10.1.2.3/tcp/1/p2p/12D3KooW',
    '/ip6/fe80::1/tcp/1',
    '/ip4/127.0.0.1/tcp/1',
  ]);
});

withMulticast(
  'a founder is found by mDNS and told apart from a member',
  withNet(async (net) => {
    const mdnsPort = 20_000 + (randomBytes(2).readUInt16BE() % 20_000);
    const home = await founder(net, { mdns: true, mdnsPort });
    const member = await net.member({ mdns: true, mdnsPort });
    const looking = await net.host({ mdns: true, mdnsPort });
    const found = new Signal<FoundFounder>();
    const heard = new Set<string>();
    looking.announcer?.onAnnounced(({ peer }) => heard.add(peer));
    const stop = discoverFounders(looking, { onFound: (one) => found.put(one) });
    try {
      const one = await found.next(20_000);
      assert.equal([one.peer, one.mesh, one.name], [home.peer, MESH, 'home']);
      await looking.dial(one.peer, one.addresses);
      // The member is announced too, and is not taken for a founder.
      const end = Date.now() + 15_000;
      while (!heard.has(member.peer) && Date.now() < end) {
        await new Promise((resolve) => looking.announcer?.onAnnounced(resolve));
      }
      assert.ok(heard.has(member.peer));
    } finally {
      stop();
    }
    assert.equal(await found.next(200).catch(() => null), null);
  }),
);

withMulticast(
  'a look for one mesh tells whom it passed over: another mesh, a member, what cannot be read',
  withNet(async (net) => {
    const mdnsPort = 20_000 + (randomBytes(2).readUInt16BE() % 20_000);
    const home = await founder(net, { mdns: true, mdnsPort });
    const member = await net.member({ mdns: true, mdnsPort });
    const looking = await net.host({ mdns: true, mdnsPort });
    const passed = new Map<string, PassedOver>();
    const news = new Signal<null>();
    const stop = discoverFounders(looking, {
      mesh: 'f'.repeat(64),
      onFound: ({ peer }) => assert.unreachable(peer),
      onPassedOver: (one) => {
        passed.set(one.why === 'malformed' || one.why === 'own' ? one.why : one.who, one);
        news.put(null);
      },
      retryMs: { first: 100, max: 100 },
    });
    const stranger = createSocket({ type: 'udp4' });
    try {
      const answers = [{ type: 'PTR', name: SERVICE_TAG, data: `x.${SERVICE_TAG}` } as const];
      stranger.send(encode({ type: 'response', answers }), mdnsPort, '224.0.0.251');
      const wanted = [home.peer, member.peer, 'malformed'];
      while (!wanted.every((who) => passed.has(who))) await news.next(20_000);
    } finally {
      stop();
      await new Promise<void>((resolve) => stranger.close(() => resolve()));
    }
    assert.is(passed.get(home.peer)?.why, 'another-mesh');
    assert.equal(passed.get(home.peer)?.mesh, { id: MESH, name: 'home' });
    assert.is(passed.get(member.peer)?.why, 'no-founder');
  }),
);

test(
  'a flood of announcements is dialled few at a time and remembered up to a bound (promise 18)',
  withNet(async (net) => {
    const home = await founder(net);
    const looking = await net.host();
    const listeners = new Set<(announced: Announced) => void>();
    let dialling = 0;
    let most = 0;
    let dials = 0;
    const flooded: Host = {
      ...looking,
      peer: looking.peer,
      announcer: {
        onAnnounced: (listener) => {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
        onUnheeded: () => () => {},
        service: () => ({ start: async () => {}, stop: async () => {} }),
      },
      dial: async (peer, addresses, signal) => {
        dials += 1;
        dialling += 1;
        most = Math.max(most, dialling);
        try {
          return await looking.dial(peer, addresses, signal);
        } finally {
          dialling -= 1;
        }
      },
    };
    const found = new Signal<FoundFounder>();
    const stop = discoverFounders(flooded, {
      onFound: (one) => found.put(one),
      retryMs: { first: 1, max: 1 },
    });
    const announce = (peer: string, addresses: string[]) => {
      for (const listener of listeners) listener({ peer, addresses });
    };
    try {
      for (let n = 0; n < 5_000; n++) announce(peerOf(n), ['/ip4/127.0.0.1/tcp/1', '/ip4/8.8.8.8/tcp/1']);
      assert.ok(most <= 8, `${most} dials at once`);
      assert.ok(dials <= 8, 'the rest waits for its turn');
      const again = setInterval(() => announce(home.peer, home.addresses()), 10);
      assert.is((await found.next()).peer, home.peer);
      clearInterval(again);
    } finally {
      stop();
    }
    assert.is(listeners.size, 0);
  }),
);

/** Some peer id, as a flood would make them up. */
function peerOf(n: number): string {
  const letters = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
  const tail = Array.from({ length: 6 }, (_, at) => letters[Math.floor(n / 58 ** at) % 58]).join('');
  return `12D3KooWBhvsEjaQnV8zC1fFwFxxYMbGJ6WrAbiShTLuXk${tail}`;
}

test.run();
