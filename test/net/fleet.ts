import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { watch } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { TaskDetail } from '../../node/api/objects.ts';
import type { ConfigInput } from '../../node/config.ts';
import { cgroupName, sweepCgroups } from '../../node/sandbox/limits/cgroup.ts';
import type { TaskSpecInput } from '../../protocol/task.ts';
import { type Daemon, greeter, Mesh } from './mesh.ts';

/** An entry of the log, and when this process heard of it (monotonic ms): never before it was durable. */
export interface Heard {
  index: number;
  type: string;
  body: Record<string, unknown>;
  at: number;
}

/** Nothing a test waits for takes longer. */
const PATIENCE_MS = 30_000;
/** Works while somebody types here. On this machine's loopback only: nobody else's founder is found, and none of ours is seen. */
const QUIET: ConfigInput = { mdns: false, listen: ['127.0.0.1'], policy: 'always' };

/** A mesh on loopback whose log is followed: tests wait for its entries, and measure by them. */
export class Fleet extends Mesh {
  readonly entries: Heard[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #ending = new AbortController();
  #following: Promise<void> = Promise.resolve();
  #repository: Promise<NonNullable<TaskSpecInput['repository']>> | null = null;
  hubDaemon: Daemon | null = null;
  readonly members = new Map<string, Daemon>();

  /** Founder and members, ready; `config` of each over what loopback needs. */
  static async start(
    options: {
      hub?: ConfigInput;
      members?: Record<string, ConfigInput>;
      hubArgs?: string[];
      hubEnv?: NodeJS.ProcessEnv;
      program?: string;
    } = {},
  ): Promise<Fleet> {
    const fleet = new Fleet(options.program);
    try {
      const init = await fleet.hub([
        'init',
        '--name',
        'hub',
        '--recovery-key',
        join(fleet.home, 'recovery.key'),
      ]);
      assert.is(init.code, 0, init.stderr);
      fleet.configure('hub', options.hub ?? {});
      await fleet.up(options.hubArgs, options.hubEnv);
      fleet.#following = fleet.#follow();
      const members = Object.entries(options.members ?? {});
      if (members.length === 0) return fleet;
      const { token } = await fleet.client.post<{ token: string }>('/v1/invites', { uses: members.length });
      await Promise.all(
        members.map(async ([name, config]) => {
          fleet.configure(name, config);
          fleet.members.set(name, await fleet.joinWith(name, token));
        }),
      );
      return fleet;
    } catch (error) {
      await fleet.close();
      throw error;
    }
  }

  /** Starts the founder, again or for the first time. */
  async up(args: string[] = ['--port', '0'], env: NodeJS.ProcessEnv = {}): Promise<Daemon> {
    this.hubDaemon = await this.startFounder(args, env);
    return this.hubDaemon;
  }

  daemon(name: string): Daemon {
    const daemon = this.members.get(name);
    assert.ok(daemon, `no member ${name}`);
    return daemon;
  }

  /** Writes fields of this node's config, before it starts. */
  configure(name: string, config: ConfigInput): void {
    const dir = this.dir(name);
    const path = join(dir, 'config.json');
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
    if (!readdirSync(dir).includes('format')) writeFileSync(join(dir, 'format'), 'superfleet-folder 1\n');
    const known = readdirSync(dir).includes('config.json') ? JSON.parse(readFileSync(path, 'utf8')) : {};
    writeFileSync(path, JSON.stringify({ ...known, ...QUIET, ...config }), { mode: 0o600 });
  }

  // ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────
  /** Submits a command, in an empty workspace where no repository is named; answers its id. */
  async submit(argv: string[], spec: Partial<TaskSpecInput> = {}): Promise<string> {
    const body = { spec: { kind: 'command', argv, ...spec }, bundle: null };
    return (await this.client.post<{ id: string }>('/v1/tasks', body)).id;
  }

  /** A repository that the mesh holds, for tasks whose result others can verify; sent on first use. */
  repository(): Promise<NonNullable<TaskSpecInput['repository']>> {
    this.#repository ??= (async () => {
      const cwd = await greeter(join(this.home, 'greeter'));
      const { id } = await this.json<{ id: string }>(['task', 'run', '--', 'true'], { cwd });
      await this.ended(id);
      const { repository } = (await this.describe(id)).spec;
      assert.ok(repository);
      return repository;
    })();
    return this.#repository;
  }

  describe(task: string): Promise<TaskDetail> {
    return this.client.get<TaskDetail>(`/v1/tasks/${task}`);
  }

  /** The task once it has ended. */
  async ended(task: string): Promise<TaskDetail> {
    await this.entry(
      ({ type, body }) => type === 'task.converged' && body.task === task,
      `the end of ${task}`,
    );
    return this.describe(task);
  }

  /** The first entry, from index `from` on, that is of this type and about this task. */
  about(task: string, type: string, from = 0, more: Record<string, unknown> = {}): Promise<Heard> {
    return this.entry(
      (entry) =>
        entry.type === type &&
        entry.body.task === task &&
        Object.entries(more).every(([key, value]) => entry.body[key] === value),
      `${type} of ${task}`,
      from,
    );
  }

  // ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────
  /** The first entry that `look` likes, waiting for it. */
  async entry(look: (entry: Heard) => boolean, what: string, from = 0): Promise<Heard> {
    return this.until(() => this.entries.find((entry) => entry.index >= from && look(entry)), what);
  }

  /** Waits until `look` answers; it is asked after every entry. */
  async until<T>(look: () => T | undefined, what: string): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (performance.now() > deadline) {
        const tail = this.entries.slice(-12).map((entry) => JSON.stringify(entry));
        throw new Error(`expected ${what}; the log ends with\n${tail.join('\n')}`);
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, 1_000);
        this.#waiting.add(wake);
      });
    }
  }

  /** Asks until the answer is yes: for what no entry tells of. */
  async untilAsked(ask: () => Promise<boolean>, what: string): Promise<void> {
    const began = performance.now();
    while (!(await ask())) {
      const ms = performance.now() - began;
      if (ms > PATIENCE_MS) throw new Error(`expected: ${what}`);
      // What takes its time is asked for less often: each question is work for those who are waited for.
      await new Promise((resolve) => setTimeout(resolve, ms < 1_000 ? 20 : 75));
    }
  }

  /** Index of the next entry to come, as far as this process has heard. */
  get next(): number {
    return (this.entries.at(-1)?.index ?? -1) + 1;
  }

  /** Follows the log over every restart of the founder. */
  async #follow(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        const path = `/v1/ledger/entries?from=${this.next}&follow=1`;
        for await (const { index, type, body } of this.client.lines<Entry>('GET', path, signal)) {
          this.entries.push({ index, type, body: body as Record<string, unknown>, at: performance.now() });
          for (const wake of [...this.#waiting]) wake();
        }
      } catch {
        // The founder is down; the test says when it is up again.
      }
      if (signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends everything and looks for what it left behind; one that did is an error. */
  override async close(): Promise<void> {
    this.#ending.abort();
    await this.#following;
    const pids = this.daemons.map(({ pid }) => pid);
    await super.close();
    const look = (): string[] => {
      sweepCgroups();
      const running = processes((text) => text.includes(this.home));
      return [...running.map(({ pid, text }) => `process ${pid}: ${text}`), ...cgroupsOf(pids)];
    };
    let left = look();
    // A cgroup can be removed a moment after its last process was collected.
    for (let again = 0; left.length > 0 && again < 40; again++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      left = look();
    }
    assert.equal(left, [], 'nothing is left behind');
  }
}

/** Processes of this machine whose command line `look` likes; this one is not among them. */
export function processes(look: (text: string) => boolean): { pid: number; text: string }[] {
  const found: { pid: number; text: string }[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      const text = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      if (text !== '' && look(text)) found.push({ pid: Number(name), text });
    } catch {
      // It ended.
    }
  }
  return found;
}

