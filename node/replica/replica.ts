import type { DurableLog } from '../../ledger/durable-log.ts';
import { LogCopy } from '../../ledger/log-copy.ts';
import { applyEntry, initialState, type MeshState, parsedEntry } from '../../ledger/state/state.ts';
import type { LogStorage } from '../../ledger/storage.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import type { Host } from '../network/host.ts';
import type { Neighbours } from '../network/neighbours.ts';
import { systemTimers, type Timers } from '../timers.ts';
import { type CopyHolder, followLog } from './follow.ts';

/** First wait after a source was lost, and the longest. */
const RETRY_MS = { first: 250, max: 10_000 };
/** One that follows another replica looks so often whether the founder is back. */
const FOUNDER_AGAIN_MS = 15_000;

export interface ReplicaOptions {
  host: Pick<Host, 'peer' | 'dial' | 'addresses'>;
  mesh: string;
  storage: LogStorage;
  neighbours: Pick<Neighbours, 'addresses' | 'onNews'>;
  /** The founder of now and where it may be. */
  founder(): { peer: string; addresses: readonly string[] };
  /** Other replicas of the mesh. */
  replicas(): readonly string[];
  /** The handovers that a source knows of, before anything else of its answer is used; throws to leave it. */
  onTip?(peer: string, tip: LogTip): Promise<void> | void;
  /** As of `followLog`. */
  cosign?(text: string): string;
  /** The copy holds a handover: lines of all of them. */
  onHandover?(lines: string[]): void;
  /** What was caught up with, or why a source was left. */
  onEvent?(event: { peer: string; error: SuperfleetError | null }): void;
  /** @default the system's */
  timers?: Timers;
}

/** What a replica says of itself. */
export interface ReplicaStatus {
  /** Entries it holds synced. */
  size: number;
  root: string | null;
  /** Peer it follows now; null: none answers. */
  source: string | null;
  /** Entries of its source that it does not hold yet; null: it follows nobody. */
  behind: number | null;
}

/**
 * A replica's copy of the log and what keeps it fresh: it follows the founder, or another replica while the founder cannot
 * be reached, and replays what it holds, so that it can answer for the mesh when it is alone.
 */
export class Replica implements CopyHolder {
  readonly #options: ReplicaOptions;
  readonly #timers: Timers;
  readonly #ending = new AbortController();
  readonly #began = new Set<(log: DurableLog) => void>();
  #copy: LogCopy | null;
  #state: MeshState;
  #source: string | null = null;
  #sourceSize = 0;
  #following: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};

