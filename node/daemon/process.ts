import type { Logger } from 'pino';
import { asSuperfleetError, EXIT, type SuperfleetError } from '../../protocol/errors.ts';

/** A second signal so long after the first ends the process at once; a shell may send the same one twice. */
const impatientMs = 1_000;
const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * The life of a daemon's process: what was opened is closed in the reverse order, once; by `abandon` where the start
 * fails half way, else by SIGTERM, SIGINT, a request or a failure, whichever comes first. What wants to end it while it
 * is still starting is heard when it runs. A process may change its role: `become`.
 */
export class Lifetime {
  readonly #logger: Logger;
  /** What outlasts a change of role. */
  readonly #kept = new AsyncDisposableStack();
  #opened = new AsyncDisposableStack();
  #next: (() => Promise<unknown>) | null = null;
  #changing = false;
  #finish: (error: SuperfleetError | null) => void = () => {};
  /** Null: nobody has asked for the end. */
  #asked: { error: SuperfleetError | null } | null = null;
  #running = false;
  #signalledAt: number | null = null;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Something is open now: closed after all that is opened later. */
  onStop(close: () => unknown): void {
    this.#opened.defer(async () => {
      await close();
    });
  }

  /** As `onStop`, for what also stays open while the role changes; closed last. */
  keep(close: () => unknown): void {
    this.#kept.defer(async () => {
      await close();
    });
  }

  /**
   * What runs now is closed in order, and `start` then opens the other role in its place. Nothing happens where the end was
   * asked for; where `start` rejects the process ends with that fault. While one change is under way no other begins.
   */
  become(start: () => Promise<unknown>): void {
    if (this.#asked !== null || this.#next !== null) return;
    this.#next = start;
    if (this.#running && !this.#changing) void this.#change();
  }

  async #change(): Promise<void> {
    this.#changing = true;
    while (this.#next !== null && this.#asked === null) {
      await this.clear();
      const start = this.#next;
      this.#next = null;
      if (this.#asked !== null) break;
      try {
        await start();
      } catch (thrown) {
        this.end(asSuperfleetError(thrown));
      }
    }
    this.#changing = false;
    // Asked for while nothing could hear it.
    const asked = this.#asked as { error: SuperfleetError | null } | null;
    if (asked !== null) this.#stop(asked.error);
  }

  /** Closes what is open of a role; what is kept stays. Never rejects. */
  async clear(): Promise<void> {
    const opened = this.#opened;
    this.#opened = new AsyncDisposableStack();
    await this.#dispose(opened);
  }

  /** The start failed: closes what is open. Never rejects, so that the error of the start is the one that is told. */
  async abandon(): Promise<void> {
    await this.#close();
  }

  /** What asked for the end, if it was a fault. */
  get failure(): SuperfleetError | null {
    return this.#asked?.error ?? null;
  }

  /** The start is over. Settles when everything is down: with exit code 0, or rejected with the fault that ended it. */
  run(): Promise<number> {
    this.#running = true;
    const done = new Promise<number>((resolve, reject) => {
      this.#finish = (error) => (error === null ? resolve(EXIT.ok) : reject(error));
    });
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
    process.on('uncaughtException', this.#onUncaught);
    if (this.#asked !== null) this.#stop(this.#asked.error);
    else if (this.#next !== null) void this.#change();
    return done;
  }

  /** Begins the stop; later calls change nothing. */
  end(error: SuperfleetError | null = null): void {
    if (this.#asked !== null) return;
    this.#asked = { error };
    if (error !== null) this.#logger.error({ code: error.code, hint: error.hint }, error.message);
    if (this.#running && !this.#changing) this.#stop(error);
  }

  #stop(error: SuperfleetError | null): void {
    void this.#close().then(() => {
      for (const signal of SIGNALS) process.off(signal, this.#onSignal);
      process.off('uncaughtException', this.#onUncaught);
      this.#finish(error);
    });
  }

  async #close(): Promise<void> {
    await this.#dispose(this.#opened);
    await this.#dispose(this.#kept);
  }

  async #dispose(stack: AsyncDisposableStack): Promise<void> {
    try {
      await stack.disposeAsync();
    } catch (thrown) {
      // Of several faults the last stands for all; everything else was closed all the same.
      const { code, message } = asSuperfleetError(thrown);
      this.#logger.error({ code }, `the stop was not orderly: ${message}`);
    }
  }

  /** A defect, a promise nobody awaited included: what is open is closed, and whoever supervises this starts it anew. */
  readonly #onUncaught = (thrown: unknown): void => {
    const stack = thrown instanceof Error ? thrown.stack : String(thrown);
    this.#logger.error({ stack }, 'a fault that nobody caught');
    // While it stops: a stop that throws without end would never be over.
    if (this.#asked !== null) process.exit(EXIT.internal);
    this.end(asSuperfleetError(thrown));
  };

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const now = performance.now();
    this.#signalledAt ??= now;
    if (now - this.#signalledAt > impatientMs) {
      // What was acknowledged is on the disk, and tasks die with this process.
      this.#logger.warn(`${signal} again: ending at once`);
      process.exit(EXIT.interrupted);
    }
    this.#logger.info(`${signal}: stopping`);
    this.end();
  };
}