/**
 * Waits until so many shells of tasks run whose text holds the mark: an attempt says that it has started a moment before
 * its command does. Answers their pids.
 */
export async function runs(mark: string, count = 1): Promise<number[]> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const found = processes((text) => text.startsWith('sh -c ') && text.includes(mark));
    if (found.length >= count) return found.map(({ pid }) => pid);
    if (performance.now() > deadline) throw new Error(`${found.length} of ${count} run: ${mark}`);
    // A look at all processes is work, beside what it waits for.
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * From now on ends what tasks with this mark sleep for: their shells go on with what comes after. A task lasts as long as
 * a test has use for it, on a slow machine and on a fast one. One that is only about to sleep is woken too.
 */
export async function wake(mark: string): Promise<void> {
  const sleepers = (): void => {
    for (const { pid: shell } of processes((text) => text.startsWith('sh -c ') && text.includes(mark))) {
      const below = new Set(descendants(shell));
      for (const { pid } of processes((text) => text.startsWith('sleep '))) {
        try {
          if (below.has(pid)) process.kill(pid, 'SIGTERM');
        } catch {
          // It ended by itself.
        }
      }
    }
  };
  await runs(mark);
  sleepers();
  const timer = setInterval(sleepers, 100).unref();
  setTimeout(() => clearInterval(timer), PATIENCE_MS).unref();
}

