import type { LimitKinds } from '../../protocol/session.ts';
import type { Sandbox, SandboxProcess, SandboxRun } from './types.ts';

/**
 * A sandbox whose runs can be suspended, all at once: none of their processes is given the processor until they go on, and
 * the time is not counted as theirs. What is begun meanwhile is set up and waits. A suspended run can be ended as any.
 */
export class SuspendableSandbox implements Sandbox {
  readonly #sandbox: Sandbox;
  readonly #running = new Set<SandboxProcess>();
  #open: PromiseWithResolvers<void> | null = null;

  constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
  }

  get limitKinds(): LimitKinds {
    return this.#sandbox.limitKinds;
  }

  get suspended(): boolean {
    return this.#open !== null;
  }

  start(run: SandboxRun, signal: AbortSignal): SandboxProcess {
    const hold =
      run.hold === undefined ? this.#open?.promise : run.hold.then(() => this.#open?.promise ?? undefined);
    const process = this.#sandbox.start(hold === undefined ? run : { ...run, hold }, signal);
    this.#running.add(process);
    const forget = (): boolean => this.#running.delete(process);
    process.ended.then(forget, forget);
    return process;
  }

  suspend(): void {
    if (this.#open !== null) return;
    this.#open = Promise.withResolvers<void>();
    for (const process of this.#running) process.suspend();
  }

  resume(): void {
    const open = this.#open;
    this.#open = null;
    for (const process of this.#running) process.resume();
    open?.resolve();
  }
}
