import type { Hono } from 'hono';
import type { TaskArchive } from '../../ledger/log/archive.ts';
import type { Log } from '../../ledger/log/log.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { createBaseApp } from '../../node/api/app.ts';
import type { ApiEnv } from '../../node/api/http.ts';
import { createReadOnlyApp } from '../../node/api/read-only.ts';
import { serveApi } from '../../node/api/server.ts';
import type { ApiSocket } from '../../node/api/socket.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type FounderGuard, WAITS_HINT } from './guard.ts';

/** The founder's socket. What answers on it may change while it is open: a founder that has to wait says why. */
export class FounderSocket {
  readonly #dir: string;
  #app: Hono<ApiEnv> | null = null;
  #socket: Promise<ApiSocket> | null = null;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** This app answers from here on. */
  async serve(app: Hono<ApiEnv>): Promise<void> {
    this.#app = app;
    this.#socket ??= serveApi({ fetch: (...request) => this.#app!.fetch(...request) }, this.#dir);
    await this.#socket;
  }

  async close(): Promise<void> {
    const socket = this.#socket;
    this.#socket = null;
    await (await socket)?.close();
  }
}

/** Why a founder that may not go on yet does nothing but tell what its log says. */
export function heldError({ waitsFor, lacks }: Pick<FounderGuard, 'waitsFor' | 'lacks'>): SuperfleetError {
  const why = `the founder does not go on yet: ${waitsFor ?? 'its members are being asked'}`;
  return new SuperfleetError(lacks === null ? 'SF_UNREACHABLE' : 'SF_BEHIND', why, { hint: WAITS_HINT });
}

/** `/v1` of a founder that may not go on yet: what its log tells, and why everything else is refused. */
export function createHeldApp(parts: {
  log: Log;
  state: MeshState;
  archive: TaskArchive;
  guard: Pick<FounderGuard, 'waitsFor' | 'lacks'>;
  stop(): void;
}): Hono<ApiEnv> {
  const { log, state, archive, guard, stop } = parts;
  const readOnly = createReadOnlyApp({
    mesh: log.meshId,
    state: () => state,
    archive,
    asOf: () => ({
      size: log.size,
      root: log.checkpoint.root,
      time: state.mesh.time,
      behind: guard.lacks,
      why: heldError(guard).message,
    }),
    refusal: () => heldError(guard),
  });
  const app = createBaseApp(stop);
  app.all('/v1/*', (context) => readOnly.fetch(context.req.raw));
  return app;
}
