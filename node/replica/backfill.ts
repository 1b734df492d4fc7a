import type { Connection } from '@libp2p/interface';
import type { Checkpoint } from '../../ledger/lines/checkpoint.ts';
import type { Beginning } from '../../ledger/log/beginning.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import type { Timers } from '../timers.ts';
import { type CopyHolder, followLog } from './follow.ts';

/** First wait after all sources were tried, and the longest. */
const RETRY_MS = { first: 250, max: 10_000 };
/** No faster than this, so that what is new goes first on both disks. */
const backfillBytesPerSecond = 16 * 1024 * 1024;

export interface BackfillOptions {
  mesh: string;
  beginning: Pick<Beginning, 'segments'>;
  /** The checkpoint at which the rest of the log begins. */
  until: Checkpoint;
  /** Machines that may hold the log, best first. */
  sources(): readonly { peer: string; addresses: readonly string[] }[];
  dial(peer: string, addresses: readonly string[], signal: AbortSignal): Promise<Connection>;
  /** As of `Replica`. */
  onTip(peer: string, tip: LogTip): Promise<void> | void;
  /** Why a source was left. */
  onLeft(peer: string, error: SuperfleetError): void;
  timers: Timers;
  /** @default `backfillBytesPerSecond` */
  bytesPerSecond?: number;
}

/**
 * Fetches the entries before a snapshot, from the first on, into a log of their own: verified from the genesis line by
 * every root and signature, synced piece by piece, and going on where it was after a restart.
 */
export class Backfill {
  readonly #options: BackfillOptions;
  #copy: LogCopy | null;
  #wake: () => void = () => {};

  private constructor(options: BackfillOptions, copy: LogCopy | null) {
    this.#options = options;
    this.#copy = copy;
  }

  /** Reads and checks what was fetched before. */
  static async open(options: BackfillOptions): Promise<Backfill> {
    return new Backfill(options, await openOrNone(bounded(options)));
  }

  /** What has been fetched; null: nothing yet. */
  get copy(): LogCopy | null {
    return this.#copy;
  }

  /** All of it is here, and leads to the root where the rest begins. */
  get isWhole(): boolean {
    const { size, root } = this.#options.until;
    return this.#copy?.size === size && this.#copy.checkpoint.root === root;
  }

  /** As many entries are here as there must be, and they lead to another root: two histories were signed. */
  get isForked(): boolean {
    return this.#copy?.size === this.#options.until.size && !this.isWhole;
  }

  /** Resolves when everything is here, whole or forked, and when the signal aborts; rejects where the disk refuses. */
  async run(signal: AbortSignal): Promise<void> {
    for (let wait = RETRY_MS.first; !this.#ended(signal); ) {
      const before = this.#copy?.size ?? 0;
      for (const { peer, addresses } of this.#options.sources()) {
        await this.#fetch(peer, addresses, signal);
        if (this.#copy?.failure != null) throw this.#copy.failure;
        if (this.#ended(signal)) return;
      }
      wait = (this.#copy?.size ?? 0) > before ? RETRY_MS.first : Math.min(RETRY_MS.max, wait * 2);
      await this.#pause(wait * (0.5 + this.#options.timers.random()), signal);
    }
  }

  /** Somebody can be asked who could not before. */
  again(): void {
    this.#wake();
  }

  async close(): Promise<void> {
    await this.#copy?.close();
  }

  #ended(signal: AbortSignal): boolean {
    return signal.aborted || this.#copy?.size === this.#options.until.size;
  }

  async #fetch(peer: string, addresses: readonly string[], ending: AbortSignal): Promise<void> {
    const { mesh, until, dial, onTip, onLeft } = this.#options;
    const leaving = new AbortController();
    const signal = AbortSignal.any([ending, leaving.signal]);
    try {
      const connection = await dial(peer, addresses, signal);
      await followLog(connection, {
        mesh,
        holder: this.#holder(signal),
        signal,
        until: until.size,
        onTip: (tip) => onTip(peer, tip),
        onTaken: (size) => {
          if (size === until.size) leaving.abort(new SuperfleetError('SF_UNREACHABLE', 'all of it is here'));
        },
      });
    } catch (thrown) {
      if (!signal.aborted) onLeft(peer, asSuperfleetError(thrown));
    }
  }

  /** Pieces are taken one after the other, and each is followed by a wait, before its bytes are granted again. */
  #holder(signal: AbortSignal): CopyHolder {
    const { timers, bytesPerSecond = backfillBytesPerSecond } = this.#options;
    let last: Promise<unknown> = Promise.resolve();
    const paced = <T>(bytes: Buffer, take: () => Promise<T>): Promise<T> => {
      const taken = last.then(async () => {
        signal.throwIfAborted();
        const began = timers.now();
        const result = await take();
        const due = (bytes.length / bytesPerSecond) * 1000 - (timers.now() - began);
        if (due > 0 && !this.#ended(signal)) await this.#pause(due, signal);
        return result;
      });
      last = taken.catch(() => {});
      return taken;
    };
    const copy = (): CopyHolder['copy'] => {
      const held = this.#copy;
      if (held === null) return null;
      const { size, checkpoint, first } = held;
      return { size, checkpoint, first, take: (bytes) => paced(bytes, () => held.take(bytes)) };
    };
    return {
      get copy() {
        return copy();
      },
      begin: (bytes) => paced(bytes, () => this.#begin(bytes)),
    };
  }

  async #begin(bytes: Buffer): Promise<void> {
    this.#copy = await LogCopy.create(bounded(this.#options), bytes);
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        signal.removeEventListener('abort', wake);
        resolve();
      };
      const cancel = this.#options.timers.after(ms, wake);
      signal.addEventListener('abort', wake);
      this.#wake = wake;
      if (signal.aborted) wake();
    });
  }
}

const bounded = ({ mesh, beginning, until }: BackfillOptions) => ({
  storage: beginning.segments,
  mesh,
  sizeMax: until.size,
});

/** A folder in which a copy was begun and nothing synced is as good as an empty one. */
export async function openOrNone(options: Parameters<typeof LogCopy.open>[0]): Promise<LogCopy | null> {
  try {
    return await LogCopy.open(options);
  } catch (error) {
    if (error instanceof SuperfleetError && error.code === 'SF_NOT_FOUND') return null;
    throw error;
  }
}
