import type { Announced } from './announcer.ts';
import { privateAddresses } from './announcer.ts';
import type { Host } from './host.ts';
import { describe, type FoundFounder } from './join-client.ts';

export interface DiscoveryOptions {
  /** Only founders of this mesh. @default any */
  mesh?: string;
  onFound(founder: FoundFounder): void;
  /** An announcement that led to no founder, once for each peer and reason. */
  onPassedOver?(passed: PassedOver): void;
  /** First wait before a peer that did not answer, or was no founder, is asked again, and the longest. */
  retryMs?: { first: number; max: number };
}

/** Why an announcement is of no use; `silent`: nobody answers where it says, or not as one of ours. */
export type PassedOverFor = 'another-mesh' | 'no-founder' | 'silent' | 'not-lan' | 'malformed' | 'own';

export interface PassedOver {
  why: PassedOverFor;
  /** Peer id, or the IP address where no id could be read. */
  who: string;
  /** Where it says that it is. */
  addresses: string[];
  /** The mesh that it is founder of. */
  mesh: { id: string; name: string } | null;
}

/** Peers remembered from announcements; a LAN has fewer, and a flood must not fill the memory. */
const CANDIDATES_MAX = 256;
/** Addresses of a useless announcement that are told. */
const ADDRESSES_SHOWN_MAX = 4;
/** Peers asked at one time. */
const ASKING_MAX = 8;
/** Peers passed over that are told of; a flood of them must not fill the memory. */
const PASSED_MAX = 256;
const RETRY_FIRST_MS = 2_000;
const RETRY_MAX_MS = 60_000;

interface Candidate {
  addresses: string[];
  /** Not before this (monotonic ms). */
  askAt: number;
  waitMs: number;
  asking: boolean;
  /** Founders already told of, by what was told. */
  told: string | null;
}

/**
 * Looks for founders on the LAN. Announcements are claims of strangers: each peer is dialled at most once at a time,
 * few at once, with a growing wait, and only at addresses of a LAN; what it says of itself comes over a connection
 * that proved its key. A founder whose address changed is told of again. The answer stops it.
 */
export function discoverFounders(host: Host, options: DiscoveryOptions): () => void {
  const { first, max } = options.retryMs ?? { first: RETRY_FIRST_MS, max: RETRY_MAX_MS };
  const candidates = new Map<string, Candidate>();
  const stopping = new AbortController();
  let asking = 0;

  const passed = new Set<string>();
  const passOver = (
    why: PassedOverFor,
    who: string,
    addresses: string[] = [],
    mesh: PassedOver['mesh'] = null,
  ) => {
    const key = `${who} ${why}`;
    if (passed.has(key) || passed.size >= PASSED_MAX || stopping.signal.aborted) return;
    passed.add(key);
    options.onPassedOver?.({ why, who, addresses, mesh });
  };

  const ask = async (peer: string, candidate: Candidate): Promise<void> => {
    candidate.asking = true;
    asking += 1;
    const addresses = candidate.addresses;
    try {
      const known = host.libp2p.getConnections().some(({ remotePeer }) => remotePeer.toString() === peer);
      const connection = await host.dial(peer, addresses, stopping.signal);
      const described = await describe(connection, stopping.signal);
      // A member met on the way is of no use to a stranger: leave it its place.
      if (described === null && !known) await connection.close();
      if (described === null) return passOver('no-founder', peer, addresses);
      if (options.mesh !== undefined && described.mesh !== options.mesh) {
        return passOver('another-mesh', peer, addresses, { id: described.mesh, name: described.name });
      }
      const told = `${described.mesh} ${addresses.join()}`;
      if (candidate.told === told) return;
      candidate.told = told;
      options.onFound({ peer, addresses, ...described });
    } catch {
      // Gone, or not one of ours: asked again later, if it is still announced.
      passOver('silent', peer, addresses);
    } finally {
      candidate.asking = false;
      candidate.askAt = performance.now() + candidate.waitMs * (0.5 + Math.random());
      candidate.waitMs = Math.min(max, candidate.waitMs * 2);
      asking -= 1;
    }
  };

  const announced = ({ peer, addresses }: Announced): void => {
    const usable = privateAddresses(addresses);
    if (peer === host.peer) return;
    if (usable.length === 0) {
      passOver('not-lan', peer, addresses.slice(0, ADDRESSES_SHOWN_MAX));
      return;
    }
    let candidate = candidates.get(peer);
    if (candidate === undefined) {
      if (candidates.size >= CANDIDATES_MAX && !forgetOne(candidates)) return;
      candidate = { addresses: usable, askAt: 0, waitMs: first, asking: false, told: null };
      candidates.set(peer, candidate);
    } else if (candidate.addresses.join() !== usable.join()) {
      candidate.addresses = usable;
      candidate.waitMs = first;
      candidate.askAt = Math.min(candidate.askAt, performance.now() + first);
    }
    if (candidate.asking || asking >= ASKING_MAX || performance.now() < candidate.askAt) return;
    void ask(peer, candidate);
  };

  const unsubscribe = host.announcer?.onAnnounced(announced) ?? (() => {});
  const deaf = host.announcer?.onUnheeded(({ from, why }) => passOver(why, from)) ?? (() => {});
  return () => {
    unsubscribe();
    deaf();
    stopping.abort(new Error('discovery stopped'));
  };
}

/** Makes room by forgetting the oldest peer that is not being asked and is no founder. */
function forgetOne(candidates: Map<string, Candidate>): boolean {
  for (const [peer, candidate] of candidates) {
    if (candidate.asking || candidate.told !== null) continue;
    candidates.delete(peer);
    return true;
  }
  return false;
}

/** Pure: one line about an announcement that led to no founder. */
export function passedOverLine({ why, who, addresses, mesh }: PassedOver): string {
  const where = addresses.length === 0 ? who : `${who} at ${addresses.join(', ')}`;
  return `${where}: ${PASSED_OVER[why]}${mesh === null ? '' : ` ${mesh.name} (${mesh.id})`}`;
}

const PASSED_OVER: Readonly<Record<PassedOverFor, string>> = {
  'another-mesh': 'the founder of another mesh,',
  'no-founder': 'one of ours, but no founder',
  silent: 'nobody answers there, or not as one of ours',
  'not-lan': 'names no address of a local network',
  malformed: 'sent an announcement that cannot be read',
  own: 'this machine itself',
};
