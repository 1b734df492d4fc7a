import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { reachablePath } from '../api/socket.ts';
import { type AllowedHost, admitHost, type Refusal, shown, splitAuthority, statusOf } from './admission.ts';
import type { Resolve } from './dial.ts';
import { passedOn } from './hop-by-hop.ts';
import { plainHost } from './host-pattern.ts';
import { reach } from './reach.ts';

/** What came of one request to a host. */
export type ProxyEvent =
  | { kind: 'closed'; host: string; port: number; sentBytes: number; receivedBytes: number }
  | { kind: 'refused'; host: string; port: number | null; refusal: Refusal };

export interface ProxyOptions {
  /** A folder of this user alone, where the socket is made. */
  folder: string;
  allowed: readonly AllowedHost[];
  onEvent(event: ProxyEvent): void;
  /** @default how this machine resolves names */
  resolve?: Resolve;
  /** Requests and tunnels at one time. @default 64: npm opens 15, cargo and go fewer */
  connectionsMax?: number;
  /** Bytes in both directions of all connections; past it they are cut. @default 8 GiB */
  bytesMax?: number;
  /** A connection on which nothing moves is cut after this. @default 60 s */
  idleMs?: number;
  /** For resolving a name, and for each address tried. @default 10 s */
  connectMs?: number;
}

export interface HttpProxy {
  /** The Unix socket, mode 0600. */
  readonly socket: string;
  /** Cuts every connection; resolves when nothing of it is left, the socket's file included. */
  close(): Promise<void>;
}

const GiB = 1024 ** 3;
const headerBytesMax = 16 * 1024;
const headersMs = 10_000;
/** Sockets beside those at work: each may wait for its first request, or between two. */
const idleSocketsMax = 64;
/**
 * An HTTP proxy on a Unix socket: `CONNECT` tunnels and plain `http://` requests, to the hosts, ports and addresses that the
 * owner allows and to nothing else. It resolves names itself and connects to the very address it has looked at. What a
 * tunnel carries is not looked into.
 */
export async function startProxy(options: ProxyOptions): Promise<HttpProxy> {
  const path = join(options.folder, 'proxy.sock');
  const reachable = reachablePath(path);
  const proxy = new RunningProxy(options);
  try {
    await new Promise<void>((resolve, reject) => {
      proxy.server.once('error', reject).listen(reachable.path, resolve);
    });
    chmodSync(path, 0o600);
  } catch (error) {
    reachable.release();
    throw error;
  }
  return {
    socket: path,
    close: async () => {
      await proxy.close();
      reachable.release();
      rmSync(path, { force: true });
    },
  };
}

type Way = { socket: Socket; host: string; port: number };

class RunningProxy {
  readonly server: Server;
  readonly #options: ProxyOptions;
  readonly #stop = new AbortController();
  readonly #sockets = new Set<Duplex>();
  readonly #idleMs: number;
  #open = 0;
  #bytesLeft: number;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#idleMs = options.idleMs ?? 60_000;
    this.#bytesLeft = options.bytesMax ?? 8 * GiB;
    this.server = createServer({
      maxHeaderSize: headerBytesMax,
      headersTimeout: headersMs,
      requestTimeout: 0,
    });
    this.server.maxConnections = this.#connectionsMax + idleSocketsMax;
    this.server.setTimeout(this.#idleMs, (socket) => socket.destroy());
    this.server.on('connection', (socket) => this.#keep(socket));
    this.server.on('connect', (message, socket, head) => {
      this.#tunnel(message, socket, head).catch(() => socket.destroy());
    });
    this.server.on('request', (message, response) => {
      this.#forward(message, response).catch(() => message.socket.destroy());
    });
  }

  get #connectionsMax(): number {
    return this.#options.connectionsMax ?? 64;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #keep(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
  }

