import type { Connection } from '@libp2p/interface';
import type { Entry } from '../../ledger/lines/entry.ts';
import { type Beginning, gatherBeginning, openBase } from '../../ledger/log/beginning.ts';
import type { DurableLog } from '../../ledger/log/durable-log.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import type { Host } from '../network/host.ts';
import type { Neighbours } from '../network/neighbours.ts';
import { systemTimers, type Timers } from '../timers.ts';
import { openOrNone } from './backfill.ts';
import { CatchUp } from './catch-up.ts';
import { type CopyHolder, followLog } from './follow.ts';
import { Replayed } from './replayed.ts';

/** First wait after a source was lost, and the longest. */
const RETRY_MS = { first: 250, max: 10_000 };
/** One that follows another replica looks so often whether the founder is back. */
const FOUNDER_AGAIN_MS = 15_000;

export interface ReplicaOptions {
  host: Pick<Host, 'peer' | 'dial' | 'addresses'>;
  mesh: string;
  storage: LogStorage;
  neighbours: Pick<Neighbours, 'addresses' | 'onNews'>;
  /**
   * What it needs to begin at a snapshot and fetch the entries before it later. @default none: it fetches the log from its
   * first entry on
   */
  beginning?: Beginning;
  /** As of `CatchUp`. */
  aheadEntries?: number;
  backfillBytesPerSecond?: number;
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
  /** The lowest entry that it holds is another one now. */
  onFrom?(from: number): void;
  /** Something that was kept or sent does not hold: somebody must know of it. */
  onFault?(error: SuperfleetError): void;
  /** Two checkpoints that prove an equivocation. */
  onConflict?(checkpoints: [string, string]): void;
  /** @default the system's */
  timers?: Timers;
}

/** What a replica says of itself. */
export interface ReplicaStatus {
  /** Entries it holds synced. */
  size: number;
  root: string | null;
  /** Lowest entry that it holds in its log; above 0: it began at a snapshot, and fetches the entries before. */
  from: number;
  /** Entries before `from` that it has fetched. */
  fetched: number;
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
  readonly #replayed: Replayed;
  readonly #catchUp: CatchUp | null;
  readonly #wholeOnes = new Set<(log: DurableLog) => void>();
  #copy: LogCopy | null;
  #epoch = 0;
  #source: string | null = null;
  #sourceSize = 0;
  #following: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};
  /** Ends the following of another replica; nothing while the founder is followed or nobody is. */
  #leaveForFounder: () => void = () => {};
  /** The founder answers since it was tried last. */
  #founderAgain = false;

