import type { PeerDiscovery, PeerInfo } from '@libp2p/interface';
import { type MulticastDNSComponents, mdns } from '@libp2p/mdns';

/** The name our hosts go by on the LAN, so that other libp2p programs are not asked. */
export const SERVICE_TAG = '_superfleet._udp.local';

/** How often the LAN is asked who is there. */
const QUERY_MS = 5_000;

/** A host that was announced: who it says it is, and where. Claims, until a dial proves them. */
export interface Announced {
  peer: string;
  addresses: string[];
}

/**
 * mDNS beside libp2p's own discovery, not within it: what strangers announce must not fill the peer store, which
 * has no bound.
 */
export interface Announcer {
  /** Calls back for every announcement heard; the answer stops it. */
  onAnnounced(listener: (announced: Announced) => void): () => void;
  /** The service for libp2p's `services`: it starts and stops with the node. */
  service(components: MulticastDNSComponents): { start(): Promise<void>; stop(): Promise<void> };
}

export function announcer(port = 5353): Announcer {
  const listeners = new Set<(announced: Announced) => void>();
  return {
    onAnnounced: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    service: (components) => {
      const discovery = mdns({ serviceTag: SERVICE_TAG, interval: QUERY_MS, port })(
        components,
      ) as PeerDiscovery & { start(): Promise<void>; stop(): Promise<void> };
      discovery.addEventListener('peer', (event: CustomEvent<PeerInfo>) => {
        const announced = {
          peer: event.detail.id.toString(),
          addresses: event.detail.multiaddrs.map(String),
        };
        for (const listener of listeners) listener(announced);
      });
      return { start: () => discovery.start(), stop: () => discovery.stop() };
    },
  };
}
