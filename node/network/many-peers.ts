import type { Connection, Libp2p, PeerId } from '@libp2p/interface';

/** What we use of libp2p's connection manager besides its interface; one without it is left as it is. */
interface Counted {
  getConnectionsMap?(): { values(): Iterable<Connection[]> };
  getConnections(peer?: PeerId): Connection[];
}

/**
 * libp2p counts its connections twice for each that comes, and copies the list of those counted so far for every peer: with
 * 1,000 peers that takes a millisecond, with 10,000 a hundred. Here a count is one walk over the peers.
 */
export function countInOneWalk(node: Libp2p): void {
  const { components } = node as unknown as { components?: { connectionManager?: Counted } };
  const manager = components?.connectionManager;
  if (manager?.getConnectionsMap === undefined) return;
  const ofPeer = manager.getConnections.bind(manager);
  const all = manager.getConnectionsMap.bind(manager);
  manager.getConnections = (peer) => (peer === undefined ? [...all().values()].flat() : ofPeer(peer));
}
