import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { pipe } from 'it-pipe';
import { EXIT, SuperfleetError } from '../../protocol/errors.ts';
import { escapeControls, escapeLine } from '../../protocol/escape.ts';
import { coloursOn } from './colours.ts';
import { Meter, redraws, StatusLine } from './progress.ts';

/** Where a command reads and writes, and what it knows of its surroundings; tests give their own. */
export interface Terminal {
  stdin: Readable;
  stdout: Writable & { isTTY?: boolean; columns?: number };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  env: Record<string, string | undefined>;
  cwd: string;
  /** Aborted by Ctrl-C, once a command has asked for it. */
  signal: AbortSignal;
}

/**
 * The process's own streams. Ctrl-C aborts the signal once a command has asked for it; until then, and the second time,
 * it ends the process.
 */
export function processTerminal(): Terminal {
  const abort = new AbortController();
  let listening = false;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (thrown: NodeJS.ErrnoException) => {
      // The reader (head, less) has seen enough. A daemon goes on; for any other command there is nobody left to tell.
      if (thrown.code !== 'EPIPE') throw thrown;
      if (!daemon) process.exit(EXIT.ok);
    });
  }
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    get cwd() {
      return currentFolder();
    },
    get signal() {
      if (!listening) {
        listening = true;
        const interrupted = new SuperfleetError('SF_INTERRUPTED', 'interrupted');
        for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort(interrupted));
      }
      return abort.signal;
    },
  };
}
let daemon = false;
/** From here on a reader that goes away does not end this process; it ends itself when its command has. */
export function becomeDaemon(): void {
  daemon = true;
}
export const isDaemon = (): boolean => daemon;

function currentFolder(): string {
  try {
    return process.cwd();
  } catch (cause) {
    throw new SuperfleetError('SF_FOLDER', 'the current folder is gone', {
      hint: 'cd to one that exists',
      cause,
    });
  }
}

/** What commands say and how: results on stdout, the rest on stderr, JSON where asked for. */
export class Voice {
  readonly terminal: Terminal;
  readonly json: boolean;
  constructor(terminal: Terminal, json: boolean) {
    this.terminal = terminal;
    this.json = json;
  }

  /** A result: one line or more of text. */
  out(text: string): void {
    this.#wipe();
    this.terminal.stdout.write(text.endsWith('\n') || text === '' ? text : `${text}\n`);
  }

  /** One JSON document a line. */
  document(value: unknown): void {
    this.out(JSON.stringify(value));
  }

  /** Bytes of a result, waiting for a slow reader. */
  async bytes(bytes: Uint8Array | string): Promise<void> {
    this.#wipe();
    if (!this.terminal.stdout.write(bytes)) await once(this.terminal.stdout, 'drain');
  }

  /** A note for a person. */
  note(text: string): void {
    this.#wipe();
    this.terminal.stderr.write(`${text}\n`);
  }

  /** A stream that is a result, on stdout: its controls made visible on a terminal, else the bytes as they came. */
  async output(source: AsyncIterable<Uint8Array>): Promise<void> {
    await pipe(source, this.terminal.stdout.isTTY === true ? escapeControls : untouched, async (pieces) => {
      for await (const piece of pieces) await this.bytes(piece);
    });
  }

  /** Bytes for a person on stderr, waiting for a slow reader. */
  async aside(text: string | Uint8Array): Promise<void> {
    this.#wipe();
    if (!this.terminal.stderr.write(text)) await once(this.terminal.stderr, 'drain');
  }

  /**
   * Where things are, until `clear`: on a terminal one line at the bottom, drawn anew each second; elsewhere a line each
   * time it is told; nothing under `--json`.
   */
  progress(words: string | (() => string)): void {
    if (this.json) return;
    const { stderr } = this.terminal;
    const say = typeof words === 'string' ? () => words : words;
    if (this.redraws) StatusLine.of(stderr).show(say);
    else stderr.write(`${say()}\n`);
  }

  /** A bar for what takes more than a second, on a terminal; null where none is shown. Its user ends it. */
  meter(what: string): Meter | null {
    return this.json || !this.redraws ? null : new Meter(this.terminal.stderr, what);
  }

  /** Takes the progress line away for good. */
  clear(): void {
    if (this.redraws) StatusLine.of(this.terminal.stderr).end();
  }

  /** Makes room for something else; the progress line comes back below. */
  #wipe(): void {
    if (this.redraws) StatusLine.of(this.terminal.stderr).wipe();
  }

  /** Whether progress is one line that is drawn anew. */
  get redraws(): boolean {
    return redraws(this.terminal.stderr, this.terminal.env);
  }

  /** An error as the contract has it: an object under --json, sentences for a person otherwise. */
  error(error: SuperfleetError, typed: (hint: string) => string = (hint) => hint): void {
    this.clear();
    const { stderr } = this.terminal;
    const hint = error.hint === null ? null : typed(error.hint);
    if (this.json) return void stderr.write(`${JSON.stringify({ error: { ...error.toJSON(), hint } })}\n`);
    const lines = [`error: ${error.message} (${error.code})`];
    if (error.expected !== null) lines.push(`  expected: ${error.expected}`);
    if (error.got !== null) lines.push(`  got: ${error.got}`);
    if (hint !== null) lines.push(`  try: ${hint}`);
    stderr.write(`${lines.map(escapeLine).join('\n')}\n`);
  }

  get colours(): boolean {
    return coloursOn(this.terminal.stdout, this.terminal.env);
  }
}

/** The stage of `pipe` that changes nothing. */
export async function* untouched(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* source;
}
