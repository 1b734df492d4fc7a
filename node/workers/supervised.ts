import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { compiledFolder } from '../cli/compile-cache.js';
import { printable } from '../git/fault.ts';
import { ownEnvironment } from '../own-environment.ts';
import { ownModule, ownProgram } from '../own-program.ts';
import { lives, markOf, type ProcessMark } from '../process-mark.ts';
import { findProgram } from '../sandbox/host.ts';
import type { CgroupSlots } from '../sandbox/limits/cgroup.ts';
import { killRuns, runsEmpty } from '../sandbox/limits/cgroup.ts';
import { endRuns, type Runs, runsOf } from '../sandbox/limits/left-over.ts';
import { processTree } from '../sandbox/limits/tree.ts';
import { Calls, type Served } from './calls.ts';
import { FrameReader, frameOf } from './frames.ts';

/** What is left of an ended worker may take so long to go before it is waited for no more. */
const GONE_MS_MAX = 30_000;
/** A worker is halted no longer than this, whatever is left of its sandboxes: the kill switch has a second for all of it. */
const HALTED_MS_MAX = 250;
const WORKER = ownModule('node/workers/attempt-process');
/** Of a line that a worker prints, and of what it prints in its life: a crash says why in far less. */
const lineLengthMax = 1_000;
const printedMax = 64 * 1024;

export interface WorkerLimits {
  /** A worker with work is asked so often whether it lives, ms. */
  pingMs: number;
  /** Pings in a row that may go unanswered: then its main loop stands still, and it is ended. */
  silentMax: number;
}

/** A worker that ended before its work did; the message says how, for a person. */
export class WorkerLost extends Error {}

/** One worker process, from its start to its end. Nothing of what it started outlives it. */
export class SupervisedWorker {
  /** Resolves when the process and its sandboxes are gone. */
  readonly ended: Promise<void>;
  /** Null: it is there. */
  lost: WorkerLost | null = null;
  readonly calls: Calls;
  readonly #child: ChildProcess;
  /** The kernel sees to it. */
  readonly #diesWithNode: boolean;
  readonly #limits: WorkerLimits;
  readonly #runs: Runs | null;
  /** Why this side has ended it. */
  #why: string | null = null;
  #pinging: NodeJS.Timeout | null = null;
  #silent = 0;
  /** Its processes, as they were when it was ended. */
  #tree: ProcessMark[] = [];

