import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import * as assert from 'uvu/assert';
import { type Lan, lan } from '../net/hosts.ts';

/**
 * A story is a script that reads as it happens: who types what on which machine, what they see, how long they wait. Machines
 * are network namespaces on a LAN without a way out, each with a host name, a home and a data folder of its own. What was
 * typed and seen is the transcript in `docs/stories.md`; `STORIES=write` puts it there, otherwise the commands in the page
 * must be the ones that were typed.
 */

const ROOT = resolve(import.meta.dirname, '../..');
const PAGE = join(ROOT, 'docs/stories.md');
/** As other tests, the machines run what is published where it was built; else the sources. */
const { SUPERFLEET_BUILD: BUILD = '' } = process.env;
/** A build names itself by what its launcher runs; the page is of a clone. */
const AS_IN_A_CLONE = ['mesh-node', 'mesh-hub'].map((bin): [string, string] => [
  [
    join(ROOT, 'node_modules/node/bin/node'),
    join(ROOT, '.built', BUILD, `hub/${bin === 'mesh-hub' ? 'cli' : bin}.js`),
  ].join(' '),
  `/opt/superfleet/scripts/${bin}`,
]);
/** Nothing a person waits for here takes longer. */
const PATIENCE_MS = 60_000;

export interface Expected {
  /** Each must be in what is seen, stdout and stderr together. */
  sees?: readonly (RegExp | string)[];
  /** None may be. */
  not?: readonly RegExp[];
  /** @default 0 */
  exit?: number;
  /** The person waits at most so long, ms. @default 60 s */
  within?: number;
  /** Environment of this command alone. */
  env?: NodeJS.ProcessEnv;
  /** Typed into its stdin. */
  input?: string;
  /** What stands in the transcript, where all of it would be tiresome: the lines that match. */
  show?: RegExp;
}

/** What came of a command. */
export interface Seen {
  text: string;
  /** stdout alone, trimmed. */
  out: string;
  ms: number;
}

interface Part {
  kind: 'words' | 'typed' | 'shown';
  machine: string;
  text: string;
}

export class Story {
  readonly home: string;
  readonly #name: string;
  readonly #title: string;
  readonly #lan: Lan;
  readonly #machines: Machine[];
  readonly #parts: Part[] = [];
  /** Real text → what stands for it in the transcript. */
  readonly #scrubs: [string, string][] = [
    ...AS_IN_A_CLONE,
    [ROOT, '/opt/superfleet'],
    // A kernel's own suffix says nothing here.
    [release(), release().split('-')[0]!],
  ];

  private constructor(name: string, title: string, machines: readonly string[]) {
    this.#name = name;
    this.#title = title;
    this.home = mkdtempSync(join(tmpdir(), `sf-story-${name}-`));
    // Started as root the nodes drop to an account that must be able to pass through.
    chmodSync(this.home, 0o755);
    this.#lan = lan(machines.length);
    this.#machines = machines.map((each, n) => {
      const home = join(this.home, each);
      mkdirSync(home);
      writeFileSync(
        join(home, '.gitconfig'),
        `[user]\n  name = ${each}\n  email = ${each}@example.invalid\n`,
      );
      this.#scrubs.push([home, '~']);
      return new Machine(each, this.#lan.hosts[n]!, this.#lan.addresses[n]!, home, this);
    });
  }

  /** Needs root, for the namespaces. Runs the script, tells the transcript and leaves nothing behind. */
  static async tell(
    name: string,
    title: string,
    machines: readonly string[],
    script: (story: Story, ...machines: Machine[]) => Promise<void>,
  ): Promise<void> {
    const story = new Story(name, title, machines);
    try {
      await script(story, ...story.#machines);
    } catch (thrown) {
      console.log(story.#markdown());
      throw thrown;
    } finally {
      await Promise.all(story.#machines.map((machine) => machine.off()));
      story.#lan.close();
      rmSync(story.home, { recursive: true, force: true });
    }
    story.#keep();
  }

  /** What happens, between what is typed. */
  says(words: string): void {
    this.#parts.push({ kind: 'words', machine: '', text: words });
  }

  /** `real` is shown as `shown` in the transcript: tokens, folders. */
  scrub(real: string, shown: string): void {
    this.#scrubs.unshift([real, shown]);
  }

  typed(machine: string, text: string): void {
    this.#parts.push({ kind: 'typed', machine, text });
  }

  shown(machine: string, text: string): void {
    if (text.trim() !== '') this.#parts.push({ kind: 'shown', machine, text: plain(text) });
  }

  #scrubbed(text: string): string {
    return this.#scrubs.reduce((so, [real, shown]) => so.replaceAll(real, shown), text);
  }

  #commands(): string[] {
    return this.#parts
      .filter(({ kind }) => kind === 'typed')
      .map(({ machine, text }) => `${machine}$ ${this.#scrubbed(text)}`);
  }

  #markdown(): string {
    const lines = [`## ${this.#title}`, ''];
    let open: string | null = null;
    const close = (): void => {
      if (open !== null) lines.push('```', '');
      open = null;
    };
    for (const { kind, machine, text } of this.#parts) {
      const said = this.#scrubbed(text).replace(/\s+$/, '');
      if (kind === 'words') {
        close();
        lines.push(said, '');
        continue;
      }
      if (open !== machine) {
        close();
        lines.push('```console');
        if (kind === 'shown') lines.push(`# on the screen of ${machine}`);
        open = machine;
      }
      lines.push(kind === 'typed' ? `${machine}$ ${said}` : said);
    }
    close();
    return lines.join('\n');
  }

  /** The page says what was typed; with `STORIES=write` it is made to. */
  #keep(): void {
    const [begin, end] = [`<!-- story: ${this.#name} -->`, `<!-- end: ${this.#name} -->`];
    const page = existsSync(PAGE) ? readFileSync(PAGE, 'utf8') : '';
    const [from, to] = [page.indexOf(begin), page.indexOf(end)];
    assert.ok(from !== -1 && to > from, `docs/stories.md has a place for the story ${this.#name}`);
    if (process.env.STORIES === 'write') {
      const told = `${begin}\n\n${this.#markdown()}\n${end}`;
      writeFileSync(PAGE, page.slice(0, from) + told + page.slice(to + end.length));
      return;
    }
    const names = this.#machines.map(({ name }) => name).join('|');
    const typed = page.slice(from, to).match(new RegExp(`^(?:${names})\\$ .*$`, 'gm')) ?? [];
    const lines = this.#commands().flatMap((command) => command.split('\n').slice(0, 1));
    assert.equal(lines, typed, 'the commands in docs/stories.md; STORIES=write puts these there');
  }
}

