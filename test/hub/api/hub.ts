import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { createHubApp, type HubAppOptions } from '../../../hub/api/app.ts';
import type { ApproveOptions, HubPort, InviteOptions, Right } from '../../../hub/api/port.ts';
import { hubMain } from '../../../hub/cli/run.ts';
import type { FounderConfig } from '../../../hub/core/config.ts';
import type { CorePlugin } from '../../../hub/core/plugin.ts';
import { ownsResult } from '../../../hub/core/results/blob-access.ts';
import type { Operation } from '../../../hub/core/types.ts';
import type { Entry } from '../../../ledger/lines/entry.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import { Client } from '../../../node/api/client.ts';
import type { InviteObject, NodeObject, TaskDetail } from '../../../node/api/objects.ts';
import { serveApi } from '../../../node/api/server.ts';
import type { ApiSocket } from '../../../node/api/socket.ts';
import { MemoryBlobStore } from '../../../node/blobs/memory.ts';
import type { Terminal } from '../../../node/cli/terminal.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { TERMINAL_STATES } from '../../../protocol/task.ts';
import { Fleet, hex } from '../core/fleet.ts';

/** The founder of a test: the real core on a virtual clock behind the real API on a real socket, no network. */
export class TestHub implements HubPort {
  readonly fleet: Fleet;
  readonly blobs = new MemoryBlobStore();
  readonly dir: string;
  readonly waiting: NodeObject[] = [];
  readonly approved: ApproveOptions[] = [];
  readonly secrets = new Map<string, string>();
  readonly outputs = new Map<string, PassThrough>();
  readonly asked: { operation: Operation; by: Actor; correlation: string | null }[] = [];
  peerRights: Right[] = ['view'];
  stops = 0;
  readonly #changed = new Set<() => void>();
  #socket: ApiSocket | null = null;

  constructor(
    dir: string = mkdtempSync(join(tmpdir(), 'sf-api-')),
    config: Partial<FounderConfig> = {},
    plugins: readonly CorePlugin[] = [],
  ) {
    this.fleet = new Fleet({ config, plugins });
    this.dir = dir;
    const step = this.fleet.founder.bind(this.fleet);
    this.fleet.founder = (input) => {
      step(input);
      for (const wake of this.#changed) wake();
    };
  }

  async listen(options: Omit<HubAppOptions, 'port'> = {}): Promise<this> {
    this.#socket = await serveApi(createHubApp({ port: this, ...options }), this.dir);
    return this;
  }

  async close(): Promise<void> {
    await this.#socket?.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  client(): Client {
    return new Client({ dir: this.dir, startHint: 'mesh-hub start' });
  }

  /** Watchers under way. */
  get watchers(): number {
    return this.#changed.size;
  }

  async request(operation: Operation, by: Actor, correlation: string | null): Promise<unknown> {
    this.asked.push({ operation, by, correlation });
    return structuredClone(this.fleet.ask(operation, by));
  }

  allowed(by: Actor, right: Right): boolean {
    return by.kind !== 'peer' || this.peerRights.includes(right);
  }

  need(by: Actor, right: Right): void {
    if (!this.allowed(by, right)) throw new SuperfleetError('SF_REFUSED', `the right to ${right} is lacking`);
  }

  ownsResult(peer: string, blob: string): boolean {
    return ownsResult(this.fleet.core.state, peer, blob);
  }

  async invite(options: InviteOptions): Promise<InviteObject> {
    const { uses, roles, labels, lifetimeMs, policy } = options;
    return { token: 'sfi1-token', expiresAt: 1_800_000_000_000 + lifetimeMs, uses, roles, labels, policy };
  }

  async pendingJoins(): Promise<NodeObject[]> {
    return this.waiting;
  }

  async approve(options: ApproveOptions): Promise<NodeObject> {
    this.approved.push(options);
    const found = this.waiting.find((node) => node.code === options.code);
    if (found === undefined) throw new SuperfleetError('SF_NOT_FOUND', 'nobody shows this code');
    return { ...found, state: 'online', code: null };
  }

  async reject(code: string): Promise<void> {
    if (!this.waiting.some((node) => node.code === code)) {
      throw new SuperfleetError('SF_NOT_FOUND', 'nobody shows this code');
    }
  }

  async secretSet(name: string, value: Uint8Array, by: Actor): Promise<void> {
    this.secrets.set(name, Buffer.from(value).toString());
    await this.request({ op: 'secret.set', name }, by, null);
  }

  async secretRemove(name: string, by: Actor): Promise<void> {
    await this.request({ op: 'secret.remove', name }, by, null);
    this.secrets.delete(name);
  }

  async *logs(task: string, { follow }: { follow: boolean; signal: AbortSignal }): AsyncIterable<Uint8Array> {
    if (this.fleet.task(task) === undefined)
      throw new SuperfleetError('SF_NOT_FOUND', `there is no task ${task}`);
    const output = this.output(task);
    if (!follow) {
      for (let chunk = output.read(); chunk !== null; chunk = output.read()) yield chunk;
      return;
    }
    yield* output;
  }

  output(task: string): PassThrough {
    const found = this.outputs.get(task) ?? new PassThrough();
    this.outputs.set(task, found);
    return found;
  }

  async receiptFile(task: string): Promise<Uint8Array> {
    return Buffer.from(`{"receipt of":"${task}"}\n`);
  }

  async history(task: string): Promise<Entry[]> {
    return this.fleet.entries.filter((entry) => (entry.body as { task?: string }).task === task);
  }

  readonly ledger: HubPort['ledger'] = {
    verify: async (progress) => {
      progress({ checked: 1, size: 2 });
      return { mesh: 'ab'.repeat(32), from: 0, size: 2, root: hex('root'), checkpoints: 1, segments: 1 };
    },
    scrub: (progress, signal) => this.ledger.verify(progress, signal),
    tail: (from, options) => this.#tail(from, options),
    prove: async (of) => Buffer.from(`${JSON.stringify({ 'proof of': of })}\n`),
    export: () => Readable.from([Buffer.from('line one\n'), Buffer.from('line two\n')]),
  };

  async *#tail(
    from: number,
    { follow, signal }: { follow: boolean; signal: AbortSignal },
  ): AsyncIterable<Entry> {
    for (let at = from; ; at++) {
      while (at >= this.fleet.entries.length) {
        if (!follow || signal.aborted) return;
        await this.#change(signal);
      }
      yield this.fleet.entries[at] as Entry;
    }
  }

