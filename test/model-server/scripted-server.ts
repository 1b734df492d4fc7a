import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as it came, and how it ended. */
export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  /** Parsed JSON; null: none. */
  body: unknown;
  /** `answered`: to its end; `cut`: by the script; `left`: the client closed the connection before. */
  ended: Promise<'answered' | 'cut' | 'left'>;
}

/** What an answer is written to. */
export class Reply {
  readonly response: ServerResponse;
  /** Resolves when the connection is closed, by whomever. */
  readonly closed: Promise<void>;
  wasCut = false;

  constructor(response: ServerResponse) {
    this.response = response;
    this.closed = once(response, 'close').then(() => undefined);
  }

  json(status: number, value: unknown): void {
    this.response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
    this.response.end(JSON.stringify(value));
  }

  text(status: number, text: string): void {
    this.response.writeHead(status, { 'content-type': 'text/plain' });
    this.response.end(text);
  }

  /** After what was written has gone out. */
  async cut(): Promise<void> {
    this.wasCut = true;
    if (!this.response.headersSent) this.response.socket?.destroy();
    else await new Promise<void>((resolve) => this.response.write('', () => resolve()));
    this.response.destroy();
  }
}

/** HTTP on 127.0.0.1 whose answers are scripted: the ground of the scripted servers of models. */
export abstract class ScriptedServer {
  readonly asked: Asked[] = [];
  readonly #events = new EventEmitter();
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => void this.#take(request, response));
  }

  /** Answers one request; what it leaves open hangs. */
  protected abstract answer(asked: Asked, reply: Reply): Promise<void> | void;

  async listen(port = 0): Promise<this> {
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Requests for a path so far. */
  to(path: string): Asked[] {
    return this.asked.filter((asked) => asked.path === path);
  }

  /** The first request for a path, now or when it comes. */
  async request(path: string): Promise<Asked> {
    for (;;) {
      const [first] = this.to(path);
      if (first !== undefined) return first;
      await once(this.#events, 'asked');
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const reply = new Reply(response);
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString('utf8');
    const asked: Asked = {
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: text === '' ? null : JSON.parse(text),
      ended: reply.closed.then(() =>
        reply.wasCut ? 'cut' : response.writableFinished ? 'answered' : 'left',
      ),
    };
    this.asked.push(asked);
    this.#events.emit('asked');
    await this.answer(asked, reply);
  }
}