/** Waits for the end of every process whose command line holds the text, and answers how long that took. */
export async function gone(text: string, patienceMs = 10_000): Promise<number> {
  const began = performance.now();
  // A process that is no child of ours has no event for its end.
  for (;;) {
    const left = processes((line) => line.includes(text));
    const ms = performance.now() - began;
    if (left.length === 0) return ms;
    if (ms > patienceMs) {
      const pids = left.map(({ pid }) => pid).join(' ');
      throw new Error(`${text}: still there after ${patienceMs} ms: processes ${pids}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Resident bytes of a process. */
export function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** The most a process ever held. */
export function peakBytes(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** Every file under a folder, links not followed. */
export function filesUnder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesUnder(path);
    return entry.isFile() ? [path] : [];
  });
}

/** Cgroup folders of nodes that had these pids; another process may have one of them by now, or have had it before this one began. */
const cgroupsOf = (pids: number[]): string[] =>
  cgroupFolders(
    (name, path) =>
      !OLD.has(path) && pids.some((pid) => name.startsWith(`superfleet-${pid}-`) && name !== cgroupName(pid)),
  );

/** Cgroup folders that `like` likes; what lies in one of them is not looked at. */
function cgroupFolders(like: (name: string, path: string) => boolean): string[] {
  const found: string[] = [];
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  for (const mount of mounts.filter((line) => / - cgroup2? /.test(line))) {
    const point = mount.split(' ')[4]!;
    const walk = (folder: string, depth: number): void => {
      for (const name of readdirSync(folder)) {
        const path = join(folder, name);
        if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) continue;
        if (like(name, path)) found.push(path);
        else if (depth > 0) walk(path, depth - 1);
      }
    };
    walk(point, 3);
  }
  return found;
}

/** Left by somebody who was killed long ago. */
const OLD: ReadonlySet<string> = new Set(cgroupFolders((name) => name.startsWith('superfleet-')));

/** Waits until a name in the folder pleases `look`; asked at every change the kernel tells of. */
export async function appears(folder: string, look: (path: string) => boolean): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const changes = watch(folder, { signal });
  const looked = (): string | undefined =>
    readdirSync(folder)
      .map((name) => join(folder, name))
      .find(look);
  const there = looked();
  if (there !== undefined) return there;
  for await (const _ of changes) {
    const found = looked();
    if (found !== undefined) return found;
  }
  throw new Error(`what was waited for did not come into ${folder}`);
}

export const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Processes below this one, whatever they call themselves. */
export function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state !== 'Z')
        children.set(Number(parent), [...(children.get(Number(parent)) ?? []), Number(name)]);
    } catch {
      // It ended.
    }
  }
  const below = (of: number): number[] =>
    (children.get(of) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(pid);
}

/** Waits until this process has no other below it; answers how long that took. */
export async function childless(pid: number, patienceMs = 10_000): Promise<number> {
  const began = performance.now();
  for (;;) {
    const left = descendants(pid);
    const ms = performance.now() - began;
    if (left.length === 0) return ms;
    if (ms > patienceMs)
      throw new Error(`process ${pid} still has ${left.length} below it after ${patienceMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A TCP port that nobody has now: members find a restarted founder where it was. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
