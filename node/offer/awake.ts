import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { AttemptRunner } from '../attempt/types.ts';

type Holder = ChildProcessByStdio<Writable, Readable, Readable>;

/** Between two attempts: a program is not started anew for each of many short ones. */
const LINGER_MS = 2_000;
/** Where it was refused, or ended by somebody. */
const AGAIN_MS = 60_000;
const WORDS_MAX = 200;

/**
 * Keeps this machine from going to sleep while it works, by `systemd-inhibit`: logind takes the lock back when the descriptor it
 * gave is closed, `busctl` hands none on, and a D-Bus library would be loaded by every node. What holds the lock reads from a
 * pipe of this process, so both are gone with it, however it ends.
 */
export class KeptAwake {
  readonly #env: NodeJS.ProcessEnv;
  #holder: Holder | null = null;
  #held = false;
  #wanted = false;
  #letGo: NodeJS.Timeout | null = null;
  #notBefore = Number.NEGATIVE_INFINITY;
  #failure: string | null = null;
  readonly #ending = new Set<Promise<void>>();
  #waiting: (() => void)[] = [];

  constructor(env: NodeJS.ProcessEnv = process.env) {
    this.#env = env;
  }

  /** Whether anything is at work now. Where nothing is `suspended` says whether what was is only halted: the lock goes at once. */
  work(working: boolean, suspended = false): void {
    this.#wanted = working;
    if (working) {
      if (this.#letGo !== null) clearTimeout(this.#letGo);
      this.#letGo = null;
      this.#hold();
    } else if (suspended) {
      this.#release();
    } else {
      this.#letGo ??= setTimeout(() => this.#release(), LINGER_MS);
    }
  }

  /** For its owner, in words. */
  get says(): string {
    if (this.#held) return 'kept awake: it works for the mesh';
    if (this.#failure !== null) return `cannot be kept awake: ${this.#failure}`;
    return 'may sleep now; kept awake while it works for the mesh';
  }

  get held(): boolean {
    return this.#held;
  }

  /** Resolves when the lock is held, or could not be had. */
  settled(): Promise<void> {
    if (this.#held || this.#holder === null) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Resolves when nothing of it is left. */
  async close(): Promise<void> {
    this.#wanted = false;
    this.#release();
    await Promise.all(this.#ending);
  }

  #hold(): void {
    if (this.#holder !== null || performance.now() < this.#notBefore) return;
    const why = 'a task of the mesh runs here';
    const holder = spawn(
      'systemd-inhibit',
      ['--what=sleep', '--mode=block', '--who=superfleet', `--why=${why}`, 'cat'],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: {
          PATH: '/usr/bin:/bin',
          ...(this.#env.DBUS_SYSTEM_BUS_ADDRESS === undefined
            ? {}
            : { DBUS_SYSTEM_BUS_ADDRESS: this.#env.DBUS_SYSTEM_BUS_ADDRESS }),
        },
      },
    );
    this.#holder = holder;
    // It has no streams then, whatever its type says, and its error comes alone.
    if ((holder.stdout as Readable | undefined) === undefined) {
      holder.once('error', (error) => {
        if (this.#holder === holder) this.#lost(error.message);
      });
      return;
    }
    let said = '';
    holder.stderr.on('data', (bytes: Buffer) => {
      said = (said + bytes.toString('latin1')).slice(0, WORDS_MAX);
    });
    // It is started when the lock is held, and says back what it reads.
    holder.stdout.once('data', () => {
      if (this.#holder !== holder) return;
      this.#held = true;
      this.#failure = null;
      this.#settle();
    });
    holder.stdin.on('error', () => {});
    holder.stdin.write('held\n');
    let failed: string | null = null;
    holder.on('error', (error: NodeJS.ErrnoException) => {
      failed = error.code === 'ENOENT' ? 'systemd-inhibit is not installed' : error.message;
    });
    const ended = new Promise<void>((resolve) => {
      holder.once('close', () => {
        this.#ending.delete(ended);
        if (this.#holder === holder) this.#lost(failed ?? said);
        resolve();
      });
    });
    this.#ending.add(ended);
  }

  #lost(why: string): void {
    this.#holder = null;
    this.#held = false;
    this.#failure = why.replace(/[^\x20-\x7e]+/g, ' ').trim() || 'systemd-inhibit ended';
    this.#notBefore = performance.now() + AGAIN_MS;
    this.#settle();
  }

  #release(): void {
    if (this.#letGo !== null) clearTimeout(this.#letGo);
    this.#letGo = null;
    if (this.#wanted || this.#holder === null) return;
    const holder = this.#holder;
    this.#holder = null;
    this.#held = false;
    // Its child ends at the end of its input, and it with that; before it has one it is ended itself.
    (holder.stdin as Writable | undefined)?.end();
    holder.kill('SIGTERM');
    this.#settle();
  }

  #settle(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** The runner, which says to `awake` whether anything of it runs and is not suspended. */
export function toldOf(runner: AttemptRunner, awake: Pick<KeptAwake, 'work'>): AttemptRunner {
  let running = 0;
  let suspended = false;
  const tell = (): void => awake.work(running > 0 && !suspended, suspended);
  return {
    run: async (...attempt) => {
      running += 1;
      tell();
      try {
        return await runner.run(...attempt);
      } finally {
        running -= 1;
        tell();
      }
    },
    suspend: () => {
      runner.suspend?.();
      suspended = true;
      tell();
    },
    resume: () => {
      suspended = false;
      runner.resume?.();
      tell();
    },
    letGo: async () => {
      await runner.letGo?.();
    },
  };
}
