import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { processTree } from '../../../node/sandbox/limits/tree.ts';
import type { Sandbox, SandboxEnd, SandboxProcess, SandboxRun } from '../../../node/sandbox/types.ts';

const MiB = 1024 * 1024;

/** A throw-away folder of this process; `using` removes it, whatever rights a task took from its parts. */
export class Folder implements Disposable {
  readonly path: string;
  constructor(name = 'sandbox') {
    this.path = mkdtempSync(join(tmpdir(), `sf-test-${name}-`));
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface Wish extends Omit<Partial<SandboxRun>, 'limits'> {
  workspace?: string;
  limits?: Partial<SandboxRun['limits']>;
}

export function wish(argv: string[], wanted: Wish = {}): SandboxRun {
  const { workspace, limits, mounts, ...rest } = wanted;
  const own = workspace === undefined ? [] : [{ from: workspace, to: '/workspace', writable: true }];
  return {
    argv,
    env: {},
    mounts: [...own, ...(mounts ?? [])],
    cwd: workspace === undefined ? '/tmp' : '/workspace',
    stdin: null,
    ...rest,
    limits: {
      memoryBytes: 512 * MiB,
      processes: 64,
      diskBytes: workspace === undefined ? null : 256 * MiB,
      watchBytesIn: workspace ?? null,
      wallMs: 20_000,
      ...limits,
    },
  };
}

export const start = (sandbox: Sandbox, argv: string[], wanted: Wish = {}): SandboxProcess =>
  sandbox.start(wish(argv, wanted), new AbortController().signal);

export interface Told extends SandboxEnd {
  out: string;
  err: string;
}

/** Runs to the end and collects what was said. */
export async function run(sandbox: Sandbox, argv: string[], wanted: Wish = {}): Promise<Told> {
  const task = start(sandbox, argv, wanted);
  const [out, err, end] = await Promise.all([text(task.stdout), text(task.stderr), task.ended]);
  return { ...end, out, err };
}

/** Perl is in Debian's base, and its `syscall` reaches what no shell does. */
export const perl = (script: string): string[] => ['perl', '-MPOSIX', '-e', script];
export const PERL = existsSync('/usr/bin/perl');

/** Living processes of this machine whose command line holds `marker`. */
export function processesWith(marker: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(marker)) return false;
        return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
      } catch {
        return false;
      }
    });
}

/**
 * A first process of bwrap that waits to be released by one that was killed before: what the threat model says may be left when a node
 * is killed in those microseconds. It has no child, and never will: nothing of a task runs in it.
 */
export function waitsForRelease(pid: number): boolean {
  try {
    const comm = readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
    return comm === 'bwrap' && processTree(pid).length === 1;
  } catch {
    return false;
  }
}

/** Waits for bytes of a stream that match, and gives them back; the stream goes on flowing. */
export function said(stream: NodeJS.ReadableStream, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = '';
    stream.on('data', (bytes: Buffer) => {
      heard += bytes.toString('utf8');
      if (pattern.test(heard)) resolve(heard);
    });
    stream.once('end', () => reject(new Error(`ended without ${pattern}: ${heard}`)));
  });
}

/** Asks again until it holds; for what the kernel tells nobody about. */
export async function until(what: string, holds: () => boolean, ms = 5_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`did not come true in ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