  async #tunnel(message: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const target = splitAuthority(message.url ?? '');
    const way = await this.#counted(() => this.#way(target, message.url ?? ''));
    if ('refusal' in way) {
      const body = `${way.refusal.sentence}\n`;
      client.end(
        `HTTP/1.1 ${statusOf(way.refusal)}\r\nContent-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
      return;
    }
    const { socket } = way;
    this.#meter(way, client, client);
    if (client.destroyed) return void socket.destroy();
    if (client instanceof Socket) client.setTimeout(this.#idleMs, () => client.destroy());
    socket.once('close', (broken) => (broken ? client.destroy() : client.end()));
    client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    if (head.length > 0) socket.write(head);
    client.pipe(socket);
    socket.pipe(client);
  }

  async #forward(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = URL.canParse(message.url ?? '') ? new URL(message.url ?? '') : null;
    const target =
      url?.protocol === 'http:' ? { host: plainHost(url.hostname), port: Number(url.port || 80) } : null;
    const way = await this.#counted(() => this.#way(target, message.url ?? ''));
    if ('refusal' in way || url === null) {
      const refusal = 'refusal' in way ? way.refusal : null;
      const status = refusal === null ? 400 : Number.parseInt(statusOf(refusal), 10);
      response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' });
      response.end(`${refusal?.sentence}\n`);
      return;
    }
    const { socket } = way;
    this.#meter(way, message.socket, message);
    if (message.socket.destroyed) return void socket.destroy();
    const onward = request({
      createConnection: () => socket,
      method: message.method ?? 'GET',
      path: `${url.pathname}${url.search}`,
      // The host that was admitted, whatever the client's header says.
      headers: { ...passedOn(message.headers), host: url.host, connection: 'close' },
    });
    const cut = (): void => {
      socket.destroy();
      if (response.headersSent) message.socket.destroy();
      else response.writeHead(502, { connection: 'close' }).end();
    };
    onward.on('error', cut);
    onward.on('response', (answer) => {
      answer.on('error', cut);
      response.writeHead(answer.statusCode ?? 502, passedOn(answer.headers));
      answer.pipe(response);
    });
    response.once('close', () => socket.destroy());
    message.pipe(onward);
  }

  /** Counts while a way is looked for; from then on `#meter` does. */
  async #counted(work: () => Promise<Way | { refusal: Refusal }>): Promise<Way | { refusal: Refusal }> {
    this.#open += 1;
    try {
      return await work();
    } finally {
      this.#open -= 1;
    }
  }

  async #way(
    target: { host: string; port: number } | null,
    text: string,
  ): Promise<Way | { refusal: Refusal }> {
    const { allowed, onEvent, resolve, connectMs } = this.#options;
    const refuse = (refusal: Refusal): { refusal: Refusal } => {
      onEvent({ kind: 'refused', host: target?.host ?? shown(text), port: target?.port ?? null, refusal });
      return { refusal };
    };
    if (target === null) {
      const sentence =
        'A request to this proxy is CONNECT host:port, or a method with an address that begins with http://.';
      return refuse({ reason: 'request', sentence });
    }
    const { host, port } = target;
    const rules = admitHost(allowed, host, port);
    if ('reason' in rules) return refuse(rules);
    if (this.#open > this.#connectionsMax)
      return refuse({
        reason: 'busy',
        sentence: `At most ${this.#connectionsMax} connections may be open at one time.`,
      });
    if (this.#bytesLeft <= 0)
      return refuse({
        reason: 'bytes',
        sentence: 'The bytes that may be carried are used up; the owner of this machine may allow more.',
      });
    const way = await reach(rules, host, port, { resolve, connectMs }, this.#stop.signal);
    return 'reason' in way ? refuse(way) : { socket: way, host, port };
  }

  /** Bounds a way and reports it when it is closed. It ends with the client; `from` is what the client sends. */
  #meter({ socket, host, port }: Way, client: Duplex, from: Duplex | IncomingMessage): void {
    this.#open += 1;
    this.#keep(socket);
    let seen = 0;
    const spend = (): void => {
      const now = socket.bytesRead + socket.bytesWritten;
      this.#bytesLeft -= now - seen;
      seen = now;
      if (this.#bytesLeft > 0) return;
      socket.destroy();
      client.destroy();
    };
    socket.on('data', spend);
    from.on('data', spend);
    socket.setTimeout(this.#idleMs, () => socket.destroy());
    const gone = (): void => void socket.destroy();
    client.once('close', gone);
    socket.once('close', () => {
      client.off('close', gone);
      from.off('data', spend);
      spend();
      this.#open -= 1;
      const { bytesWritten: sentBytes, bytesRead: receivedBytes } = socket;
      this.#options.onEvent({ kind: 'closed', host, port, sentBytes, receivedBytes });
    });
  }
}
