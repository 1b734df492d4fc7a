import { readFileSync } from 'node:fs';
import { cell, wrapped } from '../../node/cli/render.ts';
import type { Session } from '../../node/cli/session.ts';
import type { Terminal } from '../../node/cli/terminal.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { Decide, Doorkeeper, Gone, JoinRequest } from './options.ts';
import { isKeyboard, type Keyboard } from './secret.ts';

/** Characters of an answer; what is typed past them is not taken. */
const answerMax = 8;
/** Keys that the terminal turns into signals, where it is not read key by key. */
const SIGNAL_OF: Record<string, NodeJS.Signals> = { '\x03': 'SIGINT', '\x1a': 'SIGTSTP', '\x1c': 'SIGQUIT' };
const KEYS = 'y lets it in, n sends it away, Enter leaves it for later';

const WITHDRAWN: Record<Gone, string> = {
  approved: 'is in: approved elsewhere',
  rejected: 'was sent away elsewhere',
  expired: 'waits no longer: nobody answered in time; it can ask again',
  left: 'waits no longer: it gave up, or its connection broke',
};

interface Question {
  join: JoinRequest;
  decide: Decide;
  /** `later`: a person has seen it and pressed Enter. */
  state: 'waiting' | 'asked' | 'deciding' | 'later';
}

/** What the doorkeeper needs of the process; tests give their own. */
export interface Surroundings {
  /** Whether this process has the keyboard: one in the background that read it would be stopped. */
  inForeground(): boolean;
  raise(signal: NodeJS.Signals): void;
  /** Calls back when the process goes on after it was stopped; answers what ends that. */
  onContinue(listener: () => void): () => void;
}

/** Where a person can be asked: on a terminal in both directions, and not by a program that reads JSON. */
export const canAsk = ({ terminal, voice }: Pick<Session, 'terminal' | 'voice'>): boolean =>
  !voice.json && isKeyboard(terminal.stdin) && terminal.stderr.isTTY === true;

/**
 * Asks at the founder's own terminal about machines that want to join, one after the other: y and Enter lets one in, n
 * and Enter sends it away, Enter alone leaves it waiting. A question whose request ends elsewhere is taken back in
 * words. What is typed while nothing is asked counts for nothing.
 */
export class TerminalDoorkeeper implements Doorkeeper {
  readonly user: string;
  readonly #typed: string;
  readonly #terminal: Terminal;
  readonly #keyboard: Keyboard;
  readonly #around: Surroundings;
  /** By code, in the order in which they came. */
  readonly #questions = new Map<string, Question>();
  readonly #decoder = new TextDecoder();
  /** What stands after the question. */
  #answer = '';
  /** Rows above the cursor that the question takes; null: none is on the screen. */
  #rows: number | null = null;
  #state: 'closed' | 'open' | 'ended' = 'closed';
  #explained = false;
  #forget: () => void = () => {};

  /** `typed`: the program as a person types it here. `user`: who sits here. */
  constructor(
    terminal: Terminal,
    options: { typed: string; user: string },
    surroundings: Surroundings = process_,
  ) {
    this.user = options.user;
    this.#typed = options.typed;
    this.#terminal = terminal;
    this.#keyboard = terminal.stdin as Keyboard;
    this.#around = surroundings;
  }

