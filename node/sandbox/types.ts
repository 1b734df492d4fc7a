import type { Readable, Writable } from 'node:stream';
import type { LimitKinds } from '../../protocol/session.ts';

/** A path of the host as the sandbox sees it. */
export interface Mount {
  from: string;
  to: string;
  writable: boolean;
  /** A folder below `to`, whose programs are found by name before the system's. @default none */
  programs?: string;
}

export interface SandboxRun {
  /** argv, run as it is; its first word is looked up in the sandbox's PATH. */
  argv: string[];
  /** The whole environment besides PATH and HOME; passed by file descriptor, never by argv. */
  env: Record<string, string>;
  mounts: Mount[];
  /** Directory inside the sandbox. */
  cwd: string;
  limits: {
    memoryBytes: number;
    processes: number;
    /** Bytes under `watchBytesIn`; null: not watched. */
    diskBytes: number | null;
    watchBytesIn: string | null;
    wallMs: number;
  };
  /** Bytes for stdin, a file; null: /dev/null; `pipe`: what is written to the process's `stdin` while it runs. */
  stdin: Uint8Array | 'pipe' | null;
  /** Everything is set up at once, and argv waits at the gate until this resolves; its limits are looked at from then on. */
  hold?: Promise<void>;
}

export interface SandboxEnd {
  exitCode: number | null;
  /** Which bound ended it, if one did. */
  killedBy: 'memory' | 'processes' | 'disk' | 'timeout' | 'stopped' | null;
  signal: NodeJS.Signals | null;
  wallMs: number;
}

export interface SandboxProcess {
  stdout: Readable;
  stderr: Readable;
  /** Null where the run asked for no pipe, or never started. What breaks it is no error: how the run ended is. */
  stdin: Writable | null;
  /** Settles when the whole tree is gone. Rejects only with `SF_NO_SANDBOX`. */
  ended: Promise<SandboxEnd>;
  /** Kill the tree now. */
  kill(): void;
  /** Nothing of the tree is given the processor until `resume`, and the wall time stands still. */
  suspend(): void;
  resume(): void;
}

export interface Sandbox {
  /** What holds each limit on this machine. */
  readonly limitKinds: LimitKinds;
  start(run: SandboxRun, signal: AbortSignal): SandboxProcess;
}
