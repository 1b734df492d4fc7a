import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import type { Hono } from 'hono';
import type { ApiEnv } from './http.ts';
import { type ApiSocket, listenOn } from './socket.ts';

/** Connections at one time; a local program that leaks them gets no more. */
const connectionsMax = 256;
/** A client has this long to say what it wants. */
const headersMs = 10_000;
/** A client has this long to send a body: a large bundle from a slow disk. */
const bodyMs = 30 * 60_000;

/** Serves the app on the data folder's Unix socket. The caller holds the folder's lock. */
export async function serveApi(app: Pick<Hono<ApiEnv>, 'fetch'>, dir: string): Promise<ApiSocket> {
  const server = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false }) as Server;
  server.maxConnections = connectionsMax;
  server.headersTimeout = headersMs;
  server.requestTimeout = bodyMs;
  return listenOn(server, dir);
}
