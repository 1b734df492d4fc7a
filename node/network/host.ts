import { isIP } from 'node:net';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { identify } from '@libp2p/identify';
import type { Connection, Libp2p, Logger, MultiaddrConnection, PrivateKey } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { SuperfleetError } from '../../protocol/errors.ts';
import { membersMax, strangerMs, strangersMax } from '../../protocol/limits.ts';
import { type Announcer, announcer } from './announcer.ts';
import { withFewWindowUpdates } from './few-window-updates.ts';
import { inFewWrites } from './few-writes.ts';
import { countInOneWalk, keepNoProtocols } from './many-peers.ts';

const MiB = 2 ** 20;

export interface HostLimits {
  /** Open connections in all. @default members and strangers, twice over */
  connectionsMax: number;
  /** Connections that have not yet said who they are, in all and from one address. @default 512, 256 */
  unprovenMax: number;
  unprovenPerAddressMax: number;
  /** New connections from one address in a second. @default 512 */
  connectionsPerSecondMax: number;
  /** A connection says who it is, and a stream says its protocol, within this. @default strangerMs */
  handshakeMs: number;
}

const hostLimits: HostLimits = {
  connectionsMax: 2 * (membersMax + strangersMax),
  unprovenMax: 512,
  unprovenPerAddressMax: 256,
  connectionsPerSecondMax: 512,
  handshakeMs: strangerMs,
};

export interface HostOptions {
  /** Ed25519 identity of this machine. */
  privateKey: PrivateKey;
  /** Multiaddrs such as `/ip4/0.0.0.0/tcp/4701`; none: this host only dials. */
  listen: string[];
  /** Announce this host on the LAN and listen for others. */
  mdns: boolean;
  /** UDP port of mDNS, so that tests do not hear each other. @default 5353 */
  mdnsPort?: number;
  limits?: Partial<HostLimits>;
}

/** One libp2p node: TCP, noise, yamux, identify. It dials what it is told to dial, and nothing else (promise 17). */
export interface Host {
  /** Our peer id, base58. */
  readonly peer: string;
  readonly libp2p: Libp2p;
  /** What the LAN says of other hosts; null without mDNS. */
  readonly announcer: Announcer | null;
  /** Multiaddrs others can dial, each ending in `/p2p/<our id>`. */
  addresses(): string[];
  /**
   * A connection to this peer, by the first of the addresses that answers with its key; an open one is used again.
   * `SF_USAGE` for an address that is not IP and TCP, `SF_UNREACHABLE` when none answers.
   */
  dial(peer: string, addresses: readonly string[], signal?: AbortSignal): Promise<Connection>;
  /** The address at which we reached this peer, without its id; null where there is no connection of our making. */
  reachedAt(peer: string): string | null;
  /** A connection to whoever answers at this address: who that is must be proved by other means (the short code). */
  dialUnknown(address: string, signal: AbortSignal): Promise<Connection>;
  stop(): Promise<void>;
}

/** Addresses tried for one peer in one dial; the rest is ignored. */
const ADDRESSES_MAX = 16;
/** One dial, over all addresses of a peer; and one address of them. */
const DIAL_MS = 15_000;
const ADDRESS_MS = 5_000;
const KEEP_ALIVE_MS = 60_000;

/**
 * libp2p makes a logger for each connection, stream and negotiation, and its own look for a terminal every time. Nobody
 * reads them unless `DEBUG` asks for them.
 */
const silent: Logger = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: () => silent,
});
const quiet = process.env.DEBUG === undefined ? { logger: { forComponent: () => silent } } : {};