  /** From here on questions are put: what the start had to say is on the screen. */
  open(): void {
    if (this.#state !== 'closed') return;
    this.#state = 'open';
    this.#keyboard.on('data', this.#onKeys);
    for (const event of ['end', 'error']) this.#keyboard.on(event, this.#onHangUp);
    this.#forget = this.#around.onContinue(() => this.#onContinue());
    if (!this.#around.inForeground()) this.#keyboard.pause();
    this.#next();
  }

  close(): void {
    if (this.#state === 'ended') return;
    this.#erase();
    if (this.#state === 'open') {
      this.#raw(false);
      this.#keyboard.off('data', this.#onKeys);
      this.#keyboard.pause();
      this.#forget();
    }
    this.#state = 'ended';
  }

  asks(join: JoinRequest, decide: Decide): boolean {
    if (this.#state === 'ended' || !this.#around.inForeground()) return false;
    if (this.#state === 'open') this.#keyboard.resume();
    this.#questions.set(join.code, { join, decide, state: 'waiting' });
    this.#next();
    return true;
  }

  gone(code: string, why: Gone): boolean {
    const question = this.#questions.get(code);
    if (question === undefined || this.#state === 'ended') return false;
    this.#questions.delete(code);
    // Its own answer ended it.
    if (question.state === 'deciding') return true;
    if (question.state === 'asked') this.#withdraw();
    this.#say(`${cell(question.join.name)} ${WITHDRAWN[why]}`);
    this.#next();
    return true;
  }

  around(write: () => void): void {
    if (this.#state !== 'ended') this.#erase();
    write();
    if (this.#state !== 'ended') this.#draw();
  }

  get #asked(): Question | null {
    return [...this.#questions.values()].find(({ state }) => state === 'asked') ?? null;
  }

  #next(): void {
    const busy = [...this.#questions.values()].some(({ state }) => state === 'asked' || state === 'deciding');
    if (this.#state !== 'open' || busy) return;
    const next = [...this.#questions.values()].find(({ state }) => state === 'waiting');
    if (next === undefined) return;
    if (!this.#explained) this.#say(`Is the code on its screen too? ${KEYS}.`);
    this.#explained = true;
    next.state = 'asked';
    this.#answer = '';
    this.#raw(true);
    this.#draw();
  }

  /** The question goes from the screen, and is not asked now. */
  #withdraw(): void {
    this.#erase();
    this.#raw(false);
  }

  // ── the screen ────────────────────────────────────────────────────────────────────────────────────────────────
  get #columns(): number {
    return this.#terminal.stderr.columns || 80;
  }

  get #canErase(): boolean {
    return this.#terminal.env.TERM !== 'dumb';
  }

  #draw(): void {
    const asked = this.#asked;
    if (asked === null || this.#rows !== null) return;
    const { name, code } = asked.join;
    // The last column stays free, so that no terminal is left guessing where the cursor is.
    const lines = wrapped(
      `${cell(name)} wants to join, code ${cell(code)} [y/N]`,
      this.#columns - 2 - answerMax,
    );
    this.#terminal.stderr.write(`${lines.join('\n')} ${this.#answer}`);
    this.#rows = lines.length - 1;
  }

  #erase(): void {
    if (this.#rows === null) return;
    const up = this.#rows === 0 ? '' : `\x1b[${this.#rows}A`;
    this.#terminal.stderr.write(this.#canErase ? `\r${up}\x1b[J` : '\n');
    this.#rows = null;
  }

  #say(text: string): void {
    this.around(() => this.#terminal.stderr.write(`${wrapped(text, this.#columns - 1).join('\n')}\n`));
  }

  // ── the keyboard ──────────────────────────────────────────────────────────────────────────────────────────────
  #raw(on: boolean): void {
    try {
      this.#keyboard.setRawMode(on);
    } catch {
      // The terminal is gone; its end is told by the stream.
    }
  }

  readonly #onHangUp = (): void => this.close();

  readonly #onKeys = (bytes: Uint8Array): void => {
    const keys = this.#decoder.decode(bytes, { stream: true });
    // An arrow or function key says nothing here.
    if (this.#asked === null || keys.startsWith('\x1b')) return;
    for (const key of keys) {
      const signal = SIGNAL_OF[key];
      if (signal !== undefined) {
        this.#raise(signal);
        return;
      }
      // What else came with it was typed before the next question could be read.
      if (key === '\r' || key === '\n') return void this.#answered(this.#answer.trim().toLowerCase());
      if (key === '\x04') return void this.#answered('');
      this.#type(key);
    }
  };

  #type(key: string): void {
    if (/^[ -~]$/.test(key)) {
      if (this.#answer.length >= answerMax) return;
      this.#answer += key;
      this.#terminal.stderr.write(key);
      return;
    }
    if (key === '\x7f' || key === '\b') this.#answer = this.#answer.slice(0, -1);
    else if (key === '\x15') this.#answer = '';
    this.#erase();
    this.#draw();
  }

  #raise(signal: NodeJS.Signals): void {
    if (signal === 'SIGTSTP') this.#withdraw();
    else this.close();
    this.#around.raise(signal);
  }

  /** Stopped and gone on: in the foreground the question comes back, in the background nobody can answer it. */
  #onContinue(): void {
    if (this.#state !== 'open') return;
    if (!this.#around.inForeground()) {
      this.#keyboard.pause();
      for (const question of this.#questions.values())
        if (question.state !== 'deciding') this.#leave(question);
      return;
    }
    this.#keyboard.resume();
    if (this.#asked === null) return;
    this.#raw(true);
    this.#draw();
  }

  async #answered(word: string): Promise<void> {
    const question = this.#asked;
    if (question === null) return;
    // Question and answer stay on the screen.
    this.#terminal.stderr.write('\n');
    this.#rows = null;
    this.#answer = '';
    if (!['y', 'yes', 'n', 'no', ''].includes(word)) return this.#say(KEYS);
    this.#raw(false);
    if (word === '') {
      this.#leave(question);
    } else {
      question.state = 'deciding';
      const said = await this.#decided(question, word.startsWith('y'));
      if (this.#state === 'ended') return;
      this.#say(said);
    }
    this.#next();
  }

  /** It is not asked about any more, and waits until somebody types a command or its time is up. */
  #leave(question: Question): void {
    if (question.state === 'later') return;
    question.state = 'later';
    const { name, code } = question.join;
    this.#say(`${cell(name)} goes on waiting: ${this.#typed} node approve ${cell(code)}`);
  }

  async #decided({ join: { name, code }, decide }: Question, yes: boolean): Promise<string> {
    try {
      if (!yes) {
        await decide.reject();
        return `${cell(name)} is sent away`;
      }
      const node = await decide.approve();
      return `${cell(node.name)} is in (${cell(node.id)})`;
    } catch (thrown) {
      const question = this.#questions.get(code);
      if (question !== undefined) question.state = 'later';
      const { message, hint } = asSuperfleetError(thrown);
      return `error: ${cell(message)}${hint === null ? '' : `; try: ${cell(hint)}`}`;
    }
  }
}

const process_: Surroundings = {
  inForeground: () => {
    try {
      const fields = readFileSync('/proc/self/stat', 'latin1').split(') ').at(-1)!.split(' ');
      return fields[2] === fields[5];
    } catch {
      return true; // No such file on this system.
    }
  },
  raise: (signal) => void process.kill(process.pid, signal),
  onContinue: (listener) => {
    process.on('SIGCONT', listener);
    return () => process.off('SIGCONT', listener);
  },
};
