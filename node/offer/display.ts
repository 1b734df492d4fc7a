import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import {
  cookieFor,
  extensionOf,
  idleOf,
  localDisplay,
  queryExtension,
  queryInfo,
  readReply,
  readSetup,
  SCREEN_SAVER,
  setupRequest,
} from './x11.ts';

/** What an X server says of its user. */
export interface DisplayIdle {
  /** Since the last input, in ms. */
  idleMs: number;
  /**
   * It sees every keyboard and mouse of the seat: an X11 desktop's own server. One that serves a Wayland desktop sees what is
   * done in its own windows alone, one of a remote desktop what comes from afar.
   */
  all: boolean;
}

/** What was said longer ago than this counts no more. */
const STALE_MS = 10_000;
/** Between two attempts at a server that is not there, and at one that refuses: each of those it may log. */
const AGAIN_MS = 5_000;
const REFUSED_AGAIN_MS = 60_000;
/** Of a server that sends more than it was asked for. */
const BYTES_MAX = 1024 * 1024;
const AUTHORITY_BYTES_MAX = 64 * 1024;

/**
 * Asks the X server of `DISPLAY`, where that is one of this machine, how long its user has touched nothing, over one connection
 * that is opened with the first `look`. The cookie is that of `XAUTHORITY`, or of the home folder.
 */
export class DisplaySignal {
  readonly #number: string | null;
  readonly #env: NodeJS.ProcessEnv;
  #socket: Socket | null = null;
  #server: { root: number; opcode: number } | null = null;
  #root: number | null = null;
  #asked = false;
  #notBefore = Number.NEGATIVE_INFINITY;
  #said: { at: number; idleMs: number } | null = null;
  #heard: (() => void)[] = [];
  #closed = false;
  /** Why the server there cannot be asked, in its own words; null: it can, or there is none. */
  refusal: string | null = null;

  constructor(env: NodeJS.ProcessEnv = process.env) {
    this.#env = env;
    this.#number = localDisplay(env.DISPLAY);
  }

  /** As last heard; null: there is no display to ask, or it has not answered yet. `now`: monotonic ms. */
  look(now: number = performance.now()): DisplayIdle | null {
    this.#ask(now);
    if (this.#said === null || now - this.#said.at >= STALE_MS) return null;
    const idleMs = this.#said.idleMs + Math.max(0, now - this.#said.at);
    return { idleMs, all: this.#env.XDG_SESSION_TYPE === 'x11' && this.#number?.length === 1 };
  }

  /** Resolves when the server has answered what it was asked last, or cannot be asked. */
  ask(): Promise<void> {
    return new Promise((resolve) => {
      this.#heard.push(resolve);
      this.#ask(performance.now());
      if (this.#socket === null) this.#done();
    });
  }

  close(): void {
    this.#closed = true;
    this.#end(0);
  }

  #ask(now: number): void {
    if (this.#number === null || this.#closed) return;
    if (this.#socket === null) {
      if (now >= this.#notBefore) this.#open(this.#number);
      return;
    }
    if (this.#server === null || this.#asked) return;
    this.#asked = true;
    this.#socket.write(queryInfo(this.#server.opcode, this.#server.root));
  }

  #open(number: string): void {
    const socket = connect(`/tmp/.X11-unix/X${number}`);
    this.#socket = socket;
    let bytes: Buffer = Buffer.alloc(0);
    socket.unref();
    socket.on('connect', () => socket.write(setupRequest(this.#cookie(number))));
    socket.on('data', (more: Buffer) => {
      if (this.#socket !== socket) return;
      bytes = Buffer.concat([bytes, more]);
      if (bytes.length > BYTES_MAX) this.#end(REFUSED_AGAIN_MS);
      else bytes = this.#take(bytes);
    });
    const over = (): void => {
      if (this.#socket === socket) this.#end(AGAIN_MS);
    };
    socket.on('error', over);
    socket.on('close', over);
  }

  /** What is left of the bytes when all that is whole in them is read. */
  #take(bytes: Buffer): Buffer {
    let rest = bytes;
    while (this.#socket !== null) {
      if (this.#root === null) {
        const setup = readSetup(rest);
        if (setup === null) break;
        rest = rest.subarray(setup.bytes);
        if (setup.root === null) {
          this.#refuse(setup.refusal ?? 'it does not say why');
          break;
        }
        this.#root = setup.root;
        this.#socket.write(queryExtension(SCREEN_SAVER));
        continue;
      }
      const found = readReply(rest);
      if (found === null) break;
      rest = rest.subarray(found.bytes);
      if (found.reply !== null) this.#onReply(found.reply, this.#root);
    }
    return rest;
  }

  #onReply(reply: Buffer | 'error', root: number): void {
    if (reply === 'error') {
      this.#refuse('it answered with an error');
    } else if (this.#server === null) {
      const opcode = extensionOf(reply);
      if (opcode === null) {
        this.#refuse(`it has no ${SCREEN_SAVER}`);
      } else {
        this.refusal = null;
        this.#server = { root, opcode };
        this.#ask(performance.now());
      }
    } else {
      this.#asked = false;
      this.#said = { at: performance.now(), idleMs: idleOf(reply) };
      this.#done();
    }
  }

  #refuse(why: string): void {
    // What a server says of itself is shown to its owner on one line.
    this.refusal = why.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200);
    this.#end(REFUSED_AGAIN_MS);
  }

  #end(againMs: number): void {
    this.#socket?.destroy();
    this.#socket = null;
    this.#server = null;
    this.#root = null;
    this.#asked = false;
    this.#notBefore = performance.now() + againMs;
    this.#done();
  }

  #done(): void {
    for (const resolve of this.#heard.splice(0)) resolve();
  }

  #cookie(number: string): Buffer | null {
    try {
      const file = readBounded(this.#env.XAUTHORITY ?? join(this.#env.HOME ?? homedir(), '.Xauthority'));
      return file === null ? null : cookieFor(file, hostname(), number);
    } catch {
      // Not for this user: the server may know it by other means.
      return null;
    }
  }
}

/** Null: it is no file, such as a pipe that nobody writes to, or has more than any such file. */
function readBounded(path: string): Buffer | null {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(file);
    return found.isFile() && found.size <= AUTHORITY_BYTES_MAX ? readFileSync(file) : null;
  } finally {
    closeSync(file);
  }
}
