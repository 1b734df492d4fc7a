import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Nothing a test waits for takes longer. */
const PATIENCE_MS = 10_000;
const LOOK_EVERY_MS = 30;

const call = promisify(execFile);
const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** A real terminal of so many columns and rows, by tmux: what is typed goes to it, and what a person would see is read. */
export class Screen {
  readonly #folder = mkdtempSync(join(tmpdir(), 'sf-screen-'));

  /** Starts a shell in it, with these variables besides the terminal's own. */
  static async open(
    options: { columns?: number; rows?: number; env?: Record<string, string>; cwd?: string } = {},
  ): Promise<Screen> {
    const { columns = 80, rows = 40, env = {}, cwd = '/' } = options;
    const screen = new Screen();
    const size = ['-x', String(columns), '-y', String(rows)];
    const words = [
      'env',
      ...Object.entries({ PS1: '$ ', ENV: '', ...env }).map(([key, value]) => `${key}=${value}`),
      'sh',
    ];
    await screen.#tmux(
      '-f',
      '/dev/null',
      'new-session',
      '-d',
      ...size,
      '-c',
      cwd,
      words.map(quoted).join(' '),
    );
    await screen.until(/^\$/m);
    return screen;
  }

  async #tmux(...args: string[]): Promise<string> {
    const { TMUX: _, ...env } = process.env;
    return (await call('tmux', ['-S', join(this.#folder, 'socket'), ...args], { env })).stdout;
  }

  /** Types a line and Enter. */
  async type(line: string): Promise<void> {
    await this.#tmux('send-keys', '-l', line);
    await this.keys('Enter');
  }

  /** Keys by tmux's names: `y`, `Enter`, `C-c`, `BSpace`. */
  async keys(...keys: string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys);
  }

  /** What stands on the screen and above it, lines that were wrapped by the terminal as they are; colours on request. */
  async text(colours = false): Promise<string> {
    return (await this.#tmux('capture-pane', '-p', '-S', '-', ...(colours ? ['-e'] : []))).trimEnd();
  }

  /** The text, once it matches. A terminal tells nobody that it has changed: it is looked at again and again. */
  async until(pattern: RegExp): Promise<string> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const text = await this.text();
      if (pattern.test(text)) return text;
      if (performance.now() > deadline) throw new Error(`expected ${pattern} on the screen:\n${text}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  async resize(columns: number, rows = 40): Promise<void> {
    await this.#tmux('resize-window', '-x', String(columns), '-y', String(rows));
  }

  async close(): Promise<void> {
    await this.#tmux('kill-server').catch(() => {});
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
