import type { Connection, Libp2p, Peer, PeerData, PeerId } from '@libp2p/interface';

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

/**
 * With every stream libp2p notes in its peer store that the peer speaks this protocol, behind locks and in bytes. Nobody here
 * asks it: what a peer does not speak is found when a stream of it is opened.
 */
export function keepNoProtocols({ peerId, peerStore }: Libp2p): void {
  const merge = peerStore.merge.bind(peerStore);
  peerStore.merge = async (id, data, options): Promise<Peer> => {
    // Its own are what it answers with when somebody asks who it is.
    if (id.equals(peerId) || !onlyProtocols(data)) return merge(id, data, options);
    return { id, addresses: [], protocols: [], metadata: new Map(), tags: new Map() };
  };
}

const onlyProtocols = (data: PeerData): boolean => Object.keys(data).every((field) => field === 'protocols');
