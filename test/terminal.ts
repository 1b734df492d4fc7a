import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Nothing a test waits for takes longer. */
const PATIENCE_MS = 60_000;

export const has = (program: string): boolean => {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

export interface ScreenOptions {
  cwd?: string;
  env?: Record<string, string>;
  columns?: number;
  rows?: number;
  /** Lines that the terminal broke, because they were too long for it, are looked at as one. @default true */
  joined?: boolean;
  /** @default a bash that shows the exit code of the last command as its prompt: `[0]> ` */
  shell?: string;
}

/** A shell whose prompt is `$ `. */
export const SH = `env PS1='$ ' ENV= sh`;
const BASH = `env PS1='[$?]> ' bash --norc --noprofile -i`;

/**
 * A real terminal, as tmux emulates it, with a shell in it: what is typed goes through its line discipline, and what is
 * looked at is what a person would see. Tests wait for what it shows, woken by each byte that is written to it.
 */
export class Screen {
  /** All bytes ever written to the terminal. */
  raw = '';
  readonly #folder = mkdtempSync(join(tmpdir(), 'sf-tmux-'));
  readonly #tmux: ChildProcess;
  readonly #answers: ((lines: string[]) => void)[] = [];
  readonly #waiting = new Set<() => void>();

  readonly #capture: string;

  private constructor({
    cwd,
    env = {},
    columns = 80,
    rows = 24,
    joined = true,
    shell = BASH,
  }: ScreenOptions) {
    this.#capture = `capture-pane -p ${joined ? '-J ' : ''}-S -2000`;
    const socket = join(this.#folder, 'socket');
    const size = ['-x', String(columns), '-y', String(rows)];
    // Said to the shell itself: tmux has a TERM of its own for what runs in it.
    const words = Object.entries(env).map(([name, value]) => quoted(`${name}=${value}`));
    const started = ['env', ...words, shell].join(' ');
    this.#tmux = spawn(
      'tmux',
      ['-S', socket, '-u', '-f', '/dev/null', '-C', 'new-session', ...size, started],
      {
        cwd: cwd ?? process.cwd(),
        // What the test runner says about colours is not this terminal's.
        env: without(process.env, ['NO_COLOR', 'FORCE_COLOR', 'TMUX', 'CI', 'MESH_HOME']),
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    this.#tmux.stdin!.on('error', () => {});
    let block: string[] | null = null;
    createInterface({ input: this.#tmux.stdout! }).on('line', (line) => {
      if (block === null && line.startsWith('%begin')) block = [];
      else if (block !== null && /^%(end|error) \d+ \d+/.test(line)) {
        this.#answers.shift()?.(block);
        block = null;
      } else if (block !== null) block.push(line);
      else if (line.startsWith('%output')) {
        this.raw += line
          .replace(/^%output \S+ /, '')
          .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
        for (const wake of this.#waiting) wake();
      }
    });
  }

  static async open(options: ScreenOptions = {}): Promise<Screen> {
    const screen = new Screen(options);
    await new Promise<void>((resolve) => screen.#answers.push(() => resolve()));
    return screen;
  }

  #do(command: string): Promise<string[]> {
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      this.#tmux.stdin!.write(`${command}\n`);
    });
  }

  /** Types these characters. */
  async type(text: string): Promise<void> {
    await this.#do(`send-keys -l ${quoted(text)}`);
  }

  /** Presses keys as tmux names them: `Enter`, `Tab`, `C-c`. */
  async press(...keys: string[]): Promise<void> {
    await this.#do(`send-keys ${keys.join(' ')}`);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#do(`resize-window -x ${columns} -y ${rows}`);
  }

  /** Types a line and Enter. */
  async line(text: string): Promise<void> {
    await this.type(text);
    await this.press('Enter');
  }

  /** The lines a person sees, without empty ones at the end; on request with the controls for their colours. */
  async text(colours = false): Promise<string> {
    return (await this.#do(`${this.#capture}${colours ? ' -e' : ''}`))
      .map((line) => line.trimEnd())
      .join('\n')
      .trimEnd();
  }

  /** Whether the cursor is shown. */
  async cursor(): Promise<boolean> {
    return (await this.#do(`display-message -p '#{cursor_flag}'`))[0] === '1';
  }

  /** Waits until `look` finds what it wants on the screen. */
  async until<T>(look: (text: string) => T | undefined | null | false, what: string): Promise<T> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const written = new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, 2_000);
        this.#waiting.add(wake);
      });
      const text = await this.text();
      const found = look(text);
      if (found !== undefined && found !== null && found !== false) return found;
      if (Date.now() > deadline) throw new Error(`expected ${what}; the screen shows:\n${text}`);
      await written;
    }
  }

  /** Waits until the text is on the screen. */
  shows(pattern: RegExp): Promise<RegExpExecArray> {
    return this.until((text) => pattern.exec(text), `${pattern} on the screen`);
  }

  /** As `shows`; answers all that is on the screen then. */
  sees(pattern: RegExp): Promise<string> {
    return this.until((text) => (pattern.test(text) ? text : null), `${pattern} on the screen`);
  }

  /** The exit code the shell's prompt shows, once the prompt is the last line. */
  async prompt(): Promise<number> {
    return Number((await this.shows(/\[(\d+)\]>$/))[1]);
  }

  /** Clears the screen, types a command and returns at once. */
  async begin(command: string): Promise<void> {
    await this.prompt();
    await this.#do('send-keys -R');
    await this.#do('clear-history');
    await this.press('Enter');
    await this.shows(/^(\s*\[\d+\]>)+$/);
    await this.type(command);
    // Echoed: from here on the last line is no bare prompt until the command has ended.
    await this.shows(/\]> \S.*$/);
    await this.press('Enter');
  }

  /** The line discipline's settings of the terminal, as a shell's own commands see them. */
  async settings(): Promise<string> {
    const pane = (await this.#do(`display-message -p '#{pane_tty}'`))[0]!;
    const said = execFileSync('stty', ['-a', '-F', pane], { encoding: 'utf8' });
    // Its size is not the command's affair.
    return said.slice(said.indexOf('\n') + 1);
  }

  async close(): Promise<void> {
    if (this.#tmux.exitCode === null) {
      const gone = once(this.#tmux, 'exit');
      this.#tmux.stdin!.write('kill-server\n');
      await gone;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const without = (env: NodeJS.ProcessEnv, names: string[]): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));
