import type { Connection, PeerId } from '@libp2p/interface';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { connect, withNet } from './hosts.ts';

test(
  'connections of all peers are counted without a copy for each peer, and are those of libp2p',
  withNet(async (net) => {
    const [server, ...others] = [await net.host(), await net.host(), await net.host(), await net.host()];
    const copies = Array.prototype.concat;
    let copied = 0;
    try {
      for (const other of others) {
        const opened = new Promise((resolve) =>
          server.libp2p.addEventListener('connection:open', resolve, { once: true }),
        );
        await connect(other, server);
        await opened;
      }
      // biome-ignore lint/suspicious/noExplicitAny: as it is declared
      Array.prototype.concat = function (this: any[], ...more: any[]): any[] {
        copied += 1;
        return copies.apply(this, more);
      };
      const all: Connection[] = server.libp2p.getConnections();
      assert.is(copied, 0);
      const peers: PeerId[] = server.libp2p.getPeers();
      assert.equal(peers.map(String).sort(), others.map(({ peer }) => peer).sort());
      assert.equal(
        all.map(({ id }) => id).sort(),
        peers
          .flatMap((peer) => server.libp2p.getConnections(peer))
          .map(({ id }) => id)
          .sort(),
      );
    } finally {
      Array.prototype.concat = copies;
    }
  }),
);

test.run();