/** A machine and who sits at it. */
export class Machine {
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
  readonly home: string;
  /** Added to the environment of everything typed here. */
  readonly env: NodeJS.ProcessEnv = {};
  /** False: bubblewrap cannot be run here. */
  sandbox = true;
  /** Where the next command is typed. */
  folder: string;
  readonly #story: Story;
  readonly #screens: Screen[] = [];
  readonly #beside: ChildProcess[] = [];

  constructor(name: string, namespace: string, address: string, home: string, story: Story) {
    this.name = name;
    this.namespace = namespace;
    this.address = address;
    this.home = home;
    this.folder = home;
    this.#story = story;
  }

  /** A command as a shell on this machine runs it. Not in the transcript. */
  async does(command: string, expected: Expected = {}): Promise<Seen> {
    const began = performance.now();
    const child = this.#spawn(['sh', '-c', command], expected.env);
    child.stdin!.on('error', () => {});
    child.stdin!.end(expected.input ?? '');
    let [text, out] = ['', ''];
    child.stdout!.on('data', (bytes: Buffer) => {
      text += bytes;
      out += bytes;
    });
    child.stderr!.on('data', (bytes: Buffer) => (text += bytes));
    const timer = setTimeout(() => child.kill('SIGKILL'), expected.within ?? PATIENCE_MS);
    const [code] = (await once(child, 'close')) as [number | null];
    clearTimeout(timer);
    const ms = performance.now() - began;
    const told = `${this.name}$ ${command}\n${text}`;
    assert.is(code, expected.exit ?? 0, `exit of ${told}(after ${Math.round(ms)} ms)`);
    check(text, expected, told);
    return { text, out: out.trim(), ms };
  }

  /** What the person types, and what they must see. */
  async types(command: string, expected: Expected = {}): Promise<Seen> {
    this.#story.typed(this.name, command);
    const seen = await this.does(command, expected);
    const { show } = expected;
    const shown =
      show === undefined
        ? seen.text
        : seen.text
            .split('\n')
            .filter((line) => show.test(line))
            .join('\n');
    this.#story.shown(this.name, shown);
    return seen;
  }