  private constructor(options: ReplicaOptions, copy: LogCopy | null, replayed: Replayed) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#copy = copy;
    this.#replayed = replayed;
    const { beginning, mesh, storage, host, onTip, onEvent } = options;
    this.#catchUp =
      beginning === undefined
        ? null
        : new CatchUp({
            ...options,
            mesh,
            storage,
            beginning,
            sources: () => this.#sources(),
            dial: (peer, addresses, signal) => host.dial(peer, addresses, signal),
            onTip: (peer, tip) => onTip?.(peer, tip),
            onLeft: (peer, error) => onEvent?.({ peer, error }),
            timers: this.#timers,
            ending: this.#ending.signal,
          });
    if (copy !== null) this.#watch(copy);
  }

  /** Opens the copy that is here, if there is one; with `start` it begins to follow. */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const { storage, mesh, beginning } = options;
    const base = beginning === undefined ? null : await openBase(beginning.base, mesh);
    if (base !== null) await gatherBeginning(storage, beginning!, base.body.size);
    const none = base === null && (await storage.list()).length === 0;
    const copy = none ? null : await openOrNone({ storage, mesh, begins: base?.chain ?? null });
    const replayed = new Replayed();
    if (base !== null) replayed.beginAt(base);
    const replica = new Replica(options, copy, replayed);
    if (copy !== null) {
      for await (const entry of copy.entries(copy.first)) replica.#replay([entry]);
    }
    return replica;
  }

  get copy(): LogCopy | null {
    return this.#copy;
  }

  /** Replayed from the copy; to be read only. */
  get state(): MeshState {
    return this.#replayed.state;
  }

  /** The state is what the log gives: not so for a while where it came with a snapshot. */
  get isStateProved(): boolean {
    return this.#replayed.isProved;
  }

  get status(): ReplicaStatus {
    const size = this.#copy?.size ?? 0;
    const behind = this.#source === null ? null : Math.max(0, this.#sourceSize - size);
    const from = this.#copy?.first ?? 0;
    const fetched = from === 0 ? 0 : (this.#catchUp?.fetched ?? 0);
    return { size, root: this.#copy?.checkpoint.root ?? null, from, fetched, source: this.#source, behind };
  }

  /** Calls back with the copy once there is one. */
  onBegun(listener: (log: DurableLog) => void): void {
    if (this.#copy === null) this.#began.add(listener);
    else listener(this.#copy);
  }

  /** Calls back once the copy holds the log from entry 0 on. */
  onWhole(listener: (log: DurableLog) => void): void {
    if (this.#copy === null || this.#copy.first > 0) this.#wholeOnes.add(listener);
    else listener(this.#copy);
  }

  start(): void {
    const unsubscribe = this.#options.neighbours.onNews(() => {
      this.#wake();
      this.#catchUp?.again();
    });
    this.#following = this.#follow().finally(unsubscribe);
    const copy = this.#copy;
    if (copy !== null && copy.first > 0) this.#catchUp?.fillIn(copy, () => this.#whole(copy));
  }

  async begin(bytes: Buffer, signatures: 'all' | 'last' = 'all'): Promise<LogCopy> {
    const { storage, mesh } = this.#options;
    const copy = await LogCopy.create({ storage, mesh }, bytes, signatures);
    for await (const entry of copy.entries()) this.#replay([entry]);
    this.#begun(copy);
    this.#tellWhole();
    return copy;
  }

  /** The founder answers this machine: unless it is followed already it is now, without a wait. */
  founderAnswers(): void {
    if (this.#source === this.#options.founder().peer) return;
    this.#founderAgain = true;
    this.#leaveForFounder();
    this.#wake();
  }

  /** Follows nobody any more and closes the copy. */
  async stop(): Promise<void> {
    this.#ending.abort(new SuperfleetError('SF_UNREACHABLE', 'this machine is stopping'));
    this.#wake();
    await this.#following;
    await this.#catchUp?.settled();
    await this.#copy?.close();
  }

  #watch(copy: LogCopy): void {
    this.#epoch = copy.epoch;
    copy.subscribe(({ entries }) => {
      this.#replay(entries);
      this.#hearEpoch(copy);
    });
  }

  #hearEpoch(copy: LogCopy): void {
    if (copy.epoch === this.#epoch) return;
    this.#epoch = copy.epoch;
    this.#options.onHandover?.(copy.leadership.handovers.map(({ line }) => line));
  }

  #begun(copy: LogCopy): void {
    this.#copy = copy;
    this.#watch(copy);
    for (const listener of this.#began) listener(copy);
    this.#began.clear();
  }

  #tellWhole(): void {
    for (const listener of this.#wholeOnes) listener(this.#copy!);
    this.#wholeOnes.clear();
  }

  #replay(entries: Iterable<Entry>): void {
    const wrong = this.#replayed.take(entries);
    if (wrong !== null) this.#options.onFault?.(wrong);
  }

  async #beginAtSnapshot(
    connection: Connection,
    peer: string,
    size: number,
    signal: AbortSignal,
  ): Promise<void> {
    const begun = await this.#catchUp!.beginAt(connection, peer, size, this.#copy, signal);
    if (begun === null) return;
    const { base, copy } = begun;
    this.#replayed.beginAt(base);
    if (this.#copy === null) this.#begun(copy);
    else this.#hearEpoch(copy);
    this.#options.onFrom?.(size);
    this.#catchUp!.fillIn(copy, () => this.#whole(copy));
  }

  /** The entries before the snapshot at which it began are here. */
  async #whole(copy: LogCopy): Promise<void> {
    if (!this.#replayed.isProved) await this.#replayed.replay(copy);
    this.#options.onFrom?.(0);
    this.#tellWhole();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#ending;
    let wait = RETRY_MS.first;
    while (!signal.aborted) {
      let came = false;
      this.#founderAgain = false;
      for (const { peer, addresses } of this.#sources()) {
        const before = this.#copy?.size ?? 0;
        await this.#followOne(peer, addresses);
        if (signal.aborted) return;
        if ((this.#copy?.size ?? 0) > before) {
          came = true;
          break;
        }
        if (this.#founderAgain) break;
        // A disk that refused once is never asked again: only a restart sees whether it is sound.
        if (this.#copy?.failure != null) return;
      }
      wait = came || this.#founderAgain ? RETRY_MS.first : Math.min(RETRY_MS.max, wait * 2);
      if (!this.#founderAgain) await this.#pause(wait * (0.5 + this.#timers.random()));
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
        void this.#lookForFounder(peer, leaving.signal);
      });
    let cancel = look();
    const isFounder = (): boolean => peer === this.#options.founder().peer;
    this.#leaveForFounder = () => {
      if (!isFounder()) leaving.abort(new SuperfleetError('SF_UNREACHABLE', 'the founder is back'));
    };
    let offered: number | null = null;
    const follow = (connection: Connection): Promise<never> =>
      followLog(connection, {
        mesh,
        holder: this,
        signatures: isFounder() ? 'last' : 'all',
        signal,
        addresses: () => host.addresses(),
        onTip: async (tip) => {
          offered = null;
          await onTip?.(peer, tip);
          offered = this.#catchUp?.worthTaking(peer, tip, this.#copy) ?? null;
          if (offered !== null) throw new SuperfleetError('SF_BEHIND', 'a snapshot is fetched first');
          this.#source = peer;
          if (isFounder()) this.#founderAgain = false;
          onEvent?.({ peer, error: null });
        },
        ...(this.#options.cosign === undefined ? {} : { cosign: this.#options.cosign }),
        onSource: (size) => {
          this.#sourceSize = size;
        },
      });
    try {
      const connection = await host.dial(peer, addresses, signal);
      for (;;) {
        try {
          await follow(connection);
        } catch (thrown) {
          if (offered === null) throw thrown;
          await this.#beginAtSnapshot(connection, peer, offered, signal);
        }
      }
    } catch (thrown) {
      if (!this.#ending.signal.aborted) onEvent?.({ peer, error: asSuperfleetError(thrown) });
    } finally {
      cancel();
      this.#leaveForFounder = () => {};
      this.#source = null;
    }
  }

  /** Leaves another replica once the founder answers. */
  async #lookForFounder(following: string, signal: AbortSignal): Promise<void> {
    const [first] = this.#sources();
    if (first === undefined || following === this.#options.founder().peer) return;
    try {
      await this.#options.host.dial(first.peer, first.addresses, signal);
      if (!signal.aborted) this.founderAnswers();
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
