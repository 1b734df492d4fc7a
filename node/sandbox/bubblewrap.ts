import { spawn } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { LimitKinds } from '../../protocol/session.ts';
import { bwrapOptions, FD, type HostLayout, ownFiles, readHostLayout } from './profile.ts';
import { seccompProgram } from './seccomp.ts';
import type { Sandbox, SandboxEnd, SandboxProcess, SandboxRun } from './types.ts';

const PLACES = ['/usr/bin', '/usr/local/bin', '/bin'];

/** Absolute path of a host program the sandbox is made with; null where it is not installed. */
export function findProgram(name: string): string | null {
  for (const place of PLACES) {
    try {
      accessSync(`${place}/${name}`, constants.X_OK);
      return `${place}/${name}`;
    } catch {
      // Not here; the next place may have it.
    }
  }
  return null;
}

interface Fixed {
  bwrap: string;
  layout: HostLayout;
  seccomp: Uint8Array;
  /** Descriptors of this process that a child would inherit; each is covered with /dev/null. */
  inherited: number[];
  limitKinds: LimitKinds;
}

/**
 * The sandbox of this machine (design §7). Starting a run as root, without bwrap, or on an architecture without a
 * system call filter rejects `ended` with `SF_NO_SANDBOX`: there is no weaker way to run a task (promise 14).
 */
export function createSandbox(): Sandbox {
  let fixed: Fixed | null = null;
  const limitKinds: LimitKinds = { memory: 'none', processes: 'nproc', disk: 'none' };
  return {
    limitKinds,
    start(run, signal) {
      fixed ??= prepare(limitKinds);
      return startRun(fixed, run, signal);
    },
  };
}

function prepare(limitKinds: LimitKinds): Fixed {
  const bwrap = findProgram('bwrap');
  if (bwrap === null) throw noSandbox('bubblewrap is not installed', 'install the package `bubblewrap`');
  const seccomp = seccompProgram(process.arch);
  if (seccomp === null) {
    throw noSandbox(
      `there is no system call filter for ${process.arch}`,
      'use a machine with x86-64 or arm64',
    );
  }
  return { bwrap, layout: readHostLayout(), seccomp, inherited: inheritedDescriptors(), limitKinds };
}

function noSandbox(message: string, hint: string): SuperfleetError {
  return new SuperfleetError('SF_NO_SANDBOX', message, { expected: 'a working sandbox', hint });
}

/** Promise 14: whatever the sandbox would map it to, uid 0 outside is uid 0 to the kernel. */
export function assertNotRoot(): void {
  if (process.getuid?.() === 0 || process.geteuid?.() === 0) {
    throw noSandbox(
      'this process is root, and nothing of a task runs as root',
      'start the node with --user NAME',
    );
  }
}

const O_CLOEXEC = 0o2000000;

/** Node marks what it opens as close-on-exec, but not every descriptor it was started with. */
function inheritedDescriptors(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      if (fd <= 2) return false;
      try {
        const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
        return flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0;
      } catch {
        return false;
      }
    });
}

function startRun(fixed: Fixed, run: SandboxRun, signal: AbortSignal): SandboxProcess {
  assertNotRoot();
  const uid = process.getuid?.() ?? -1;
  const gid = process.getgid?.() ?? -1;
  const began = performance.now();
  const devNull = openSync('/dev/null', 'r+');
  const stdio: ('pipe' | 'ignore' | number)[] = [run.stdin === null ? devNull : 'pipe', 'pipe', 'pipe'];
  for (let fd = 3; fd <= Math.max(FD.nsswitch, ...fixed.inherited); fd += 1) {
    stdio.push(fd <= FD.nsswitch ? 'pipe' : fixed.inherited.includes(fd) ? devNull : 'ignore');
  }
  // bwrap's own environment is empty: what a submitter sets must never reach the host's loader.
  const child = spawn(fixed.bwrap, ['--args', String(FD.args), '--', ...wrap(run)], {
    env: {},
    stdio,
    cwd: '/',
  });
  closeSync(devNull);
  const feed = (fd: number, bytes: string | Uint8Array): void => {
    const stream = child.stdio[fd] as Writable;
    stream.on('error', () => {}); // bwrap ended before it read; its end says why.
    stream.end(bytes);
  };
  for (const { fd, text } of ownFiles(uid, gid)) feed(fd, text);
  feed(FD.seccomp, fixed.seccomp);
  feed(FD.args, `${bwrapOptions(fixed.layout, run, uid, gid).join('\0')}\0`);
  if (run.stdin !== null) feed(0, run.stdin);

  let killedBy: SandboxEnd['killedBy'] = null;
  const end = (why: NonNullable<SandboxEnd['killedBy']>): void => {
    killedBy ??= why;
    child.kill('SIGKILL');
  };
  const stop = (): void => end('stopped');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const timer = setTimeout(() => end('timeout'), run.limits.wallMs);

  const ended = new Promise<SandboxEnd>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new SuperfleetError('SF_NO_SANDBOX', `bubblewrap could not be started: ${cause.message}`, { cause }),
      ),
    );
    child.once('exit', (exitCode, exitSignal) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      resolve({ exitCode, killedBy, signal: exitSignal, wallMs: performance.now() - began });
    });
  });
  return {
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
    ended,
    kill: stop,
  };
}

/** `prlimit` sets the limits inside the sandbox, where they count, and answers 126 or 127 for what can't start. */
function wrap(run: SandboxRun): string[] {
  return ['prlimit', `--nproc=${run.limits.processes}`, '--core=0', '--', ...run.argv];
}
