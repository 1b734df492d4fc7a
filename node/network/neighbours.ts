import { privateAddresses } from './announcer.ts';
import type { Host } from './host.ts';

/** Peers whose addresses are remembered; what more are announced replace the oldest. */
const PEERS_MAX = 1024;
const ADDRESSES_MAX = 8;

/**
 * Where other members of the mesh may be reached: as mDNS announced them and as the founder told. Claims, until a dial
 * proves the peer; strangers' are not kept.
 */
export class Neighbours {
  readonly #isMember: (peer: string) => boolean;
  readonly #told = new Map<string, readonly string[]>();
  readonly #heard = new Map<string, readonly string[]>();
  readonly #listeners = new Set<(peer: string) => void>();
  readonly #unsubscribe: (() => void) | undefined;

  constructor(host: Host, isMember: (peer: string) => boolean) {
    this.#isMember = isMember;
    this.#unsubscribe = host.announcer?.onAnnounced(({ peer, addresses }) => {
      if (peer !== host.peer && isMember(peer)) this.#keep(this.#heard, peer, privateAddresses(addresses));
    });
  }

  /** What the founder says of a member. */
  tell(peer: string, addresses: readonly string[]): void {
    if (this.#isMember(peer)) this.#keep(this.#told, peer, addresses);
  }

  /** Addresses of a peer, the newest announcement's first. */
  addresses(peer: string): string[] {
    const all = [...(this.#heard.get(peer) ?? []), ...(this.#told.get(peer) ?? [])];
    return [...new Set(all)].slice(0, 2 * ADDRESSES_MAX);
  }

  /** Peers of whom an address is known. */
  peers(): string[] {
    return [...new Set([...this.#heard.keys(), ...this.#told.keys()])].filter((peer) => this.#isMember(peer));
  }

  /** Calls back when an address of a peer was learned. Returns what ends it. */
  onNews(listener: (peer: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#unsubscribe?.();
  }

  #keep(into: Map<string, readonly string[]>, peer: string, addresses: readonly string[]): void {
    if (addresses.length === 0) return;
    const news = into.get(peer)?.join() !== addresses.join();
    into.delete(peer);
    into.set(peer, addresses.slice(0, ADDRESSES_MAX));
    const [oldest] = into.keys();
    if (into.size > PEERS_MAX && oldest !== undefined) into.delete(oldest);
    if (news) for (const listener of this.#listeners) listener(peer);
  }
}
