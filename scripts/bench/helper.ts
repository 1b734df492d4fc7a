import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A process of a benchmark that is told what to do, and says what happened, by messages. */
export class Helper<Said extends { event: string } = { event: string }> {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #said: Said[] = [];
  #wake: () => void = () => {};
  #listener: ((said: Said) => void) | null = null;

  constructor(script: string, args: readonly (string | number)[], execArgv: readonly string[] = []) {
    this.#child = fork(join(import.meta.dirname, script), args.map(String), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [...execArgv],
    });
    this.#exited = once(this.#child, 'exit');
    this.#child.on('message', (message) => this.#take(message as Said));
    void this.#exited.then(() =>
      this.#take({ event: 'failed', message: `${script} has ended` } as unknown as Said),
    );
  }

  get pid(): number {
    return this.#child.pid!;
  }

  tell(message: object): void {
    this.#child.send(message);
  }

  /** Given every message from here on. */
  listen(listener: (said: Said) => void): void {
    this.#listener = listener;
  }

  #take(said: Said): void {
    this.#listener?.(said);
    this.#said.push(said);
    this.#wake();
  }

  /** The next message of this event; a failure or an end before it is an error. Others before it are passed over. */
  async says(event: string): Promise<Said> {
    for (;;) {
      for (let said = this.#said.shift(); said !== undefined; said = this.#said.shift()) {
        if (said.event === event) return said;
        if (said.event === 'failed') throw new Error((said as { message?: string }).message);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Tells it to end, and waits; one that does not within 10 s is killed. */
  async end(): Promise<void> {
    if (this.#child.connected) this.tell({});
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }
}

/** Resident bytes of a process. */
export function residentBytes(pid: number): number {
  const kiB = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kiB === undefined) throw new Error(`process ${pid} is gone`);
  return Number(kiB) * 1024;
}

/** User and system time of a process so far, in ms; Linux counts both in hundredths of a second. */
export function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
