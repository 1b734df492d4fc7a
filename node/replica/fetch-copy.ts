import { peerIdFromString } from '@libp2p/peer-id';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { privateAddresses } from '../network/announcer.ts';
import type { Host } from '../network/host.ts';
import { askTip, type CopyHolder, followLog } from './follow.ts';

/** A peer that nobody has an address of is listened for so long. */
const HEAR_MS = 12_000;
const DIAL_MS = 15_000;

/** A peer as a person names it: its id, which mDNS finds, or a multiaddr that ends in it. */
export interface NamedPeer {
  peer: string;
  addresses: string[];
}

/** Null where the text is neither a peer id nor a multiaddr with one. Pure. */
export function namedPeer(text: string): NamedPeer | null {
  const multiaddr = /^(\/ip[46]\/[^/]+\/tcp\/\d{1,5})\/p2p\/([^/]+)$/.exec(text);
  const peer = multiaddr?.[2] ?? text;
  try {
    return {
      peer: peerIdFromString(peer).toString(),
      addresses: multiaddr === null ? [] : [multiaddr[1]!],
    };
  } catch {
    return null;
  }
}

/**
 * Fetches the whole log of a mesh from a replica into an empty storage, verified and synced; answers with its size. Rejects
 * with `SF_UNREACHABLE` where the peer is not found or goes, `SF_REFUSED` where it does not serve this machine, and
 * `SF_NOT_PROVED` where what it sends does not hold.
 */
export async function fetchCopy(
  host: Host,
  { peer, addresses }: NamedPeer,
  { mesh, storage, signal }: { mesh: string; storage: LogStorage; signal: AbortSignal },
): Promise<number> {
  const known = addresses.length > 0 ? addresses : await heard(host, peer, signal);
  const connection = await host.dial(peer, known, AbortSignal.any([signal, AbortSignal.timeout(DIAL_MS)]));
  const { holds, checkpoint } = await askTip(connection, mesh, signal);
  if (!holds || checkpoint === null) {
    throw new SuperfleetError('SF_NOT_FOUND', `${peer} holds no copy of the log`, {
      expected: 'a replica of the mesh',
      hint: 'name a machine that joined with the role replica',
    });
  }
  const size = Number(checkpoint.split('\n')[1]);
  const done = new AbortController();
  const held: { copy: LogCopy | null } = { copy: null };
  const holder: CopyHolder = {
    get copy() {
      return held.copy;
    },
    begin: async (bytes) => {
      held.copy = await LogCopy.create({ storage, mesh }, bytes);
    },
  };
  try {
    await followLog(connection, {
      mesh,
      holder,
      signal: AbortSignal.any([signal, done.signal]),
      until: size,
      onTip: () => {},
      onTaken: (taken) => {
        if (taken >= size) done.abort(new Error('all of it is here'));
      },
    });
  } catch (thrown) {
    if (!done.signal.aborted) throw thrown;
  } finally {
    await held.copy?.close();
  }
  return held.copy?.size ?? 0;
}

/** The addresses that a peer announces on the LAN. */
function heard(host: Host, peer: string, signal: AbortSignal): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const fail = (): void => {
      stop();
      reject(
        new SuperfleetError('SF_UNREACHABLE', `${peer} is not heard of on this network`, {
          expected: 'a member that is on and announced by mDNS',
          hint: 'name its address, too: /ip4/192.168.1.7/tcp/4701/p2p/PEER',
        }),
      );
    };
    const timer = setTimeout(fail, host.announcer === null ? 0 : HEAR_MS);
    const unsubscribe = host.announcer?.onAnnounced((announced) => {
      const addresses = privateAddresses(announced.addresses);
      if (announced.peer !== peer || addresses.length === 0) return;
      stop();
      resolve(addresses);
    });
    const stop = (): void => {
      clearTimeout(timer);
      unsubscribe?.();
      signal.removeEventListener('abort', fail);
    };
    signal.addEventListener('abort', fail, { once: true });
  });
}
