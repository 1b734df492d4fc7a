/** The server over Streamable HTTP: a session each, as the SDK keeps them, on a port of this machine. */
import { randomUUID } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { makeServer } from './server.ts';

export interface Seen {
  method: string;
  /** Names of headers. */
  headers: string[];
  session: string | null;
}

export class HttpMcpServer implements AsyncDisposable {
  readonly seen: Seen[] = [];
  readonly url: string;
  readonly #sessions: Map<string, WebStandardStreamableHTTPServerTransport>;
  readonly #server: Server;

  private constructor(
    server: Server,
    sessions: Map<string, WebStandardStreamableHTTPServerTransport>,
    seen: Seen[],
  ) {
    this.#server = server;
    this.#sessions = sessions;
    this.seen = seen;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
  }

  /** `json`: it answers by JSON in place of events. */
  static async listen(json: boolean): Promise<HttpMcpServer> {
    const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>();
    const seen: Seen[] = [];
    const answer = async (request: Request): Promise<Response> => {
      const session = request.headers.get('mcp-session-id');
      seen.push({ method: request.method, headers: [...request.headers.keys()].sort(), session });
      let transport = session === null ? undefined : sessions.get(session);
      if (transport === undefined) {
        transport = new WebStandardStreamableHTTPServerTransport({
          sessionIdGenerator: randomUUID,
          enableJsonResponse: json,
          onsessioninitialized: (id) => void sessions.set(id, transport!),
          onsessionclosed: (id) => void sessions.delete(id),
        });
        await makeServer().connect(transport);
      }
      return transport.handleRequest(request);
    };
    const server = createServer(getRequestListener(answer));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new HttpMcpServer(server, sessions, seen);
  }

  /** Sessions that nobody has ended. */
  get open(): number {
    return this.#sessions.size;
  }

  /** As a server that was restarted. */
  forget(): void {
    this.#sessions.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
