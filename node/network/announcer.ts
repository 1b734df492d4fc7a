import { BlockList, isIP } from 'node:net';
import type { PeerDiscovery, PeerId, PeerInfo } from '@libp2p/interface';
import { type MulticastDNSComponents, mdns } from '@libp2p/mdns';
import type { MulticastDNS } from 'multicast-dns';
import { announcementOf, SERVICE_TAG } from './announcement.ts';

export { SERVICE_TAG } from './announcement.ts';

/** How often the LAN is asked who is there. */
const QUERY_MS = 5_000;

/** A host that was announced: who it says it is, and where. Claims, until a dial proves them. */
export interface Announced {
  peer: string;
  addresses: string[];
}

/** An announcement that nobody was told of. */
export interface Unheeded {
  /** IP address it came from. */
  from: string;
  why: 'malformed' | 'own';
}

/**
 * mDNS beside libp2p's own discovery, not within it: what strangers announce must not fill the peer store, which
 * has no bound.
 */
export interface Announcer {
  /** Calls back for every announcement heard; the answer stops it. */
  onAnnounced(listener: (announced: Announced) => void): () => void;
  /** Calls back for every announcement that is our own or cannot be read; the answer stops it. */
  onUnheeded(listener: (unheeded: Unheeded) => void): () => void;
  /** The service for libp2p's `services`: it starts and stops with the node. */
  service(components: AnnouncerComponents): { start(): Promise<void>; stop(): Promise<void> };
}

/** libp2p gives every service all of its components. */
export type AnnouncerComponents = MulticastDNSComponents & { peerId: PeerId };

/** What we use of libp2p's service besides its events. */
interface Discovery {
  readonly mdns?: MulticastDNS;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export function announcer(port = 5353): Announcer {
  const listeners = new Set<(announced: Announced) => void>();
  const unheeded = new Set<(unheeded: Unheeded) => void>();
  return {
    onAnnounced: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    onUnheeded: (listener) => {
      unheeded.add(listener);
      return () => unheeded.delete(listener);
    },
    service: (components) => {
      const discovery = mdns({ serviceTag: SERVICE_TAG, interval: QUERY_MS, port })(
        components,
      ) as PeerDiscovery & Discovery;
      discovery.addEventListener('peer', (event: CustomEvent<PeerInfo>) => {
        const announced = {
          peer: event.detail.id.toString(),
          addresses: event.detail.multiaddrs.map(String),
        };
        for (const listener of listeners) listener(announced);
      });
      const self = components.peerId.toString();
      const start = async (): Promise<void> => {
        await discovery.start();
        // libp2p drops both in silence, and a person who looks for a founder wants to know.
        discovery.mdns?.on('response', (packet, { address: from }) => {
          const read = announcementOf(packet);
          const why =
            read.kind === 'malformed'
              ? read.kind
              : read.kind === 'announced' && read.peer === self
                ? 'own'
                : null;
          if (why !== null) for (const listener of unheeded) listener({ from, why });
        });
      };
      return { start, stop: () => discovery.stop() };
    },
  };
}

/** Ranges of a LAN: private, link-local, unique-local, loopback, and what carriers hand to homes. */
const LAN = new BlockList();
for (const [net, bits] of [
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['169.254.0.0', 16],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
] as const) {
  LAN.addSubnet(net, bits, 'ipv4');
}
LAN.addSubnet('fc00::', 7, 'ipv6');
LAN.addSubnet('fe80::', 10, 'ipv6');
LAN.addAddress('::1', 'ipv6');

/** Whether an IP address lies on a LAN. */
export const onLan = (address: string): boolean =>
  isIP(address) !== 0 && LAN.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');

/**
 * Those of announced addresses that lie on a LAN, so that no announcement can make us dial the internet
 * (promise 17); loopback last: on another machine it is somebody else.
 */
export function privateAddresses(addresses: readonly string[]): string[] {
  const usable = addresses.slice(0, 64).filter((address) => {
    const parts = /^\/ip([46])\/([^/]+)\/tcp\/\d{1,5}(?:\/p2p\/[^/]+)?$/.exec(address);
    if (parts === null || String(isIP(parts[2] ?? '')) !== parts[1]) return false;
    return LAN.check(parts[2] ?? '', parts[1] === '4' ? 'ipv4' : 'ipv6');
  });
  const loopback = (address: string): number => (/^\/(ip4\/127\.|ip6\/::1\/)/.test(address) ? 1 : 0);
  return usable.sort((a, b) => loopback(a) - loopback(b)).slice(0, 16);
}