  /**
   * `served`: what answers it. `print`: what it says on its stdout and stderr, by lines. Throws a `WorkerLost` where there are no
   * descriptors for its pipes.
   */
  constructor(
    served: Served,
    cgroups: CgroupSlots | null,
    limits: WorkerLimits,
    print: (line: string) => void,
    program: URL = WORKER,
  ) {
    this.#limits = limits;
    const { child, diesWithNode } = started(program);
    // Where this process has no descriptor left there are no pipes, and an error that nobody hears ends it.
    child.on('error', () => {});
    if ((child.stdio as unknown) === undefined)
      throw new WorkerLost('could not be started: this machine has no more open files for its node');
    this.#child = child;
    this.#diesWithNode = diesWithNode;
    // Pipes are made with the process, also where that could not be started.
    const [, stdout, stderr, channel] = this.#child.stdio as unknown as [null, Readable, Readable, Duplex];
    this.calls = new Calls((message) => {
      if (channel.writable) channel.write(frameOf(message));
    }, served);
    for (const stream of [stdout, stderr]) printed(stream, print);
    const { pid } = this.#child;
    this.#runs = cgroups === null || pid === undefined ? null : runsOf(cgroups, pid);
    const { promise: gone, resolve } = Promise.withResolvers<string>();
    this.#child.once('error', (error) => resolve(`could not be started: ${error.message}`));
    // All that it has said is read before it is called lost.
    this.#child.once('close', (code, signal) =>
      resolve(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
    );
    this.ended = gone.then(async (how) => {
      this.#stopPings();
      this.lost ??= new WorkerLost(this.#why ?? how);
      this.calls.close(this.lost);
      if (this.#runs !== null) await endRuns(this.#runs);
      await this.#gone();
    });
    const reader = new FrameReader();
    channel.on('error', () => {});
    channel.on('data', (chunk: Buffer) => {
      if (this.#why !== null) return;
      try {
        for (const message of reader.push(chunk)) this.calls.receive(message);
      } catch (error) {
        this.end(`was ended, for it talked nonsense: ${asSuperfleetError(error).message}`);
      }
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether it can be given work: it is there, and nobody has ended it. */
  get usable(): boolean {
    return this.lost === null && this.#why === null;
  }

  /** Asks it to do something to the end, and whether it lives meanwhile. Rejects with a `WorkerLost` where it does not. */
  async work(of: string, args: unknown[], signal: AbortSignal): Promise<unknown> {
    this.#silent = 0;
    this.#pinging = setInterval(() => this.#ping(), this.#limits.pingMs);
    try {
      return await this.calls.ask(of, args, signal);
    } finally {
      this.#stopPings();
    }
  }

  /** Each ping is one that this process had the time to send: one that slept, or stood still itself, blames nobody. */
  #ping(): void {
    if (this.#silent >= this.#limits.silentMax) {
      const seconds = Math.round((this.#limits.pingMs * this.#limits.silentMax) / 1000);
      this.end(`was ended, for it did not answer for ${seconds} s`);
      return;
    }
    this.#silent += 1;
    this.calls.ask('ping', []).then(
      () => {
        this.#silent = 0;
      },
      () => {},
    );
  }

  #stopPings(): void {
    if (this.#pinging !== null) clearInterval(this.#pinging);
    this.#pinging = null;
  }

  /**
   * Kills what runs in its sandboxes now, without waiting for it to do so; it is to be told to stop as well. Until they are gone it gets no
   * turn at the processor, which many workers that are stopped at once would take from what is to die.
   */
  async endSandboxes(): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined || this.lost !== null) return;
    const runs = this.#runs;
    // Halted it could not see that its node is gone: only where the kernel does.
    if (this.#diesWithNode) this.#child.kill('SIGSTOP');
    const killed = runs !== null && killRuns(runs.slots, runs.prefix);
    if (!killed) {
      this.#note(pid);
      for (const { pid: below } of this.#tree) if (below !== pid) kill(below);
    }
    const gone = (): boolean =>
      killed
        ? runsEmpty(runs.slots, runs.prefix)
        : !this.#tree.some((mark) => mark.pid !== pid && lives(mark));
    const deadline = performance.now() + HALTED_MS_MAX;
    for (let wait = 1; !gone() && performance.now() < deadline; wait = Math.min(20, wait + 2))
      await delay(wait);
    if (this.#diesWithNode) this.#child.kill('SIGCONT');
  }

  /** Ends it at once, its sandboxes with it; the first `why` is the one that is told. */
  end(why: string): void {
    if (this.#why !== null || this.lost !== null) return;
    this.#why = why;
    const { pid } = this.#child;
    if (pid !== undefined) this.#note(pid);
    this.#child.kill('SIGKILL');
  }

  /** Looked at before it is gone, when nobody could tell whose they were. */
  #note(pid: number): void {
    this.#tree = [...this.#tree, ...processTree(pid).map(markOf)].filter(lives);
  }

  /** The kernel ends what a process had in sandboxes a moment after it. */
  async #gone(): Promise<void> {
    const deadline = performance.now() + GONE_MS_MAX;
    for (let wait = 0; this.#tree.some(lives) && performance.now() < deadline; wait = Math.min(20, wait + 1))
      await delay(wait);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It is gone.
  }
}

/** A worker that stands still would not see that its node is gone: the kernel ends it then, where there is a program that asks for that. */
function started(program: URL): { child: ChildProcess; diesWithNode: boolean } {
  const { command, args, descriptors } = ownProgram(program);
  const setpriv = command === process.execPath ? findProgram('setpriv') : null;
  const argv =
    setpriv === null ? [command, ...args] : [setpriv, '--pdeathsig', 'KILL', '--', command, ...args];
  const child = spawn(argv[0]!, argv.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...descriptors],
    windowsHide: true,
    env: { ...ownEnvironment(), ...compiled() },
  });
  return { child, diesWithNode: setpriv !== null };
}

/** What a worker has compiled the next one need not; where this process keeps nothing neither does it. */
function compiled(): { NODE_COMPILE_CACHE?: string } {
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return {};
  const folder = compiledFolder();
  return folder === null ? {} : { NODE_COMPILE_CACHE: folder };
}

function printed(stream: Readable, print: (line: string) => void): void {
  let rest = '';
  let left = printedMax;
  stream.setEncoding('utf8');
  stream.on('error', () => {});
  stream.on('data', (text: string) => {
    const taken = text.slice(0, left);
    left -= taken.length;
    const lines = `${rest}${taken}`.split('\n');
    rest = lines.pop()!.slice(-lineLengthMax);
    for (const line of lines) if (line.trim() !== '') print(printable(line).slice(0, lineLengthMax));
  });
  stream.on('close', () => {
    if (rest.trim() !== '') print(printable(rest));
  });
}
