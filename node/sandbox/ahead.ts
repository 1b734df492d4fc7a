import type { LimitKinds } from '../../protocol/session.ts';
import type { Sandbox, SandboxProcess, SandboxRun } from './types.ts';

/** Sandboxes that wait for their turn at one time: the next few steps of one attempt. */
const heldMax = 4;

/**
 * The sandbox of one attempt, which can set up what comes next while something else runs: namespaces, mounts, filter
 * and limits are there, and the run waits at its gate. `start` with the same run lets it go; where nothing waits it
 * starts as ever, so nothing ever rests on what was set up ahead.
 */
export class SandboxAhead implements Sandbox {
  readonly #sandbox: Sandbox;
  readonly #signal: AbortSignal;
  readonly #held = new Map<string, { process: SandboxProcess; go: () => void }>();

  /** `signal` ends what waits, as it ends what runs. */
  constructor(sandbox: Sandbox, signal: AbortSignal) {
    this.#sandbox = sandbox;
    this.#signal = signal;
  }

  get limitKinds(): LimitKinds {
    return this.#sandbox.limitKinds;
  }

  /** Sets up a run that is to come. Its mounts must be there. */
  ahead(run: SandboxRun): void {
    const key = JSON.stringify(run);
    if (this.#signal.aborted || run.stdin !== null || this.#held.has(key) || this.#held.size >= heldMax)
      return;
    const { promise: hold, resolve: go } = Promise.withResolvers<void>();
    this.#held.set(key, { process: this.#sandbox.start({ ...run, hold }, this.#signal), go });
  }

  start(run: SandboxRun, signal: AbortSignal): SandboxProcess {
    const key = JSON.stringify(run);
    const held = signal === this.#signal ? this.#held.get(key) : undefined;
    if (held === undefined) return this.#sandbox.start(run, signal);
    this.#held.delete(key);
    held.go();
    return held.process;
  }

  /** Ends what waits and was not used; resolves when nothing of it is left. */
  async close(): Promise<void> {
    const unused = [...this.#held.values()].map(({ process }) => process);
    this.#held.clear();
    for (const process of unused) process.kill();
    await Promise.allSettled(unused.map(({ ended }) => ended));
    for (const { stdout, stderr } of unused) for (const stream of [stdout, stderr]) stream.destroy();
  }
}