/** Starts a host. `SF_PORT_IN_USE` names the port when another process holds it. */
export async function createHost(options: HostOptions): Promise<Host> {
  const limits = { ...hostLimits, ...options.limits };
  const allowed = new Map<string, number>();
  const unproven = new Unproven(limits.unprovenPerAddressMax);
  const announce = options.mdns ? announcer(options.mdnsPort) : null;
  const node = await createLibp2p({
    ...quiet,
    start: false,
    privateKey: options.privateKey,
    addresses: { listen: options.listen },
    transports: [tcp({ listenOpts: { keepAlive: true }, dialOpts: { keepAlive: true } })],
    connectionEncrypters: [inFewWrites(noise())],
    streamMuxers: [
      withFewWindowUpdates(
        yamux({
          maxInboundStreams: 128,
          maxOutboundStreams: 128,
          // It keeps a connection on which nothing else is said: TCP gives one up after two minutes of silence.
          keepAliveInterval: KEEP_ALIVE_MS,
          streamOptions: {
            // Below the read buffer: a peer can never have more on the way than we could hold.
            maxStreamWindowSize: 2 * MiB,
            maxReadBufferLength: 4 * MiB,
            maxWriteBufferLength: 4 * MiB,
          },
        }),
      ),
    ],
    services: {
      // It answers those who ask; we ask nobody, since no one here goes by what others say of themselves.
      identify: identify({
        protocolPrefix: 'superfleet',
        maxInboundStreams: 1,
        maxOutboundStreams: 1,
        runOnConnectionOpen: false,
      }),
      ...(announce === null ? {} : { mdns: announce.service }),
    },
    // Our sessions have heartbeats; a ping per connection beside them would be waste.
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: limits.connectionsMax,
      maxIncomingPendingConnections: limits.unprovenMax,
      inboundConnectionThreshold: limits.connectionsPerSecondMax,
      inboundUpgradeTimeout: limits.handshakeMs,
      inboundStreamProtocolNegotiationTimeout: limits.handshakeMs,
      dialTimeout: DIAL_MS,
      addressDialTimeout: ADDRESS_MS,
      maxPeerAddrsToDial: ADDRESSES_MAX,
      resolvers: {},
      reconnectRetries: 0,
    },
    connectionGater: {
      // identify and mDNS fill the peer store with what others claim: only what we were told to dial is dialled.
      denyDialMultiaddr: (address) => !allowed.has(withoutPeer(address)),
      denyInboundConnection: (connection) => unproven.refuse(connection),
      denyInboundUpgradedConnection: (_peer, connection) => {
        unproven.done(connection);
        return false;
      },
    },
    nodeInfo: { name: 'superfleet', version: '1', userAgent: 'superfleet/1' },
  });
  countInOneWalk(node);
  keepNoProtocols(node);
  try {
    await node.start();
  } catch (cause) {
    await Promise.resolve(node.stop()).catch(() => {});
    throw listenError(options.listen, cause);
  }

  const dial = async (
    peer: string,
    addresses: readonly string[],
    signal?: AbortSignal,
  ): Promise<Connection> => {
    const targets = addresses.slice(0, ADDRESSES_MAX).map((address) => target(peer, address));
    const open = node.getConnections(peerIdFromString(peer)).find(({ status }) => status === 'open');
    if (open !== undefined) return open;
    if (targets.length === 0) throw unreachable(`peer ${peer}`, addresses, 'no address is known');
    return dialAllowed(targets, `peer ${peer}`, signal);
  };

  const dialAllowed = async (
    targets: Multiaddr[],
    who: string,
    signal: AbortSignal | undefined,
  ): Promise<Connection> => {
    const keys = targets.map(withoutPeer);
    for (const key of keys) allowed.set(key, (allowed.get(key) ?? 0) + 1);
    try {
      const timeout = AbortSignal.timeout(DIAL_MS);
      return await node.dial(targets, {
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      });
    } catch (cause) {
      if (signal?.aborted === true) throw signal.reason;
      throw unreachable(who, keys, reasonOf(cause), cause);
    } finally {
      for (const key of keys) {
        const users = (allowed.get(key) ?? 1) - 1;
        if (users === 0) allowed.delete(key);
        else allowed.set(key, users);
      }
    }
  };

  return {
    peer: node.peerId.toString(),
    libp2p: node,
    announcer: announce,
    addresses: () => node.getMultiaddrs().map(String),
    dial,
    reachedAt: (peer) => {
      const made = node
        .getConnections(peerIdFromString(peer))
        .find(({ status, direction }) => status === 'open' && direction === 'outbound');
      return made === undefined ? null : withoutPeer(made.remoteAddr);
    },
    dialUnknown: async (address, signal) => dialAllowed([target(null, address)], address, signal),
    stop: async () => {
      await node.stop();
    },
  };
}

