import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** Of one catch-up, at the end that caught up. */
export interface Took {
  seconds: number;
  /** Processor time of the whole process meanwhile. */
  cpuSeconds: number;
}

/** What the programs of one system do; `at` is where its source said it is. */
export interface Ends<At> {
  source(folder: string): Promise<() => Promise<void>>;
  follow(folder: string, entries: number, at: At): Promise<Took>;
}

export async function took(work: () => Promise<void>): Promise<Took> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 };
}

/** The program of an end: what it does is in its arguments, what it says goes to its parent. */
export async function serveEnd<At>(ends: Ends<At>): Promise<void> {
  const [role, folder, entries] = process.argv.slice(2);
  try {
    const told = once(process, 'message') as Promise<[At]>;
    if (role === 'source') {
      const stop = await ends.source(folder!);
      await told;
      await stop();
    } else {
      const [at] = await told;
      const result = await ends.follow(folder!, Number(entries), at);
      process.send?.({ result });
    }
  } catch (error) {
    process.send?.({ failed: String(error) });
  }
  process.disconnect();
  // A socket of the other end may still be open.
  process.exit();
}

/** A process that is one end. */
export class End {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  /** What it said that nobody has asked for yet. */
  readonly #said: Record<string, unknown>[] = [];
  #wake = (): void => {};

  constructor(script: string, args: (string | number)[]) {
    this.#child = fork(join(import.meta.dirname, script), args.map(String), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child.on('message', (message) => {
      this.#said.push(message as Record<string, unknown>);
      this.#wake();
    });
    this.#exited = once(this.#child, 'exit').then(() => {
      this.#said.push({ failed: `${script} ${args.join(' ')} ended` });
      this.#wake();
    });
  }

  tell(message: object): void {
    this.#child.send(message);
  }

  /** What it says next under this name; anything else it says is an error. */
  async hear<T>(name: string): Promise<T> {
    while (this.#said.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const said = this.#said.shift()!;
    if (name in said) return said[name] as T;
    throw new Error(String(said.failed));
  }

  async end(): Promise<void> {
    if (this.#child.connected) this.tell({});
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }
}
