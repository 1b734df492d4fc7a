import type { Connection, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { strangerMs, strangersMax } from '../../protocol/limits.ts';
import { finish } from './channel.ts';
import type { Host } from './host.ts';

/** Who a peer is to this machine, now. Asked at every stream, so a changed roster counts at once. */
export interface Access {
  /** In the roster and not revoked; true for the founder too. */
  isMember(peer: string): boolean;
  isFounder(peer: string): boolean;
  /** Was a member and was revoked: such a peer is told so in words. */
  isRevoked?(peer: string): boolean;
}

export interface ProtocolOptions {
  protocol: string;
  /** Who may open a stream. `strangers` lets everybody, members too. */
  access: 'members' | 'strangers' | 'founder';
  /** Streams of this protocol that one connection may have open. */
  maxInboundStreams: number;
  /** Serves one stream. When it returns the stream is closed, when it rejects it is aborted. */
  handler(stream: Stream, connection: Connection): Promise<void>;
  /** Says why to a peer without access, in the protocol's own words, before its stream is closed. */
  refuse?(stream: Stream, error: SuperfleetError): Promise<void>;
}

export interface RegistryLimits {
  /** @default strangersMax */
  strangersMax: number;
  /** @default strangerMs */
  strangerMs: number;
  /** Connections of one peer at one time; the oldest goes first. A machine that changed networks has two. */
  connectionsPerPeerMax: number;
  /** A handler that returned has this long to get its last bytes out. */
  closeMs: number;
}

const registryLimits: RegistryLimits = {
  strangersMax,
  strangerMs,
  connectionsPerPeerMax: 4,
  closeMs: 2_000,
};

/**
 * The one wrapper around every handler: membership is checked here and nowhere else. Strangers reach the protocols
 * marked for them, are counted apart from members, and are gone after `strangerMs` unless they became members or
 * `extend` was called for them.
 */
export class Registry {
  readonly host: Host;
  readonly access: Access;
  readonly #limits: RegistryLimits;
  /** Inbound connections of peers that were no members when they came → when they must be gone. */
  readonly #strangers = new Map<Connection, NodeJS.Timeout>();
  readonly #protocols: string[] = [];
  readonly #onError: (error: SuperfleetError, peer: string, protocol: string) => void;
  #stopped = false;

  /** `onError` hears why streams were aborted, for the log: peers' faults, not ours. */
  constructor(
    host: Host,
    access: Access,
    limits: Partial<RegistryLimits> = {},
    onError: (error: SuperfleetError, peer: string, protocol: string) => void = () => {},
  ) {
    this.host = host;
    this.access = access;
    this.#limits = { ...registryLimits, ...limits };
    this.#onError = onError;
    host.libp2p.addEventListener('connection:open', this.#opened);
    host.libp2p.addEventListener('connection:close', this.#closed);
  }

  /** Connections of strangers now open. */
  get strangers(): number {
    return [...this.#strangers.keys()].filter((connection) => !this.#isMember(connection)).length;
  }

  async handleProtocol(options: ProtocolOptions): Promise<void> {
    this.#protocols.push(options.protocol);
    await this.host.libp2p.handle(
      options.protocol,
      (stream, connection) => this.#serve(options, stream, connection),
      { maxInboundStreams: options.maxInboundStreams, maxOutboundStreams: 64 },
    );
  }

  /** A stranger with a request that waits for a person may stay this much longer. */
  extend(connection: Connection, ms: number): void {
    const timer = this.#strangers.get(connection);
    if (timer === undefined) return;
    clearTimeout(timer);
    this.#strangers.set(connection, this.#expiry(connection, ms));
  }

  /** Closes every connection of this peer at once: revoked, or gone from the roster. */
  dropPeer(peer: string): void {
    const reason = new SuperfleetError('SF_REVOKED', 'no longer a member');
    for (const connection of this.host.libp2p.getConnections(peerIdFromString(peer)))
      connection.abort(reason);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.host.libp2p.removeEventListener('connection:open', this.#opened);
    this.host.libp2p.removeEventListener('connection:close', this.#closed);
    for (const timer of this.#strangers.values()) clearTimeout(timer);
    this.#strangers.clear();
    await this.host.libp2p.unhandle(this.#protocols);
  }

  readonly #opened = (event: CustomEvent<Connection>): void => {
    const connection = event.detail;
    const ofPeer = this.host.libp2p.getConnections(connection.remotePeer);
    const others = ofPeer
      .filter((other) => other !== connection)
      .sort((a, b) => a.timeline.open - b.timeline.open);
    for (const old of others.slice(0, Math.max(0, others.length + 1 - this.#limits.connectionsPerPeerMax))) {
      old.abort(new SuperfleetError('SF_FULL', 'too many connections of one peer'));
    }
    if (connection.direction !== 'inbound' || this.#isMember(connection)) return;
    if (this.strangers >= this.#limits.strangersMax) {
      connection.abort(new SuperfleetError('SF_FULL', 'too many strangers'));
      return;
    }
    this.#strangers.set(connection, this.#expiry(connection, this.#limits.strangerMs));
  };

  readonly #closed = (event: CustomEvent<Connection>): void => {
    clearTimeout(this.#strangers.get(event.detail));
    this.#strangers.delete(event.detail);
  };

  #expiry(connection: Connection, ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#strangers.delete(connection);
      if (this.#isMember(connection)) return;
      connection.abort(new SuperfleetError('SF_TIMEOUT', 'a stranger stayed too long'));
    }, ms);
  }

  #isMember(connection: Connection): boolean {
    return this.access.isMember(connection.remotePeer.toString());
  }

  async #serve(options: ProtocolOptions, stream: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString();
    try {
      if (this.#stopped) throw new SuperfleetError('SF_UNREACHABLE', 'this machine is stopping');
      const refusal = this.#refusal(options.access, peer);
      if (refusal === null) await options.handler(stream, connection);
      else if (options.refuse !== undefined) await options.refuse(stream, refusal);
      else throw refusal;
      await finish(stream, this.#limits.closeMs);
    } catch (thrown) {
      const error = asSuperfleetError(thrown);
      this.#onError(error, peer, options.protocol);
      stream.abort(error);
    }
  }

  #refusal(access: ProtocolOptions['access'], peer: string): SuperfleetError | null {
    if (access === 'strangers') return null;
    if (this.access.isMember(peer)) {
      if (access === 'members' || this.access.isFounder(peer)) return null;
      return new SuperfleetError('SF_REFUSED', 'only the founder may ask this', {
        expected: 'the founder',
        got: peer,
      });
    }
    if (this.access.isRevoked?.(peer) === true) {
      return new SuperfleetError('SF_REVOKED', 'this membership was revoked', {
        expected: 'a member of the mesh',
        got: peer,
        hint: 'ask the operator of the founder for a new invite, and join with a new identity',
      });
    }
    return new SuperfleetError('SF_REFUSED', 'this machine is not a member of the mesh', {
      expected: 'a member of the mesh',
      got: peer,
      hint: 'join first: mesh-node join TOKEN',
    });
  }
}
