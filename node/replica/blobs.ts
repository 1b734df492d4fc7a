import type { DurableLog } from '../../ledger/log/durable-log.ts';
import { blobsOf } from '../../ledger/state/blobs.ts';
import { knownEntry } from '../../ledger/state/state.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { BlobStore } from '../blobs/types.ts';

export interface ReplicaBlobsOptions {
  blobs: Pick<BlobStore, 'has'>;
  /** Machines that may hold what the log names, best first; none: nobody is known now. */
  sources(): string[];
  /** Fetches one blob from this machine into the store. */
  fetch(peer: string, blob: string, signal: AbortSignal): Promise<void>;
  /** So many of the log's blobs are not here; called when that changes. */
  onChange?(lacking: number): void;
  /** @default 1 s, 5 min */
  retryMs?: { first: number; max: number };
}

/**
 * Gets what the log names: bundles, receipts, logs, artifacts, so that the mesh can go on from this machine. One blob at a
 * time, newest last, in the background; what nobody has now is asked for again.
 */
export class ReplicaBlobs {
  readonly #options: ReplicaBlobsOptions;
  readonly #ending = new AbortController();
  /** Named in the log and not here, in the order of the log. */
  readonly #wanted = new Set<string>();
  /** Of these: everybody who could be asked said that it has none. */
  readonly #absent = new Set<string>();
  #unsubscribe: () => void = () => {};
  #fetching: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};

  constructor(options: ReplicaBlobsOptions) {
    this.#options = options;
  }

  /** Blobs that are on their way, or will be. */
  get missing(): number {
    return this.#wanted.size - this.#absent.size;
  }

  /** Blobs that are not here. */
  get lacking(): number {
    return this.#wanted.size;
  }

  /** Follows the log from the first entry that it holds; `older` is to be called when it holds more. */
  start(log: DurableLog): void {
    const { signal } = this.#ending;
    // Subscribed first: what comes while the older entries are read is named twice, and nothing is passed over.
    this.#unsubscribe = log.subscribe(({ entries }) => {
      for (const entry of entries) {
        const known = knownEntry(entry);
        for (const blob of known === null ? [] : blobsOf(known)) this.#wanted.add(blob);
      }
      this.#wake();
    });
    this.#fetching = this.#run(log, signal).catch((thrown: unknown) => {
      if (!signal.aborted) throw thrown;
    });
  }

  /** Entries before `to` have come to the log that had not been there. */
  async older(log: DurableLog, to: number): Promise<void> {
    await this.#want(log, 0, to, this.#ending.signal);
  }

  /** Somebody can be asked who could not before. */
  again(): void {
    this.#absent.clear();
    this.#wake();
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#ending.abort(new Error('this machine is stopping'));
    this.#wake();
    await this.#fetching;
  }

  async #run(log: DurableLog, signal: AbortSignal): Promise<void> {
    await this.#want(log, log.first, log.size, signal);
    const { first, max } = this.#options.retryMs ?? { first: 1_000, max: 5 * 60_000 };
    for (let wait = first; !signal.aborted; ) {
      const got = await this.#round(signal);
      if (signal.aborted) return;
      if (this.missing > 0 && got > 0) continue;
      wait = got > 0 ? first : Math.min(max, wait * 2);
      await this.#pause(this.#wanted.size === 0 ? null : wait);
      if (this.missing === 0) this.#absent.clear();
    }
  }

  async #want(log: DurableLog, from: number, to: number, signal: AbortSignal): Promise<void> {
    for await (const entry of log.entries(from, to)) {
      if (signal.aborted) return;
      const known = knownEntry(entry);
      for (const blob of known === null ? [] : blobsOf(known)) {
        if (!(await this.#options.blobs.has(blob))) this.#wanted.add(blob);
      }
    }
    this.#options.onChange?.(this.lacking);
    this.#wake();
  }

  /** Asks for each that is wanted once; answers how many came. */
  async #round(signal: AbortSignal): Promise<number> {
    let got = 0;
    for (const blob of [...this.#wanted]) {
      if (signal.aborted) return got;
      if (this.#absent.has(blob)) continue;
      if ((await this.#options.blobs.has(blob)) || (await this.#get(blob, signal))) {
        this.#wanted.delete(blob);
        this.#options.onChange?.(this.lacking);
        got += 1;
      }
    }
    return got;
  }

  async #get(blob: string, signal: AbortSignal): Promise<boolean> {
    let nobody = true;
    const sources = this.#options.sources();
    for (const peer of sources) {
      try {
        await this.#options.fetch(peer, blob, signal);
        return true;
      } catch (thrown) {
        if (signal.aborted) return false;
        if (asSuperfleetError(thrown).code !== 'SF_NOT_FOUND') nobody = false;
      }
    }
    if (nobody && sources.length > 0) this.#absent.add(blob);
    return false;
  }

  #pause(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? null : setTimeout(resolve, ms);
      this.#wake = () => {
        if (timer !== null) clearTimeout(timer);
        resolve();
      };
      if (this.#ending.signal.aborted) this.#wake();
    });
  }
}
