import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Client } from '../../node/api/client.ts';
import { LOOKED } from '../../node/cli/lifecycle.ts';

/** A whole mesh of real processes on this machine, as a person would start it: by the launchers, with `--json`. */

const ROOT = resolve(import.meta.dirname, '../..');
/** Nothing a test waits for takes longer. */
const PATIENCE_MS = 60_000;

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A command in a network namespace (null: this machine's own). */
export type Where = string | null;

const wrap = (where: Where, argv: string[]): string[] =>
  where === null ? argv : ['ip', 'netns', 'exec', where, ...argv];

/** Runs a command to its end. Ends it after a minute, so that a hung one is a failure with its words. */
export async function run(
  argv: string[],
  options: {
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    input?: string;
    where?: Where;
    signal?: AbortSignal;
  } = {},
): Promise<Outcome> {
  const [file, ...args] = wrap(options.where ?? null, argv);
  const child = spawn(file!, args, {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  const texts = { stdout: '', stderr: '' };
  child.stdout.on('data', (bytes: Buffer) => (texts.stdout += bytes));
  child.stderr.on('data', (bytes: Buffer) => (texts.stderr += bytes));
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  const abort = (): void => void child.kill('SIGKILL');
  options.signal?.addEventListener('abort', abort);
  const [code] = (await once(child, 'close')) as [number | null];
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', abort);
  return { code, ...texts };
}

/** As `run`; anything but exit 0 is an error that quotes what the command said. */
export async function ok(argv: string[], options: Parameters<typeof run>[1] = {}): Promise<string> {
  const done = await run(argv, options);
  if (done.code !== 0) throw new Error(`${argv.join(' ')}: exit ${done.code}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

/** A daemon in the foreground of a child of ours, and the lines it says. */
export class Daemon {
  readonly child: ChildProcess;
  readonly lines: Record<string, unknown>[] = [];
  log = '';
  #buffer = '';
  readonly #waiting = new Set<() => void>();

  constructor(argv: string[], where: Where, env: NodeJS.ProcessEnv, cwd: string = ROOT) {
    const [file, ...args] = wrap(where, argv);
    this.child = spawn(file!, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout!.on('data', (bytes: Buffer) => this.#take(String(bytes)));
    this.child.stderr!.on('data', (bytes: Buffer) => {
      this.log = (this.log + bytes).slice(-65_536);
      this.#wake();
    });
    this.child.once('exit', () => this.#wake());
  }

  get pid(): number {
    return this.child.pid!;
  }

  get exited(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  #take(text: string): void {
    const lines = (this.#buffer + text).split('\n');
    this.#buffer = lines.pop() ?? '';
    for (const line of lines.filter((line) => line.startsWith('{'))) this.lines.push(JSON.parse(line));
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** The first line of this event, waiting for it; an exit before it is an error with the log. */
  async event(name: string): Promise<Record<string, unknown>> {
    return this.until(() => this.lines.find((line) => line.event === name), `the event ${name}`);
  }

  async until<T>(look: () => T | undefined, what: string): Promise<T> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      if (this.exited || Date.now() > deadline)
        throw new Error(`expected ${what}; the daemon said:\n${this.log}`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, 1000);
        this.#waiting.add(wake);
      });
    }
  }

  /** Its exit code, once it has ended by itself. */
  async ended(): Promise<number | null> {
    if (!this.exited) await once(this.child, 'close');
    return this.child.exitCode;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.exited) return;
    const gone = once(this.child, 'exit');
    this.child.kill(signal);
    await gone;
  }
}

/** Folders and processes of one test; `close` leaves nothing behind. */
export class Mesh {
  readonly home: string;
  readonly program: string;
  readonly daemons: Daemon[] = [];
  readonly #where = new Map<string, Where>();
  readonly #dirs = new Map<string, string>();

  /** `program`: the folder of the clone whose launchers are run, and that daemons are started in. */
  constructor(program: string = ROOT) {
    this.program = program;
    this.home = mkdtempSync(join(tmpdir(), 'sf-'));
    // Started as root the nodes drop to an account that must be able to pass through.
    chmodSync(this.home, 0o755);
  }

  dir(name: string): string {
    return this.#dirs.get(name) ?? join(this.home, name);
  }

  #bin(name: string): string {
    return join(this.program, 'scripts', name);
  }

  /** Puts this node's data folder elsewhere. */
  place(name: string, dir: string): void {
    this.#dirs.set(name, dir);
  }

  /** The founder's socket, as its commands use it. */
  get client(): Client {
    return new Client({ dir: this.dir('hub'), startHint: 'mesh-hub start' });
  }

  /** `mesh-hub …` against this mesh's founder. */
  hub(args: string[], options: Parameters<typeof run>[1] = {}): Promise<Outcome> {
    return run([this.#bin('mesh-hub'), ...args], {
      where: this.#where.get('hub') ?? null,
      ...options,
      env: this.#env('hub', options.env),
    });
  }

  /** `mesh-node …` of this member. */
  node(name: string, args: string[], options: Parameters<typeof run>[1] = {}): Promise<Outcome> {
    return run([this.#bin('mesh-node'), ...args], {
      where: this.#where.get(name) ?? null,
      ...options,
      env: this.#env(name, options.env),
    });
  }

  /** `mesh-hub … --json`, parsed; an exit other than 0 is an error. */
  async json<T = Record<string, unknown>>(
    args: string[],
    options: Parameters<typeof run>[1] = {},
  ): Promise<T> {
    const split = args.indexOf('--');
    const with_ =
      split === -1 ? [...args, '--json'] : [...args.slice(0, split), '--json', ...args.slice(split)];
    const done = await this.hub(with_, options);
    if (done.code !== 0) throw new Error(`mesh-hub ${with_.join(' ')}: exit ${done.code}\n${done.stderr}`);
    return JSON.parse(done.stdout) as T;
  }

  #env(name: string, env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    return { ...env, MESH_HOME: this.dir(name) };
  }

  /** `init` and `start`; resolves when the founder is ready. */
  async founder(options: { where?: Where; args?: string[]; env?: NodeJS.ProcessEnv } = {}): Promise<Daemon> {
    this.#where.set('hub', options.where ?? null);
    const init = await this.hub(['init', '--name', 'hub', '--recovery-key', join(this.home, 'recovery.key')]);
    if (init.code !== 0) throw new Error(`init: ${init.stderr}`);
    // Somebody may sit at the screen of the machine that runs the tests.
    const config = join(this.dir('hub'), 'config.json');
    writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), policy: 'always' }));
    return this.startFounder(options.args ?? ['--port', '0'], options.env);
  }

  async startFounder(args: string[] = ['--port', '0'], env: NodeJS.ProcessEnv = {}): Promise<Daemon> {
    return this.#start('hub', [this.#bin('mesh-hub'), 'start', '--json', ...args], env);
  }

  /** Joins by a fresh token; resolves when the member is ready. */
  async member(
    name: string,
    options: { where?: Where; args?: string[]; env?: NodeJS.ProcessEnv } = {},
  ): Promise<Daemon> {
    const { token } = await this.client.post<{ token: string }>('/v1/invites', { policy: 'always' });
    this.#where.set(name, options.where ?? null);
    const args = options.args ?? ['--port', '0'];
    return this.#start(
      name,
      [this.#bin('mesh-node'), 'join', token, '--name', name, '--json', ...args],
      options.env,
    );
  }

  /** Joins by this token; resolves when the member is ready. */
  joinWith(name: string, token: string, port = 0): Promise<Daemon> {
    const words = ['join', token, '--name', name, '--json', '--port', String(port)];
    return this.#start(name, [this.#bin('mesh-node'), ...words]);
  }

  /** `mesh-node join WORDS…` in the foreground; the caller waits for what it expects of it. */
  join(name: string, words: string[], options: { where?: Where; env?: NodeJS.ProcessEnv } = {}): Daemon {
    this.#where.set(name, options.where ?? null);
    const argv = [this.#bin('mesh-node'), 'join', ...words, '--json', '--port', '0'];
    return this.#spawn(name, argv, options.env ?? {});
  }

  /** Joins without a token: the pending daemon, whose `pending` event has the code. */
  applicant(name: string, options: { where?: Where; args?: string[]; env?: NodeJS.ProcessEnv } = {}): Daemon {
    this.#where.set(name, options.where ?? null);
    const args = options.args ?? ['--port', '0'];
    const argv = [this.#bin('mesh-node'), 'join', '--name', name, '--json', ...args];
    return this.#spawn(name, argv, options.env ?? {});
  }

  async startMember(
    name: string,
    args: string[] = ['--port', '0'],
    env: NodeJS.ProcessEnv = {},
  ): Promise<Daemon> {
    return this.#start(name, [this.#bin('mesh-node'), 'start', '--json', ...args], env);
  }

  /** The first look at the machine is taken as done: every machine here is this one. test/net/first-look takes it. */
  async #start(name: string, argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Daemon> {
    const daemon = this.#spawn(name, argv, { [LOOKED]: '1', ...env });
    await daemon.event('ready');
    return daemon;
  }

  #spawn(name: string, argv: string[], env: NodeJS.ProcessEnv): Daemon {
    const daemon = new Daemon(argv, this.#where.get(name) ?? null, this.#env(name, env), this.program);
    this.daemons.push(daemon);
    return daemon;
  }

  async close(): Promise<void> {
    for (const daemon of this.daemons) if (!daemon.exited) daemon.child.kill('SIGCONT');
    await Promise.all(this.daemons.map((daemon) => daemon.end('SIGTERM').catch(() => {})));
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A repository of one shell script whose check is red until `Helo` becomes `Hello`. */
export async function greeter(folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'greet.sh'), 'echo "Helo, $1!"\n');
  writeFileSync(join(folder, 'test.sh'), '[ "$(sh greet.sh mesh)" = "Hello, mesh!" ]\n');
  await ok(['git', 'init', '-q', '-b', 'main'], { cwd: folder });
  await ok(['git', 'add', '.'], { cwd: folder });
  await ok(['git', '-c', 'user.name=T', '-c', 'user.email=t@example.invalid', 'commit', '-qm', 'base'], {
    cwd: folder,
  });
  return folder;
}

export const isRoot = process.getuid?.() === 0;
