import type { Capacity, Instance } from '../../../protocol/session.ts';
import type { Rival } from '../context.ts';
import { type BackOff, isProbed } from './back-off.ts';

/** What is told of a member here: that what it may be given has changed, or that its free slots have. */
export interface MemberWatch {
  changed(peer: string): void;
  loaded(peer: string): void;
}

/**
 * A member as the founder hears it now. Rebuilt from hellos after a restart; nothing of it is logged. What an index of members
 * hangs on is told to its watch by itself, so that no change can be forgotten.
 */
export class LiveMember {
  readonly peer: string;
  /** Minor version of the session that it speaks. */
  minor = 0;
  /** Monotonic ms of its last word. */
  heardAt: number;
  /** When it was given the first of the leases it holds; they run from this or its last word, the later. */
  leasedAt = Number.NEGATIVE_INFINITY;
  /** While no session is open: until when its leases wait for it. */
  awaitedUntil: number;
  /** Keys of its open leases. */
  readonly leases: Set<string>;
  /** Leases it was told to stop, which may still take a slot: key → since when. */
  readonly stopping: Map<string, number>;
  /** Which process speaks on its session, and from where; null where it did not say. */
  instance: Instance | null = null;
  address: string | null = null;
  /** By how much its wall clock is ahead of the founder's, ms, as it last said; null where it did not. Only shown. */
  aheadMs: number | null = null;
  /** Another machine with its identity that waits for whether this one still lives. */
  rival: Rival | null = null;
  /** The other machine that was last refused for having this one's identity. */
  clash: { where: string; at: number } | null = null;
  /** Times that its owner stopped what it did since an attempt last came to its end there; what stops in one moment counts once. */
  ownerStops = 0;
  readonly #watch: MemberWatch;
  #session: number | null = null;
  #features: readonly string[] = [];
  #capacity: Capacity | null = null;
  #doubtful = false;
  #repositories: string[] = [];
  #assignedAt = Number.NEGATIVE_INFINITY;
  #restsUntil: number | null = null;
  #backOff: BackOff | null = null;

  constructor(peer: string, now: number, watch: MemberWatch) {
    this.peer = peer;
    this.heardAt = now;
    this.awaitedUntil = now;
    this.#watch = watch;
    const loaded = (): void => watch.loaded(peer);
    this.leases = new WatchedSet(loaded);
    this.stopping = new WatchedMap(loaded);
  }

  /** Null: no session is open. */
  get session(): number | null {
    return this.#session;
  }
  set session(session: number | null) {
    this.#session = session;
    this.#watch.changed(this.peer);
  }

  /** What it understands besides its version's messages, from the newest hello. */
  get features(): readonly string[] {
    return this.#features;
  }
  set features(features: readonly string[]) {
    this.#features = features;
    this.#watch.changed(this.peer);
  }

  /** From the newest hello; null until the first. */
  get capacity(): Capacity | null {
    return this.#capacity;
  }
  set capacity(capacity: Capacity | null) {
    this.#capacity = capacity;
    this.#watch.changed(this.peer);
  }

  /** It has missed a heartbeat: what it holds goes on, and nothing more is given to it. */
  get doubtful(): boolean {
    return this.#doubtful;
  }
  set doubtful(doubtful: boolean) {
    this.#doubtful = doubtful;
    this.#watch.changed(this.peer);
  }

  /** After its owner stopped something, nothing is given to it for a moment, whatever it says; null: it may. */
  get restsUntil(): number | null {
    return this.#restsUntil;
  }
  set restsUntil(until: number | null) {
    this.#restsUntil = until;
    this.#watch.changed(this.peer);
  }

  /** Its attempts failed by its own fault; null: the last one did not. */
  get backOff(): BackOff | null {
    return this.#backOff;
  }
  set backOff(backOff: BackOff | null) {
    this.#backOff = backOff;
    this.#watch.changed(this.peer);
  }

  /** Ids of repositories of its last attempts, newest last. */
  get repositories(): string[] {
    return this.#repositories;
  }
  set repositories(repositories: string[]) {
    this.#repositories = repositories;
    this.#watch.loaded(this.peer);
  }

  get assignedAt(): number {
    return this.#assignedAt;
  }
  set assignedAt(at: number) {
    this.#assignedAt = at;
    this.#watch.loaded(this.peer);
  }
}

class WatchedSet<T> extends Set<T> {
  readonly #changed: () => void;

  constructor(changed: () => void) {
    super();
    this.#changed = changed;
  }
  override add(item: T): this {
    this.#changed();
    return super.add(item);
  }
  override delete(item: T): boolean {
    this.#changed();
    return super.delete(item);
  }
  override clear(): void {
    this.#changed();
    super.clear();
  }
}

class WatchedMap<K, V> extends Map<K, V> {
  readonly #changed: () => void;

  constructor(changed: () => void) {
    super();
    this.#changed = changed;
  }
  override set(key: K, value: V): this {
    this.#changed();
    return super.set(key, value);
  }
  override delete(key: K): boolean {
    this.#changed();
    return super.delete(key);
  }
  override clear(): void {
    this.#changed();
    super.clear();
  }
}

/** Slots of a member that are not taken, also not by what is still stopping; of one that failed again and again there is one. */
export function freeSlots(live: LiveMember): number {
  const slots = live.capacity?.slots ?? 0;
  return (isProbed(live) ? Math.min(1, slots) : slots) - live.leases.size - live.stopping.size;
}