  /** A program on a terminal of its own that stays open. */
  opens(command: string, options: { columns?: number; env?: NodeJS.ProcessEnv } = {}): Screen {
    this.#story.typed(this.name, command);
    const line = `stty cols ${options.columns ?? 100} rows 40; exec ${command}`;
    const child = this.#spawn(['script', '-qefc', line, '/dev/null'], {
      SHELL: '/bin/sh',
      TERM: 'xterm',
      ...options.env,
    });
    const screen = new Screen(child, this.name, command, this.#story);
    this.#screens.push(screen);
    return screen;
  }

  /** A program that is there and is none of the story's commands; it ends when its stdin does. */
  runs(argv: string[]): { says(pattern: RegExp): Promise<void> } {
    const child = this.#spawn(argv);
    let text = '';
    this.#beside.push(child);
    return {
      says: async (pattern) => {
        for await (const bytes of child.stdout!) {
          text += bytes;
          if (pattern.test(text)) return;
        }
        throw new Error(`${argv.join(' ')}: expected ${pattern}, got ${text}`);
      },
    };
  }

  /** Ends what was left running. */
  async off(): Promise<void> {
    for (const screen of this.#screens) await screen.close();
    for (const child of this.#beside) {
      child.stdin!.end();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    for (const bin of ['mesh-node', 'mesh-hub']) {
      await this.does(`[ ! -S "$MESH_HOME/run/api.sock" ] || ${bin} stop || :`).catch(() => {});
    }
  }

  #spawn(argv: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const hide = this.sandbox ? '' : 'mount --bind /dev/null /usr/bin/bwrap && ';
    const script = `hostname "$1" && shift && ${hide}exec "$@"`;
    const named = ['unshare', '--uts', '--mount', 'sh', '-c', script, 'sh', this.name];
    return spawn('ip', ['netns', 'exec', this.namespace, ...named, ...argv], {
      cwd: this.folder,
      env: {
        PATH: `${join(ROOT, 'scripts')}:${process.env.PATH}`,
        HOME: this.home,
        // One for all, so that only the first machine compiles.
        XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'),
        SUPERFLEET_BUILD: BUILD,
        MESH_HOME: join(this.home, 'mesh'),
        LANG: 'C.UTF-8',
        GIT_CONFIG_NOSYSTEM: '1',
        ...this.env,
        ...env,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  }
}

/** A terminal that somebody looks at. */
export class Screen {
  readonly #child: ChildProcess;
  readonly #machine: string;
  readonly #command: string;
  readonly #story: Story;
  readonly #wakers = new Set<() => void>();
  #text = '';
  #told = 0;
  #ended = false;

  constructor(child: ChildProcess, machine: string, command: string, story: Story) {
    this.#child = child;
    this.#machine = machine;
    this.#command = command;
    this.#story = story;
    const take = (bytes: Buffer): void => {
      this.#text += bytes;
      for (const wake of this.#wakers) wake();
    };
    child.stdout!.on('data', take);
    child.stderr!.on('data', take);
    child.stdin!.on('error', () => {});
    child.once('close', () => {
      this.#ended = true;
      for (const wake of this.#wakers) wake();
    });
  }

  /** Waits for something new to stand there; what stands there up to it goes to the transcript. */
  async sees(pattern: RegExp, within = PATIENCE_MS): Promise<RegExpExecArray> {
    return this.#until(pattern, within, () => {
      const fresh = plain(this.#text).slice(this.#told);
      const found = pattern.exec(fresh);
      if (found === null) return null;
      const end = found.index + found[0].length;
      this.#story.shown(this.#machine, fresh.slice(0, end));
      this.#told += end;
      return found;
    });
  }

  /** Waits for something that stands there for a while only, as on a line that is drawn anew; not in the transcript. */
  async glimpses(pattern: RegExp): Promise<void> {
    await this.#until(pattern, PATIENCE_MS, () => pattern.exec(this.#text));
  }

  async #until<T>(pattern: RegExp, within: number, look: () => T | null): Promise<T> {
    const deadline = performance.now() + within;
    for (let found = look(); ; found = look()) {
      if (found !== null) return found;
      if (this.#ended || performance.now() >= deadline) {
        throw new Error(
          `${this.#machine}$ ${this.#command}\nexpected ${pattern}, seen:\n${plain(this.#text)}`,
        );
      }
      await new Promise<void>((done) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#wakers.delete(wake);
          done();
        };
        const timer = setTimeout(wake, Math.max(1, deadline - performance.now()));
        this.#wakers.add(wake);
      });
    }
  }

  /** Types at the prompt: `y\r`, or `\x03` for Ctrl-C. */
  answers(keys: string): void {
    this.#child.stdin!.write(keys);
  }

  /** The program has ended, with this exit code. */
  async ends(exit: number): Promise<void> {
    if (!this.#ended) await once(this.#child, 'close', { signal: AbortSignal.timeout(PATIENCE_MS) });
    const fresh = plain(this.#text).slice(this.#told);
    this.#told += fresh.length;
    this.#story.shown(this.#machine, fresh);
    assert.is(this.#child.exitCode, exit, `exit of ${this.#command}\n${plain(this.#text)}`);
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    const gone = once(this.#child, 'close');
    this.#child.stdin!.write('\x03');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 15_000);
    await gone;
    clearTimeout(timer);
  }
}

function check(text: string, { sees = [], not = [] }: Expected, told: string): void {
  const seen = plain(text);
  for (const wanted of sees) {
    const there = typeof wanted === 'string' ? seen.includes(wanted) : wanted.test(seen);
    assert.ok(there, `expected ${wanted} in what is seen:\n${told}`);
  }
  for (const unwanted of not) assert.not.ok(unwanted.test(seen), `${unwanted} is seen:\n${told}`);
}

/** Text as it stands on the screen: without colours, and with what a carriage return writes over gone. */
function plain(text: string): string {
  const bare = text.replace(/\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]/g, '').replaceAll('\r\n', '\n');
  return bare.replace(/[^\n]*\r(?=[^\n])/g, '');
}