/** Counts connections by address until they have proved an identity or gone. */
class Unproven {
  readonly #max: number;
  readonly #waiting = new Set<MultiaddrConnection>();
  readonly #counts = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  refuse(connection: MultiaddrConnection): boolean {
    const address = hostOf(connection.remoteAddr);
    const count = this.#counts.get(address) ?? 0;
    if (count >= this.#max) return true;
    this.#counts.set(address, count + 1);
    this.#waiting.add(connection);
    connection.addEventListener('close', () => this.done(connection));
    return false;
  }

  done(connection: MultiaddrConnection): void {
    if (!this.#waiting.delete(connection)) return;
    const address = hostOf(connection.remoteAddr);
    const count = (this.#counts.get(address) ?? 0) - 1;
    if (count > 0) this.#counts.set(address, count);
    else this.#counts.delete(address);
  }
}

/** The IP address of a multiaddr, without port. */
export const hostOf = (address: Multiaddr): string =>
  address.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6')?.value ?? 'unknown';

const withoutPeer = (address: Multiaddr): string => address.toString().replace(/\/p2p\/[^/]+$/, '');

/** A dialable address of this peer; `SF_USAGE` unless it is an IP address and a TCP port (no names: promise 17). */
function target(peer: string | null, address: string): Multiaddr {
  const parts = /^\/ip([46])\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/([^/]+))?$/.exec(address);
  if (parts === null || String(isIP(parts[2] ?? '')) !== parts[1] || Number(parts[3]) > 65_535) {
    throw new SuperfleetError('SF_USAGE', 'this address cannot be dialled', {
      expected: 'an address such as /ip4/192.168.1.5/tcp/4701',
      got: address,
    });
  }
  const base = `/ip${parts[1]}/${parts[2]}/tcp/${Number(parts[3])}`;
  if (peer === null) return multiaddr(base);
  if (parts[4] !== undefined && parts[4] !== peer) {
    throw new SuperfleetError('SF_USAGE', 'this address belongs to another peer', {
      expected: peer,
      got: parts[4],
    });
  }
  return multiaddr(`${base}/p2p/${peer}`);
}

function unreachable(
  who: string,
  addresses: readonly string[],
  reason: string,
  cause?: unknown,
): SuperfleetError {
  return new SuperfleetError('SF_UNREACHABLE', `${who} does not answer: ${reason}`, {
    expected: `an answer from one of: ${addresses.slice(0, ADDRESSES_MAX).join(', ') || 'no address'}`,
    got: reason,
    hint: 'is it running, on the same network, and is its port open?',
    cause,
  });
}

/** What a failed dial comes down to, in words. */
function reasonOf(cause: unknown): string {
  const errors = cause instanceof AggregateError ? (cause.errors as unknown[]) : [cause];
  const words = errors.map((error) => {
    const text = error instanceof Error ? `${error.name} ${error.message}` : String(error);
    if (/ECONNREFUSED/.test(text)) return 'connection refused';
    if (/EHOSTUNREACH|ENETUNREACH/.test(text)) return 'no route';
    if (/UnexpectedPeer|InvalidCryptoExchange|does not match|Unexpected peer/i.test(text)) {
      return 'another identity answered';
    }
    if (/Timeout|Abort/i.test(text)) return 'no answer in time';
    return error instanceof Error ? error.message : text;
  });
  return [...new Set(words)].slice(0, 3).join('; ').slice(0, 256);
}

function listenError(listen: readonly string[], cause: unknown): unknown {
  const text = cause instanceof Error ? cause.message : String(cause);
  const port = /EADDRINUSE[^\n]*:(\d+)/.exec(text)?.[1] ?? (/EADDRINUSE/.test(text) ? portOf(listen) : null);
  if (port !== null) {
    return new SuperfleetError('SF_PORT_IN_USE', `port ${port} belongs to another process`, {
      expected: `port ${port} to be free`,
      got: 'address in use',
      hint: `stop the other process, or choose another port with --port N (0: any free one)`,
      cause,
    });
  }
  if (/EACCES|EADDRNOTAVAIL/.test(text)) {
    return new SuperfleetError('SF_USAGE', 'this machine cannot listen on the addresses given', {
      expected: 'an address of this machine and a port it may open',
      got: listen.join(', '),
      cause,
    });
  }
  return cause;
}

const portOf = (listen: readonly string[]): string => /\/tcp\/(\d+)/.exec(listen.join(' '))?.[1] ?? '?';
