import type { Mount, Sandbox, SandboxEnd, SandboxRun } from '../sandbox/types.ts';
import { GIT_ENV } from './layout.ts';

const MiB = 1024 * 1024;
/** Memory of git's whole process tree. Large files are streamed, so this is enough for any honest repository. */
export const gitMemoryBytes = 2048 * MiB;
/** Git, its index-pack, its pack-objects and the shell. */
const gitProcesses = 64;
/** Longest wait for one program of git commands; a bundle that takes longer is not an honest one. */
export const gitWallMs = 10 * 60_000;
/** What git complained, kept from its end. */
const complaintBytesMax = 16 * 1024;

export interface GitRun {
  /** One of the fixed programs of `scripts.ts`. */
  script: string;
  /** Values the program uses, always as variables, never as text of the program. */
  env: Record<string, string>;
  mounts: Mount[];
  /** Bytes that may be written under `watch`, a path of the host; null: nothing is watched. */
  disk: { watch: string; bytes: number } | null;
  stdin: Uint8Array | null;
  /** Takes stdout as it comes; null: stdout is not looked at. */
  stdout: ((chunk: Buffer) => void) | null;
}

export interface GitEnd {
  end: SandboxEnd;
  /** Last bytes of stderr. Foreign bytes: show them only through `printable`. */
  complaint: string;
}

/**
 * Runs one fixed program of git commands in a networkless sandbox of its own: with no configuration but the git
 * directory's, bounded in memory, processes, time and disk. Resolves when nothing of it is left.
 */
export async function runGit(sandbox: Sandbox, run: GitRun, signal: AbortSignal): Promise<GitEnd> {
  const started = sandbox.start(gitInSandbox(run), signal);
  let complaint = Buffer.alloc(0);
  started.stderr.on('data', (chunk: Buffer) => {
    complaint = Buffer.concat([complaint, chunk]).subarray(-complaintBytesMax);
  });
  const { stdout } = run;
  if (stdout === null) started.stdout.resume();
  else started.stdout.on('data', stdout);
  const read = Promise.all([finished(started.stdout), finished(started.stderr)]);
  const end = await started.ended;
  await read;
  return { end, complaint: complaint.toString('utf8') };
}

/** The sandbox of a program of git commands. */
export const gitInSandbox = (run: Omit<GitRun, 'stdout'>): SandboxRun => ({
  argv: ['/bin/sh', '-c', run.script],
  env: { ...GIT_ENV, ...run.env },
  mounts: run.mounts,
  cwd: '/workspace',
  limits: {
    memoryBytes: gitMemoryBytes,
    processes: gitProcesses,
    diskBytes: run.disk?.bytes ?? null,
    watchBytesIn: run.disk?.watch ?? null,
    wallMs: gitWallMs,
  },
  stdin: run.stdin,
});

/** Settles when a pipe has been read to its end or is gone; what was lost with it does not matter. */
export function finished(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    for (const event of ['end', 'close', 'error']) stream.once(event, () => resolve());
  });
}
