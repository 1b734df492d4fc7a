import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { z } from 'zod';
import { fenced } from '../../ledger/log/handover.ts';
import type { Log } from '../../ledger/log/log.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { writeFileAtomic } from '../../node/atomic-file.ts';
import type { Host } from '../../node/network/host.ts';
import { Neighbours } from '../../node/network/neighbours.ts';
import { askTip } from '../../node/replica/follow.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type Leadership, leadershipOf } from '../../protocol/handover.ts';
import { type Place, place } from '../../protocol/session.ts';
import type { Told } from './step-down.ts';

/** A founder that starts gives its replicas so long to say that another one leads. */
const ASK_MS = 1_500;
/** While it runs, those that do not follow it are asked so often. */
const AGAIN_MS = 10_000;
const LOOK_AGAIN_MS = 25;
const PLACES_MAX = 16;

const file = z.array(place).max(PLACES_MAX);

/** The mesh has another founder, and others have proved it. */
export class RelievedError extends SuperfleetError {
  readonly told: Told;

  constructor(leadership: Leadership, told: Told) {
    const { code, message, expected, got, hint } = fenced(leadership);
    super(code, message, { expected, got, hint });
    this.told = told;
  }
}

export interface RelievedOptions {
  log: Pick<Log, 'meshId' | 'leadership'>;
  genesisLine: string;
  host: Host;
  state(): MeshState;
  logger: Logger;
  /** File in which the addresses of replicas are kept. */
  places: string;
}

/**
 * Asks the replicas whether one of them was made the founder while this machine was away: nothing is released before, and
 * they are asked again as they appear. A mesh without replicas can have no other founder.
 */
export class Relieved {
  readonly #options: RelievedOptions;
  readonly #neighbours: Neighbours;
  readonly #answered = new Set<string>();
  readonly #asking = new Set<string>();
  readonly #ending = new AbortController();
  #places: Place[] = [];
  #writing: Promise<void> = Promise.resolve();
  #again: NodeJS.Timeout | null = null;
  #found: RelievedError | null = null;

  constructor(options: RelievedOptions) {
    const { host, state } = options;
    this.#options = options;
    this.#neighbours = new Neighbours(
      host,
      (peer) => state().members.byPeer.get(peer)?.standing === 'active',
    );
  }

  /** Rejects with `RelievedError` where somebody proves a later epoch; resolves when the replicas had their say. */
  async ask(): Promise<void> {
    this.#places = await readPlaces(this.#options.places);
    for (const { peer, addresses } of this.#places) this.#neighbours.tell(peer, addresses);
    const until = performance.now() + ASK_MS;
    const { announcer } = this.#options.host;
    for (;;) {
      const missing = this.#replicas().filter((peer) => !this.#answered.has(peer));
      // Whom nothing is known of, and who cannot announce itself, is not waited for.
      const waited = missing.filter(
        (peer) => announcer !== null || this.#asking.has(peer) || this.#known(peer),
      );
      for (const peer of waited) if (this.#known(peer) && !this.#failed.has(peer)) void this.#ask(peer);
      if (this.#found !== null) throw this.#found;
      if (waited.every((peer) => this.#failed.has(peer)) || performance.now() > until) return;
      await delay(LOOK_AGAIN_MS);
    }
  }

  /** Goes on asking: whoever appears, and every replica that does not follow. */
  watch(following: () => readonly string[], relieved: (error: RelievedError) => void): void {
    const look = async (peer: string): Promise<void> => {
      await this.#ask(peer);
      if (this.#found !== null && !this.#ending.signal.aborted) relieved(this.#found);
    };
    this.#neighbours.onNews((peer) => void look(peer));
    this.#again = setInterval(() => {
      const away = this.#replicas().filter((peer) => !following().includes(peer) && this.#known(peer));
      for (const peer of away) void look(peer);
    }, AGAIN_MS);
  }

  /** Replicas that follow, and where they listen: kept for the next start. Answers with all that are known. */
  keep(places: readonly Place[]): Place[] {
    const replicas = this.#replicas();
    const others = this.#places.filter(
      ({ peer }) => replicas.includes(peer) && !places.some((one) => one.peer === peer),
    );
    const kept = [...places, ...others]
      .slice(0, PLACES_MAX)
      .map(({ peer, addresses }) => ({ peer, addresses: plain(addresses).slice(0, PLACES_MAX) }));
    if (JSON.stringify(kept) === JSON.stringify(this.#places)) return kept;
    this.#places = kept;
    for (const { peer, addresses } of kept) this.#neighbours.tell(peer, addresses);
    this.#writing = this.#writing
      .then(() => writeFileAtomic(this.#options.places, `${JSON.stringify(this.#places)}\n`))
      .catch((cause: unknown) => {
        this.#options.logger.warn({ cause: String(cause) }, 'where replicas listen could not be kept');
      });
    return kept;
  }

  close(): void {
    this.#ending.abort(new Error('the founder is stopping'));
    if (this.#again !== null) clearInterval(this.#again);
    this.#neighbours.close();
  }

  readonly #failed = new Set<string>();

  #known(peer: string): boolean {
    return this.#neighbours.addresses(peer).length > 0;
  }

  #replicas(): string[] {
    const { host, state } = this.#options;
    return [...state().members.byPeer.values()]
      .filter(
        ({ peer, standing, roles }) =>
          peer !== host.peer && standing === 'active' && roles.includes('replica'),
      )
      .map(({ peer }) => peer);
  }

  async #ask(peer: string): Promise<void> {
    if (this.#asking.has(peer)) return;
    this.#asking.add(peer);
    const { host, log, genesisLine } = this.#options;
    try {
      const signal = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(ASK_MS)]);
      const connection = await host.dial(peer, this.#neighbours.addresses(peer), signal);
      const { handovers } = await askTip(connection, log.meshId, signal);
      this.#answered.add(peer);
      const other = leadershipOf(genesisLine, handovers);
      if (other.epoch <= log.leadership.epoch) return;
      const addresses = this.#neighbours.addresses(other.founder);
      this.#found = new RelievedError(other, { handovers, addresses });
    } catch {
      this.#failed.add(peer);
    } finally {
      this.#asking.delete(peer);
    }
  }
}

async function readPlaces(path: string): Promise<Place[]> {
  try {
    return file.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return [];
  }
}

const plain = (addresses: readonly string[]): string[] =>
  addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
