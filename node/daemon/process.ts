import type { Logger } from 'pino';
import { asSuperfleetError, EXIT, type SuperfleetError } from '../../protocol/errors.ts';

/**
 * The life of a daemon's process: one orderly stop, begun by SIGTERM, SIGINT, a request or a failure, whichever comes
 * first. `done` settles with the exit code when everything is down.
 */
export class Lifetime {
  readonly done: Promise<number>;
  readonly #stop: () => Promise<void>;
  readonly #logger: Logger;
  #resolve: (code: number) => void = () => {};
  #stopping = false;

  constructor(logger: Logger, stop: () => Promise<void>) {
    this.#logger = logger;
    this.#stop = stop;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, this.#onSignal);
  }

  /** Begins the stop; later calls change nothing. */
  end(error: SuperfleetError | null = null): void {
    if (this.#stopping) return;
    this.#stopping = true;
    if (error !== null) this.#logger.error({ code: error.code, hint: error.hint }, error.message);
    this.#stop()
      .catch((thrown: unknown) => {
        const { code, message } = asSuperfleetError(thrown);
        this.#logger.error({ code }, `the stop was not orderly: ${message}`);
      })
      .finally(() => {
        for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, this.#onSignal);
        this.#resolve(error === null ? EXIT.ok : error.exitCode);
      });
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#logger.info(`${signal}: stopping`);
    this.end();
  };
}
