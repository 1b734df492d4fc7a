import { hash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { SuperfleetError } from '../../protocol/errors.ts';
import { inferRequestBytesMax } from '../../protocol/infer.ts';
import { boundedBody } from '../api/http.ts';
import { BrainError, type BrainFault } from '../brain/types.ts';
import type { AllModels } from './all-models.ts';
import type { Lender } from './brain.ts';
import { type Answering, type Dialect, RequestError } from './endpoint-dialect.ts';
import { ollamaDialect } from './endpoint-ollama.ts';
import { openaiDialect } from './endpoint-openai.ts';

/** Says which machines read the prompt, the one that answers last. */
export const READ_BY = 'superfleet-prompt-read-by';

const CONNECTIONS_MAX = 64;
/** Requests at one time, over all connections: one of these can bring any number of them, each with its body. */
const REQUESTS_MAX = 32;
const HEADERS_MS = 10_000;
const BODY_MS = 60_000;
const LIST_MS = 15_000;

export interface EndpointOptions {
  models: Pick<AllModels, 'list' | 'find' | 'ask'>;
  /** 0: any free one. */
  port: number;
  /** Asked of every request as `authorization: Bearer …`; null: none. */
  token: string | null;
  /** Of this program. */
  version: string;
}

/** A running endpoint. */
export interface Endpoint {
  url: string;
  /** Ends at once what is under way. */
  close(): Promise<void>;
}

interface Bindings {
  outgoing: ServerResponse;
}
type EndpointContext = Context<{ Bindings: Bindings }>;

/**
 * All models of the mesh at one address of this machine, for programs that speak Ollama's API or OpenAI's. 127.0.0.1 only; no web
 * page gets in. `SF_PORT_IN_USE` where another process has the port.
 */
export async function openEndpoint(options: EndpointOptions): Promise<Endpoint> {
  const server = createAdaptorServer({
    fetch: endpointApp(options).fetch,
    overrideGlobalObjects: false,
  }) as Server;
  server.maxConnections = CONNECTIONS_MAX;
  server.headersTimeout = HEADERS_MS;
  server.requestTimeout = BODY_MS;
  server.listen(options.port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause;
    throw new SuperfleetError('SF_PORT_IN_USE', `port ${options.port} belongs to another process`, {
      hint: 'mesh-node endpoint on --port N',
      cause,
    });
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

const ROUTES = 'there are /api/tags, show, chat, generate and version, /v1/models and /v1/chat/completions';

function endpointApp({ models, token, version }: EndpointOptions): Hono<{ Bindings: Bindings }> {
  const app = new Hono<{ Bindings: Bindings }>();
  const dialectOf = (context: Context): Dialect =>
    context.req.path.startsWith('/v1/') ? openaiDialect : ollamaDialect;
  app.onError((thrown, context) => failed(context, dialectOf(context), thrown));
  app.notFound((context) =>
    failed(
      context,
      dialectOf(context),
      new RequestError(
        404,
        `${context.req.method} ${context.req.path.slice(0, 100)} is not answered here: ${ROUTES}`,
      ),
    ),
  );
  let requests = 0;
  app.use(async (context, next) => {
    guard(context, token);
    if (requests >= REQUESTS_MAX) throw new RequestError(503, `more than ${REQUESTS_MAX} requests at once`);
    requests += 1;
    context.env.outgoing.once('close', () => {
      requests -= 1;
    });
    await next();
  });
  app.get('/', (context) => context.text('The models of the mesh: /api as Ollama, /v1 as OpenAI'));
  app.get('/api/version', (context) => context.json({ version }));
  const list = (): Promise<Awaited<ReturnType<AllModels['list']>>> =>
    models.list(AbortSignal.timeout(LIST_MS));
  app.get('/api/tags', async (context) => context.json(ollamaDialect.list(await list())));
  app.get('/v1/models', async (context) => context.json(openaiDialect.list(await list())));
  app.post('/api/show', async (context) => {
    const name = ollamaDialect.shown(await bodyOf(context));
    const model = await models.find(name, AbortSignal.timeout(LIST_MS));
    if (model === null) throw new RequestError(404, `model '${name}' not found`);
    return context.json(ollamaDialect.show(model));
  });
  const answers = (path: string, read: (body: unknown) => Answering): void => {
    app.post(path, async (context) =>
      answer(context, read(await bodyOf(context)), dialectOf(context), models),
    );
  };
  answers('/api/chat', ollamaDialect.chat);
  answers('/api/generate', ollamaDialect.generate);
  answers('/v1/chat/completions', openaiDialect.chat);
  return app;
}

/** No browser (it says where a page is from), no name of elsewhere that leads here, and whoever knows the token. */
function guard(context: Context, token: string | null): void {
  const host = (context.req.header('host') ?? '').replace(/:\d+$/, '');
  if (!['127.0.0.1', 'localhost'].includes(host))
    throw new RequestError(403, 'expected the host 127.0.0.1 or localhost');
  for (const name of ['origin', 'sec-fetch-site'])
    if (context.req.header(name) !== undefined)
      throw new RequestError(403, `web pages are not answered, and ${name} is of one`);
  if (token === null) return;
  const given = /^Bearer (.{1,512})$/i.exec(context.req.header('authorization') ?? '')?.[1] ?? '';
  if (!timingSafeEqual(digest(given), digest(token)))
    throw new RequestError(401, 'expected the token of this endpoint: mesh-node endpoint says it');
}

async function bodyOf(context: Context): Promise<unknown> {
  const bytes = await boundedBody(context, inferRequestBytesMax).catch((cause: unknown) => {
    throw new RequestError(413, `a request has at most ${inferRequestBytesMax} bytes`, cause);
  });
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new RequestError(400, 'the body is not JSON', cause);
  }
}

/** One answer, streamed or whole. It begins when its first word has come, so that its header tells who read the prompt. */
async function answer(
  context: EndpointContext,
  { request, stream, writer }: Answering,
  dialect: Dialect,
  models: EndpointOptions['models'],
): Promise<Response> {
  if (request === null) return context.json(writer.loaded());
  const left = new AbortController();
  const { outgoing } = context.env;
  const leave = (): void => left.abort(new DOMException('the client has left', 'AbortError'));
  outgoing.once('close', leave);
  const readBy: Lender[] = [];
  const events = models.ask(request, left.signal, (lender) => readBy.push(lender))[Symbol.asyncIterator]();
  const told = (): Record<string, string> => ({
    [READ_BY]: readBy.map(({ name, peer }) => `${name} (${peer})`).join(', '),
  });
  try {
    let next = await events.next();
    if (!stream) {
      for (; next.done !== true; next = await events.next()) writer.add(next.value);
      return context.json(writer.whole(), 200, told());
    }
    let pending: typeof next | null = next;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        try {
          const event = pending ?? (await events.next());
          pending = null;
          if (event.done === true) return controller.close();
          // A pull that adds nothing is not made again: an event without words adds an empty piece.
          controller.enqueue(Buffer.from(writer.piece(event.value)));
        } catch (error) {
          if (!left.signal.aborted) controller.enqueue(Buffer.from(writer.fault(wordsOf(error))));
          controller.close();
        }
      },
      cancel: () => leave(),
    });
    return new Response(body, { headers: { 'content-type': dialect.streamType, ...told() } });
  } catch (error) {
    for (const [name, value] of Object.entries(told())) if (value !== '') context.header(name, value);
    throw error;
  }
}

const STATUS: Record<BrainFault, number> = {
  unreachable: 503,
  model: 404,
  refused: 400,
  busy: 503,
  context: 400,
  timeout: 504,
  broken: 502,
};

function failed(context: Context, dialect: Dialect, thrown: unknown): Response {
  const status =
    thrown instanceof RequestError
      ? thrown.status
      : thrown instanceof BrainError
        ? STATUS[thrown.fault]
        : 500;
  const code = thrown instanceof BrainError ? thrown.fault : null;
  return context.json(dialect.error(wordsOf(thrown), status, code), status as ContentfulStatusCode);
}

/** What is no fault of a request or a model may name things of this machine. */
const wordsOf = (thrown: unknown): string =>
  thrown instanceof BrainError || thrown instanceof RequestError ? thrown.message : 'the endpoint failed';

const digest = (text: string): Uint8Array => hash('sha256', text, 'buffer');
