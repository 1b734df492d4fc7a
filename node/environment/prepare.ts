import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SANDBOX_HOME } from '../sandbox/profile.ts';
import type { Mount, Sandbox, SandboxEnd } from '../sandbox/types.ts';
import type { AllowedHost } from './admission.ts';
import type { Recipe } from './detect.ts';
import { offlineVariables, proxiedVariables } from './network-variables.ts';
import { type HttpProxy, type ProxyEvent, startProxy } from './proxy.ts';
import { proxyVariables, type SandboxRuntime } from './runtime.ts';
import { copyTree } from './tree.ts';

/** Where the output of the lines goes. */
export interface PrepareLog {
  say(line: string): Promise<void>;
  write(bytes: Uint8Array): Promise<void>;
}

export interface PrepareLimits {
  memoryBytes: number;
  processes: number;
  /** Of the checkout, the home and all that is made, together. */
  diskBytes: number;
  /** For all lines together. */
  wallMs: number;
}

export interface PrepareRequest {
  /** A checkout in which no process writes. It is copied, and stays as it is. */
  checkout: string;
  recipe: Recipe;
  digest: string;
  /** Hosts that the owner allows; empty: no network. Further bounds are the proxy's own. */
  allowed: readonly AllowedHost[];
  limits: PrepareLimits;
  log: PrepareLog;
  /** Told each host that was reached or refused. */
  onNetwork?(event: ProxyEvent): void;
}

/** A line that did not end with 0, or was ended: the repository's doing, or a host it may not reach. */
export class PrepareFailure extends Error {
  readonly line: string;
  /** Null where it was ended. */
  readonly exitCode: number | null;
  readonly killedBy: SandboxEnd['killedBy'];
  /** Sentences of the proxy: what the owner may allow. */
  readonly refusals: string[];

  constructor(line: string, end: Pick<SandboxEnd, 'exitCode' | 'killedBy' | 'signal'>, refusals: string[]) {
    const how = end.killedBy ?? end.signal;
    const what = how === null ? `ended with ${end.exitCode}` : `was ended (${how})`;
    super([`\`${line}\` ${what} while the environment was prepared`, ...refusals].join('. '));
    this.name = 'PrepareFailure';
    this.line = line;
    this.exitCode = end.exitCode;
    this.killedBy = end.killedBy;
    this.refusals = refusals;
  }
}

/** Sentences of refused requests that a failure repeats. */
const refusalsMax = 8;

/**
 * Runs the lines of a recipe in `folder`, an empty folder of this user's on the file system where the result is to be: makes
 * `folder/workspace`, a copy of the checkout, and `folder/home`. The sandbox has no secret and, where hosts are allowed, the
 * proxy as its only way out. Throws a `PrepareFailure`, or the signal's reason.
 */
export async function runPrepare(
  sandbox: Sandbox,
  runtime: SandboxRuntime,
  folder: string,
  request: PrepareRequest,
  signal: AbortSignal,
): Promise<{ workspace: string; home: string }> {
  const places = { workspace: join(folder, 'workspace'), home: join(folder, 'home') };
  const run = join(folder, 'run');
  await copyTree(request.checkout, places.workspace, signal);
  for (const each of [places.home, run]) await mkdir(each, { mode: 0o700 });
  const refusals = new Set<string>();
  const proxy =
    request.allowed.length === 0
      ? null
      : await startProxy({
          folder: run,
          allowed: request.allowed,
          onEvent: (event) => {
            if (event.kind === 'refused' && refusals.size < refusalsMax) refusals.add(event.refusal.sentence);
            request.onNetwork?.(event);
          },
        });
  try {
    const until = performance.now() + request.limits.wallMs;
    for (const line of request.recipe.prepare) {
      const leftMs = Math.max(1, Math.floor(until - performance.now()));
      const end = await runLine(sandbox, runtime, folder, places, proxy, request, line, leftMs, signal);
      signal.throwIfAborted();
      if (end.killedBy !== null || end.exitCode !== 0) throw new PrepareFailure(line, end, [...refusals]);
    }
  } finally {
    await proxy?.close();
  }
  return places;
}

async function runLine(
  sandbox: Sandbox,
  runtime: SandboxRuntime,
  folder: string,
  places: { workspace: string; home: string },
  proxy: HttpProxy | null,
  { limits, log }: PrepareRequest,
  line: string,
  wallMs: number,
  signal: AbortSignal,
): Promise<SandboxEnd> {
  await log.say(`prepare: ${line}`);
  const mounts: Mount[] = [
    { from: places.workspace, to: '/workspace', writable: true },
    { from: places.home, to: SANDBOX_HOME, writable: true },
  ];
  const plain = { argv: ['sh', '-c', line], mounts: [] };
  const forwarded =
    proxy === null
      ? plain
      : runtime.forwarded({ socket: proxy.socket, variables: proxyVariables }, plain.argv);
  const started = sandbox.start(
    {
      argv: forwarded.argv,
      env: { CI: '1', ...(proxy === null ? offlineVariables : proxiedVariables) },
      mounts: [...mounts, ...forwarded.mounts],
      cwd: '/workspace',
      limits: {
        memoryBytes: limits.memoryBytes,
        processes: limits.processes,
        diskBytes: limits.diskBytes,
        watchBytesIn: folder,
        wallMs,
      },
      stdin: null,
    },
    signal,
  );
  const copy = async (stream: AsyncIterable<Buffer>): Promise<void> => {
    try {
      for await (const chunk of stream) await log.write(chunk);
    } catch {
      // The pipe broke with the sandbox; how that ended is what counts.
    }
  };
  const copied = Promise.all([copy(started.stdout), copy(started.stderr)]);
  const end = await started.ended;
  await copied;
  return end;
}
