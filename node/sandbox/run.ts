import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setPriority } from 'node:os';
import { Duplex, type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { assertNotRoot, noSandbox } from './host.ts';
import { type CgroupSlots, RunCgroup } from './limits/cgroup.ts';
import { diskUse } from './limits/disk.ts';
import { freezeTree } from './limits/freeze.ts';
import { processStat } from './limits/tree.ts';
import { type Bound, type RunWatch, watchRun } from './limits/watch.ts';
import type { PipePool } from './pipes.ts';
import {
  bwrapOptions,
  type Ceilings,
  FD,
  FD_LAST,
  type HostLayout,
  ownFiles,
  wrappedCommand,
} from './profile.ts';
import { refusal } from './refused.ts';
import type { SandboxEnd, SandboxProcess, SandboxRun } from './types.ts';

export interface Machine {
  bwrap: string;
  seccomp: Uint8Array;
  layout: HostLayout;
  /** Descriptors a child would inherit; each is covered with /dev/null. */
  inherited: number[];
  pipes: PipePool;
  cgroups: CgroupSlots;
  /** 0 to 19. */
  niceness: number;
  ceilings: Ceilings;
}

/** A killed init takes the whole pid namespace with it; how long that may take before it is called a defect. */
const GONE_MS_MAX = 30_000;
/** Waits of 0, 1, 2 … ms: over a second in all. What stays even then, the next start as root sweeps. */
const REMOVE_TRIES = 50;
/** The last look at a workspace takes no longer. */
const WALK_MS_MAX = 10_000;
/** SIGXFSZ as bwrap reports it: a file reached the size limit, which is the workspace's. */
const EXIT_FILE_SIZE = 128 + 25;
/** Bytes of bwrap's own words kept for the error. */
const WORDS_MAX = 500;

/** Starts one run. Throws before anything was started; later failures reject `ended`. */
export function startRun(machine: Machine, run: SandboxRun, signal: AbortSignal): SandboxProcess {
  assertNotRoot();
  const refused = refusal(run);
  if (refused !== null) return refused;
  const cgroup = hasSlot(machine.cgroups) ? new RunCgroup(machine.cgroups, run.limits) : null;
  try {
    return new Running(machine, run, cgroup, signal).process;
  } catch (thrown) {
    cgroup?.remove();
    throw thrown;
  }
}

/** Before bwrap has made a process: what it starts is as nice as it is. */
function lowerPriority(pid: number | undefined, niceness: number): void {
  if (pid === undefined || niceness === 0) return;
  try {
    setPriority(pid, niceness);
  } catch {
    // It has ended already, and says why itself.
  }
}

const hasSlot = (slots: CgroupSlots): boolean =>
  slots.memory !== null || slots.pids !== null || slots.unified !== null || slots.cpu?.version === 1;

class Running {
  readonly process: SandboxProcess;
  readonly #child: ChildProcess;
  readonly #cgroup: RunCgroup | null;
  /** When it was let go. */
  #began = performance.now();
  #killedBy: Bound | null = null;
  /** The sandbox's pid 1 as this machine knows it; its start time tells it from a later one with its pid. */
  #init: { pid: number; started: string } | null = null;
  /** bwrap has its options: from here on it may have children. */
  #fed = false;
  #ready = false;
  #failure: SuperfleetError | null = null;
  #suspended = false;
  /** Makes a tree go on that was stopped without a cgroup. */
  #thaw: (() => void) | null = null;
  #watch: RunWatch | null = null;
  #ended = false;

  constructor(machine: Machine, run: SandboxRun, cgroup: RunCgroup | null, signal: AbortSignal) {
    this.#cgroup = cgroup;
    const out = machine.pipes.open();
    const err = machine.pipes.open();
    // bwrap that fails to say who its init is ends at once, and leaves an init that waits for it for ever.
    const status = machine.pipes.open(true);
    const devNull = openSync('/dev/null', 'r+');
    const input = run.stdin === 'pipe' ? machine.pipes.openInput() : null;
    const stdio: ('pipe' | 'ignore' | number)[] = [input?.child ?? devNull, out.child, err.child];
    for (let fd = 3; fd <= Math.max(FD_LAST, ...machine.inherited); fd += 1) {
      const used = fd <= FD_LAST && (fd !== FD.stdin || run.stdin instanceof Uint8Array);
      stdio.push(
        fd === FD.status ? status.child : used ? 'pipe' : machine.inherited.includes(fd) ? devNull : 'ignore',
      );
    }
    try {
      const argv = ['--args', String(FD.args), '--', ...wrappedCommand(run, machine.ceilings)];
      // bwrap's own environment is empty: what a submitter sets must never reach this machine's loader.
      this.#child = spawn(machine.bwrap, argv, { env: {}, stdio, cwd: '/' });
    } catch (cause) {
      for (const end of [out, err, status, input]) end?.own.destroy();
      throw cause;
    } finally {
      for (const fd of [devNull, out.child, err.child, status.child]) closeSync(fd);
      if (input !== null) closeSync(input.child);
    }
    lowerPriority(this.#child.pid, machine.niceness);
    // A stream may break when bwrap ends before it has read all; its end says why.
    for (const stream of this.#child.stdio) stream?.on('error', () => {});
    const exited = new Promise<{ code: number | null; error: Error | null }>((resolve) => {
      this.#child.once('error', (error) => resolve({ code: null, error }));
      this.#child.once('exit', (code) => resolve({ code, error: null }));
    });
    this.process = {
      stdout: out.own,
      stderr: err.own,
      stdin: input?.own ?? null,
      kill: () => this.#end('stopped'),
      suspend: () => this.#suspend(),
      resume: () => this.#resume(),
      ended: this.#run(machine, run, exited, err.own, signal).finally(() => void this.#removeCgroup()),
    };
    this.process.ended.catch(() => {}).finally(() => input?.own.destroy());
    input?.own.on('error', () => {});
    this.#readStatus(status.own);
    if (this.#child.pid === undefined) return;
    // bwrap reads its options to their end before it makes a process, so all of them are born inside the cgroup.
    if (cgroup === null) this.#feed(machine, run);
    else
      void cgroup.join(this.#child.pid).then(
        () => this.#feed(machine, run),
        (cause) => this.#fail(cause),
      );
  }

  #fail(cause: unknown): void {
    this.#failure ??= asSuperfleetError(cause);
    this.#killTree();
  }

  #feed(machine: Machine, run: SandboxRun): void {
    if (this.#killedBy !== null) return;
    this.#fed = true;
    const uid = process.getuid?.() ?? -1;
    const gid = process.getgid?.() ?? -1;
    const send = (stream: Duplex, bytes: string | Uint8Array): void => {
      stream.end(bytes);
    };
    for (const { fd, text } of ownFiles(uid, gid)) send(this.#stream(fd), text);
    send(this.#stream(FD.seccomp), machine.seccomp);
    if (run.stdin instanceof Uint8Array) send(this.#stream(FD.stdin), run.stdin);
    this.#gate(run.hold);
    const options = bwrapOptions(machine.layout, run, uid, gid);
    if (options.some((option) => option.includes('\0'))) {
      this.#fail(new SuperfleetError('SF_INTERNAL', 'a mount or the folder of a run holds a zero byte'));
    } else send(this.#stream(FD.args), `${options.join('\0')}\0`);
  }

  #stream(fd: number): Duplex {
    const stream = this.#child.stdio[fd];
    if (!(stream instanceof Duplex)) throw new SuperfleetError('SF_INTERNAL', `descriptor ${fd} is no pipe`);
    return stream;
  }

  /** Lets the task go once it is told that nothing can outlive this process, and nothing holds it any more. */
  #gate(hold: Promise<void> | undefined): void {
    const gate = this.#stream(FD.gate);
    const go = (): void => {
      if (this.#killedBy !== null) gate.destroy();
      else gate.end('go\n');
    };
    gate.once('data', () => {
      this.#ready = true;
      if (hold === undefined) go();
      else void hold.then(go);
    });
  }

  #readStatus(status: Readable): void {
    let text = '';
    status.on('error', () => {});
    status.on('data', (bytes: Buffer) => {
      if (this.#init !== null) return;
      text += bytes.toString('latin1');
      const pid = Number(/"child-pid":\s*(\d+)[\s,}]/.exec(text)?.[1] ?? 0);
      if (pid === 0) return;
      const stat = processStat(pid);
      this.#init = { pid, started: stat?.started ?? 'gone' };
      if (this.#killedBy !== null) this.#killTree();
      else if (this.#suspended) this.#freeze();
    });
  }

  #suspend(): void {
    if (this.#suspended || this.#ended || this.#killedBy !== null) return;
    this.#suspended = true;
    this.#watch?.suspend();
    this.#freeze();
  }

  #resume(): void {
    if (!this.#suspended) return;
    this.#suspended = false;
    this.#cgroup?.freeze(false);
    this.#thaw?.();
    this.#thaw = null;
    this.#watch?.resume();
  }

  /** By its cgroup; else init and all that is below it, as soon as bwrap has said who that is. */
  #freeze(): void {
    if (this.#cgroup?.freeze(true)) return;
    if (this.#init !== null && this.#initLives()) this.#thaw ??= freezeTree(this.#init.pid);
  }

  #end(why: Bound): void {
    this.#killedBy ??= why;
    this.#killTree();
  }

  /**
   * Kills init, and the kernel everything in its pid namespace. Before bwrap has said who init is there is nobody to
   * kill: bwrap alone would leave an init behind that is not yet bound to it.
   */
  #killTree(): void {
    this.#cgroup?.kill();
    if (!this.#fed || this.#failure !== null) this.#child.kill('SIGKILL');
    if (this.#init === null || !this.#initLives()) return;
    try {
      process.kill(this.#init.pid, 'SIGKILL');
    } catch {
      // It is gone.
    }
  }

  /** A zombie init has no namespace any more: the kernel makes it one when all others in it are gone. */
  #initLives(): boolean {
    if (this.#init === null) return false;
    const stat = processStat(this.#init.pid);
    return stat !== null && stat.started === this.#init.started && stat.state !== 'Z' && stat.state !== 'X';
  }

  async #run(
    machine: Machine,
    run: SandboxRun,
    exited: Promise<{ code: number | null; error: Error | null }>,
    stderr: Readable,
    signal: AbortSignal,
  ): Promise<SandboxEnd> {
    const stop = (): void => this.#end('stopped');
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const cgroup =
      this.#cgroup === null
        ? null
        : {
            run: this.#cgroup,
            memory: machine.cgroups.memory !== null,
            processes: machine.cgroups.pids !== null,
          };
    const look = (): void => {
      if (this.#ended) return;
      this.#began = performance.now();
      this.#watch = watchRun(this.#child.pid ?? 0, run.limits, cgroup, (bound) => this.#end(bound));
      if (this.#suspended) this.#watch.suspend();
    };
    if (run.hold === undefined) look();
    else void run.hold.then(look);
    const { code, error } = await exited;
    this.#ended = true;
    this.#watch?.stop();
    signal.removeEventListener('abort', stop);
    if (this.#failure !== null) throw this.#neverStarted(this.#failure.message, this.#failure);
    if (error !== null) throw this.#neverStarted(error.message, error);
    await this.#gone();
    const wallMs = performance.now() - this.#began;
    if (this.#killedBy === null && this.#cgroup?.outOfMemory()) this.#killedBy = 'memory';
    if (this.#killedBy === null && code === EXIT_FILE_SIZE && (await isFull(run.limits)))
      this.#killedBy = 'disk';
    if (this.#killedBy !== null)
      return { exitCode: null, killedBy: this.#killedBy, signal: 'SIGKILL', wallMs };
    if (!this.#ready) throw this.#neverStarted(words(stderr) ?? `bwrap ended with ${code}`);
    return { exitCode: code, killedBy: null, signal: this.#child.signalCode, wallMs };
  }

  #neverStarted(why: string, cause?: unknown): SuperfleetError {
    return noSandbox(`the sandbox could not be set up: ${why}`, 'run `mesh-node doctor`', cause);
  }

  /** bwrap ends with the task's first process; whatever that left behind dies with init, a moment later. */
  async #gone(): Promise<void> {
    const deadline = performance.now() + GONE_MS_MAX;
    for (let wait = 0; this.#initLives() || this.#cgroup?.empty() === false; wait = Math.min(20, wait + 1)) {
      this.#killTree();
      if (performance.now() > deadline) {
        throw noSandbox(
          'processes of a task could not be ended',
          'look for processes in state D; restart the machine',
        );
      }
      await delay(wait);
    }
  }

  /** The kernel lets go of a folder a moment after its last process; nobody waits for that. */
  async #removeCgroup(): Promise<void> {
    for (let wait = 0; wait < REMOVE_TRIES && this.#cgroup?.remove() === false; wait += 1) await delay(wait);
  }
}

/** A task may end with that code for reasons of its own; a file as large as the workspace may be is there to be seen. */
async function isFull({ diskBytes, watchBytesIn }: SandboxRun['limits']): Promise<boolean> {
  if (diskBytes === null || watchBytesIn === null) return false;
  const use = await diskUse(watchBytesIn, diskBytes, AbortSignal.timeout(WALK_MS_MAX)).catch(() => null);
  return use !== null && use.bytes >= diskBytes;
}

/** What bwrap said before it gave up, if nobody has read it yet; it stays readable. */
function words(stderr: Readable): string | null {
  if (stderr.readableFlowing === true) return null;
  const said: unknown = stderr.read();
  if (!Buffer.isBuffer(said)) return null;
  stderr.unshift(said);
  return said.toString('utf8', 0, WORDS_MAX).trim();
}