  private constructor(options: ReplicaOptions, copy: LogCopy | null, state: MeshState) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#copy = copy;
    this.#state = state;
    if (copy !== null) this.#watch(copy);
  }

  /** Opens the copy that is here, if there is one; with `start` it begins to follow. */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const { storage, mesh } = options;
    const copy = (await storage.list()).length === 0 ? null : await openOrNone({ storage, mesh });
    const state = initialState();
    if (copy !== null) for await (const entry of copy.entries()) applyEntry(state, entry, parsedEntry(entry));
    return new Replica(options, copy, state);
  }

  get copy(): LogCopy | null {
    return this.#copy;
  }

  /** Replayed from the copy; to be read only. */
  get state(): MeshState {
    return this.#state;
  }

  get status(): ReplicaStatus {
    const size = this.#copy?.size ?? 0;
    const behind = this.#source === null ? null : Math.max(0, this.#sourceSize - size);
    return { size, root: this.#copy?.checkpoint.root ?? null, source: this.#source, behind };
  }

  /** Calls back with the copy once there is one. */
  onBegun(listener: (log: DurableLog) => void): void {
    if (this.#copy === null) this.#began.add(listener);
    else listener(this.#copy);
  }

  start(): void {
    const unsubscribe = this.#options.neighbours.onNews(() => this.#wake());
    this.#following = this.#follow().finally(unsubscribe);
  }

  async begin(bytes: Buffer, signatures: 'all' | 'last' = 'all'): Promise<LogCopy> {
    const { storage, mesh } = this.#options;
    const copy = await LogCopy.create({ storage, mesh }, bytes, signatures);
    for await (const entry of copy.entries()) applyEntry(this.#state, entry, parsedEntry(entry));
    this.#copy = copy;
    this.#watch(copy);
    for (const listener of this.#began) listener(copy);
    this.#began.clear();
    return copy;
  }

  /** Follows nobody any more and closes the copy. */
  async stop(): Promise<void> {
    this.#ending.abort(new SuperfleetError('SF_UNREACHABLE', 'this machine is stopping'));
    this.#wake();
    await this.#following;
    await this.#copy?.close();
  }

  #watch(copy: LogCopy): void {
    let epoch = copy.epoch;
    copy.subscribe(({ entries }) => {
      for (const entry of entries) applyEntry(this.#state, entry, parsedEntry(entry));
      if (copy.epoch === epoch) return;
      epoch = copy.epoch;
      this.#options.onHandover?.(copy.leadership.handovers.map(({ line }) => line));
    });
  }

  async #follow(): Promise<void> {
    const { signal } = this.#ending;
    let wait = RETRY_MS.first;
    while (!signal.aborted) {
      let came = false;
      for (const { peer, addresses } of this.#sources()) {
        const before = this.#copy?.size ?? 0;
        await this.#followOne(peer, addresses);
        if (signal.aborted) return;
        if ((this.#copy?.size ?? 0) > before) {
          came = true;
          break;
        }
        // A disk that refused once is never asked again: only a restart sees whether it is sound.
        if (this.#copy?.failure != null) return;
      }
      wait = came ? RETRY_MS.first : Math.min(RETRY_MS.max, wait * 2);
      await this.#pause(wait * (0.5 + this.#timers.random()));
    }
  }

  /** The founder first, then other replicas. */
  #sources(): { peer: string; addresses: readonly string[] }[] {
    const { host, neighbours } = this.#options;
    const founder = this.#options.founder();
    const others = this.#options
      .replicas()
      .filter((peer) => peer !== founder.peer && peer !== host.peer)
      .map((peer) => ({ peer, addresses: neighbours.addresses(peer) }));
    const first = { ...founder, addresses: [...neighbours.addresses(founder.peer), ...founder.addresses] };
    return founder.peer === host.peer ? others : [first, ...others];
  }

  async #followOne(peer: string, addresses: readonly string[]): Promise<void> {
    const { host, mesh, onTip, onEvent } = this.#options;
    const leaving = new AbortController();
    const signal = AbortSignal.any([this.#ending.signal, leaving.signal]);
    const look = (): (() => void) =>
      this.#timers.after(FOUNDER_AGAIN_MS, () => {
        cancel = look();
        void this.#lookForFounder(peer, leaving);
      });
    let cancel = look();
    try {
      const connection = await host.dial(peer, addresses, signal);
      await followLog(connection, {
        mesh,
        holder: this,
        signatures: peer === this.#options.founder().peer ? 'last' : 'all',
        signal,
        addresses: () => host.addresses(),
        onTip: async (tip) => {
          await onTip?.(peer, tip);
          this.#source = peer;
          onEvent?.({ peer, error: null });
        },
        ...(this.#options.cosign === undefined ? {} : { cosign: this.#options.cosign }),
        onSource: (size) => {
          this.#sourceSize = size;
        },
      });
    } catch (thrown) {
      if (!this.#ending.signal.aborted) onEvent?.({ peer, error: asSuperfleetError(thrown) });
    } finally {
      cancel();
      this.#source = null;
    }
  }

  /** Leaves another replica once the founder answers. */
  async #lookForFounder(following: string, leaving: AbortController): Promise<void> {
    const [first] = this.#sources();
    if (first === undefined || following === this.#options.founder().peer) return;
    try {
      await this.#options.host.dial(first.peer, first.addresses, leaving.signal);
      leaving.abort(new SuperfleetError('SF_UNREACHABLE', 'the founder is back'));
    } catch {
      // It is looked for again.
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#timers.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
      if (this.#ending.signal.aborted) this.#wake();
    });
  }
}

/** A folder in which a copy was begun and nothing synced is as good as an empty one. */
async function openOrNone(options: { storage: LogStorage; mesh: string }): Promise<LogCopy | null> {
  try {
    return await LogCopy.open(options);
  } catch (error) {
    if (error instanceof SuperfleetError && error.code === 'SF_NOT_FOUND') return null;
    throw error;
  }
}
