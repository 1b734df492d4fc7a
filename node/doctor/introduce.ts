import { generateKeyPair } from '@libp2p/crypto/keys';
import { SuperfleetError } from '../../protocol/errors.ts';
import { createHost } from '../network/host.ts';
import { describe } from '../network/join-client.ts';
import type { Introduce } from './reach.ts';

const ASK_MS = 6_000;

/** Asks hosts whose founder they are, as a stranger whose key is made for this and forgotten. `close` ends it. */
export async function stranger(): Promise<{ introduce: Introduce; close(): Promise<void> }> {
  const host = await createHost({ privateKey: await generateKeyPair('Ed25519'), listen: [], mdns: false });
  const introduce: Introduce = async (multiaddrs) => {
    for (const address of multiaddrs) {
      try {
        const signal = AbortSignal.timeout(ASK_MS);
        const peer = /\/p2p\/([^/]+)$/.exec(address)?.[1];
        const connection =
          peer === undefined
            ? await host.dialUnknown(address, signal)
            : await host.dial(peer, [address], signal);
        return (await describe(connection, signal)) ?? 'no-founder';
      } catch (thrown) {
        // A member closes the stream of a stranger: it is one of ours, and no founder.
        if (thrown instanceof SuperfleetError && thrown.code === 'SF_REFUSED') return 'no-founder';
      }
    }
    return 'silent';
  };
  return { introduce, close: () => host.stop() };
}