  async *watch(task: string, signal: AbortSignal): AsyncIterable<TaskDetail> {
    for (let last = ''; !signal.aborted; ) {
      const now = this.fleet.ask<TaskDetail>({ op: 'task.get', task } as Operation);
      const words = JSON.stringify(now);
      if (words !== last) yield structuredClone(now);
      if (TERMINAL_STATES.has(now.state)) return;
      if (words === last) await this.#change(signal);
      last = words;
    }
  }

  handOver(): never {
    throw new SuperfleetError('SF_CONFLICT', 'there is nobody to hand over to');
  }

  stop(): void {
    this.stops++;
  }

  /** Settles at the founder's next step, or when the signal aborts. */
  async #change(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#changed.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#changed.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  /** `mesh-hub ARGS…` in this process. */
  run(args: string[], options: RunOptions = {}): Promise<Said> {
    return runBin(hubMain, args, {
      env: { MESH_HOME: this.dir, ...gitEnv, ...options.env },
      ...without(options),
    });
  }
}

const without = ({ env: _env, ...rest }: RunOptions): RunOptions => rest;

/** Git of a test sees no configuration of the machine. */
export const gitEnv = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_AUTHOR_NAME: 'T',
  GIT_AUTHOR_EMAIL: 't@example.invalid',
  GIT_COMMITTER_NAME: 'T',
  GIT_COMMITTER_EMAIL: 't@example.invalid',
};

export interface RunOptions {
  env?: Record<string, string | undefined>;
  cwd?: string;
  stdin?: string;
  tty?: boolean;
  signal?: AbortSignal;
  /** Called with everything said so far on stdout. */
  onOut?: (text: string) => void;
  onErr?: (text: string) => void;
}

export interface Said {
  code: number;
  out: string;
  err: string;
  json: () => Record<string, unknown>;
  /** The last line of stderr as the error object. */
  error: () => Record<string, unknown>;
}

type Main = (args: readonly string[], terminal: Terminal) => Promise<number>;

/** A bin in this process with streams of its own. */
export async function runBin(main: Main, args: string[], options: RunOptions): Promise<Said> {
  const stdout: Terminal['stdout'] = new PassThrough();
  const stderr: Terminal['stderr'] = new PassThrough();
  if (options.tty === true) stdout.isTTY = stderr.isTTY = true;
  let out = '';
  let err = '';
  stdout.on('data', (bytes: Buffer) => {
    out += bytes;
    options.onOut?.(out);
  });
  stderr.on('data', (bytes: Buffer) => {
    err += bytes;
    options.onErr?.(err);
  });
  const code = await main(args, {
    stdin: Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]),
    stdout,
    stderr,
    env: options.env ?? {},
    cwd: options.cwd ?? tmpdir(),
    signal: options.signal ?? new AbortController().signal,
  });
  const ended = Promise.all([once(stdout, 'end'), once(stderr, 'end')]);
  stdout.end();
  stderr.end();
  await ended;
  return {
    code,
    out,
    err,
    json: () => JSON.parse(out) as Record<string, unknown>,
    error: () => {
      const line = err.trimEnd().split('\n').at(-1) ?? '';
      return (JSON.parse(line) as { error: Record<string, unknown> }).error;
    },
  };
}
