import { chmod, mkdtemp, rm } from 'node:fs/promises';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeDeadFolders } from '../dead-folders.ts';
import type { CallSpent } from './meter.ts';

const PREFIX = 'superfleet-door-';

/** A request for a model is no longer than this, nor an answer. */
const requestBytesMax = 16 * 1024 * 1024;
const answerBytesMax = 64 * 1024 * 1024;
/** The end of an answer, where its counts stand. */
const tailBytesMax = 256 * 1024;
/** Requests at one time, those that are still being read among them; an agent asks one model. */
const openMax = 8;
/** Connections that say nothing, too. */
const connectionsMax = 64;
/** What a token of a text is at least, in bytes: where nobody counted, so that nothing is asked for ever. */
const bytesPerToken = 4;
/** Looking at models, and asking them. Nothing that changes what a server holds. */
const READS = new Set(['/v1/models', '/api/version', '/api/tags', '/api/ps']);
const ASKS = new Set([
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/responses',
  '/api/chat',
  '/api/generate',
  '/api/show',
]);

/** What is not the agent's to say: which model, and how long a server keeps it in memory. */
const OWN_KEYS = new Set(['model', 'name', 'keep_alive']);

export interface ModelDoorOptions {
  /** The one server behind it, such as `http://127.0.0.1:11434`. */
  url: string;
  /** The one model that may be asked. */
  model: string;
  /** Tokens of prompts and answers after which nothing more is asked. */
  tokensMax: number;
  /** Answers after which nothing more is asked. */
  requestsMax: number;
  lookup?: LookupFunction;
  /** Before each answer that is asked for, whose prompt takes about so many tokens: null, or why it is not to be. */
  mayAsk?(promptTokens: number): string | null;
  /** After each that was. */
  spent?(spent: CallSpent): void;
}

/** What went through: null once a server did not count. */
export interface DoorUse {
  requests: number;
  promptTokens: number | null;
  generatedTokens: number | null;
}

/**
 * A Unix socket behind which there is one model of one server and nothing else: what an agent in a sandbox is given. Requests for
 * another model, for another path or beyond the bound of tokens are refused in words, here and not by the agent's leave.
 */
export class ModelDoor {
  readonly socket: string;
  readonly use: DoorUse = { requests: 0, promptTokens: 0, generatedTokens: 0 };
  readonly #options: ModelDoorOptions;
  readonly #folder: string;
  readonly #server: Server;
  #open = 0;
  /** Of them, those that a model answers. */
  #asking = 0;
  #spent = 0;
  #exhausted: string | null = null;

  private constructor(options: ModelDoorOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
    this.socket = join(folder, 'model.sock');
    this.#server = createServer((request, response) => {
      this.#take(request, response).catch(() => response.destroy());
    });
    this.#server.maxConnections = connectionsMax;
  }

  static async open(options: ModelDoorOptions): Promise<ModelDoor> {
    // A socket's path is short; a data folder's may not be.
    removeDeadFolders(PREFIX);
    const folder = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
    const door = new ModelDoor(options, folder);
    try {
      await new Promise<void>((resolve, reject) => {
        door.#server.once('error', reject);
        door.#server.listen(door.socket, resolve);
      });
      await chmod(door.socket, 0o600);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
    return door;
  }

  /** Tokens so far, estimated where the server did not count or was left before it had. */
  get spent(): number {
    return this.#spent;
  }

  /** The bound for which a request was refused; null: none was. */
  get exhausted(): string | null {
    return this.#exhausted;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?')[0]!;
    const asks = request.method === 'POST' && ASKS.has(path);
    if (!asks && !(request.method === 'GET' && READS.has(path))) {
      return refuse(
        response,
        403,
        `${request.method} ${path} is not allowed; models may be listed and asked`,
      );
    }
    if (this.#open >= openMax) return refuse(response, 429, `${openMax} requests are under way`);
    this.#open += 1;
    const counts = asks && path !== '/api/show';
    try {
      const read = asks ? await bodyOf(request) : null;
      if (read === 'too long') return refuse(response, 413, `a request has at most ${requestBytesMax} bytes`);
      const body = read === null ? null : this.#allowed(read, counts);
      if (typeof body === 'string') return refuse(response, 403, body);
      if (counts) this.#asking += 1;
      await this.#pass(path, body, counts, response).finally(() => {
        if (counts) this.#asking -= 1;
      });
    } finally {
      this.#open -= 1;
    }
  }

  /** The request as the server is to read it; a text: why it is refused. */
  #allowed(body: Buffer, counts: boolean): Buffer | string {
    const { model: allowed } = this.#options;
    let asked: unknown;
    try {
      asked = JSON.parse(body.toString('utf8'));
    } catch {
      return 'the request is no JSON';
    }
    const { model = null, name = null } = (asked ?? {}) as { model?: unknown; name?: unknown };
    const named = model ?? name;
    if (named !== allowed) return `the model of this task is ${allowed}, not ${String(named).slice(0, 128)}`;
    const used = this.#usedUp(counts, body.length);
    if (used !== null) {
      this.#exhausted = used;
      return used;
    }
    // Written anew: Go's servers take a key in any case, and the last of several, for the model.
    const rest = Object.entries(asked as object).filter(([key]) => !OWN_KEYS.has(key.toLowerCase()));
    return Buffer.from(JSON.stringify({ model: allowed, ...Object.fromEntries(rest) }));
  }

  /** Why no further answer may be asked for; null: one may. */
  #usedUp(counts: boolean, bytes: number): string | null {
    const { tokensMax, requestsMax, mayAsk } = this.#options;
    if (this.#spent >= tokensMax) return 'the tokens of this task are spent';
    if (!counts) return null;
    // Those under way are answers to come.
    if (this.use.requests + this.#asking >= requestsMax) return 'the answers of this task are used up';
    return mayAsk?.(Math.ceil(bytes / bytesPerToken)) ?? null;
  }

  #pass(path: string, body: Buffer | null, counts: boolean, response: ServerResponse): Promise<void> {
    const { url, lookup } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    const target = new URL(`${url}${path}`);
    const make = target.protocol === 'https:' ? httpsRequest : httpRequest;
    let bytes = 0;
    let counted = false;
    const began = performance.now();
    const count = (tail: string): void =>
      this.#count(tail, (body?.length ?? 0) + bytes, performance.now() - began);
    const headers =
      body === null ? {} : { 'content-type': 'application/json', 'content-length': body.length };
    const asked = make(
      target,
      { method: body === null ? 'GET' : 'POST', headers, agent: false, ...(lookup && { lookup }) },
      (answer) => {
        let tail = Buffer.alloc(0);
        response.writeHead(answer.statusCode ?? 502, {
          'content-type': answer.headers['content-type'] ?? 'application/json',
        });
        answer.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > answerBytesMax) asked.destroy();
          tail = Buffer.concat([tail, chunk]).subarray(-tailBytesMax);
          if (!response.write(chunk)) {
            answer.pause();
            response.once('drain', () => answer.resume());
          }
        });
        answer.on('error', () => response.destroy());
        answer.on('end', () => {
          counted = counts && answer.statusCode === 200;
          if (counted) count(tail.toString('utf8'));
          response.end();
        });
      },
    );
    asked.on('error', (error) => refuse(response, 502, `the model server does not answer: ${error.message}`));
    asked.on('close', () => {
      // Left in the middle: asked all the same.
      if (counts && !counted && bytes > 0) count('');
      resolve();
    });
    // Who asked has left: the model is not kept busy for nobody.
    response.on('close', () => asked.destroy());
    asked.end(body ?? undefined);
    return promise;
  }

  /** The counts that end an answer, in either API's form; `bytes` went to and fro for it. */
  #count(tail: string, bytes: number, ms: number): void {
    const { use } = this;
    use.requests += 1;
    let prompt: number | null = null;
    let generated: number | null = null;
    for (const line of tail.split('\n')) {
      const value = parsed(line.replace(/^data: ?/, ''));
      const usage = value?.usage as Record<string, unknown> | null | undefined;
      prompt = countOf(usage?.prompt_tokens ?? usage?.input_tokens ?? value?.prompt_eval_count) ?? prompt;
      generated = countOf(usage?.completion_tokens ?? usage?.output_tokens ?? value?.eval_count) ?? generated;
    }
    const estimated = prompt === null || generated === null;
    const spent = estimated
      ? { promptTokens: Math.ceil(bytes / bytesPerToken), generatedTokens: 0 }
      : { promptTokens: prompt!, generatedTokens: generated! };
    this.#spent += spent.promptTokens + spent.generatedTokens;
    this.#options.spent?.({ ...spent, estimated, ms });
    use.promptTokens = use.promptTokens === null || prompt === null ? null : use.promptTokens + prompt;
    use.generatedTokens =
      use.generatedTokens === null || generated === null ? null : use.generatedTokens + generated;
  }
}

/** Of one request: more is no count, and the sum of all requests of a task stays one. */
const countMax = 2 ** 32;
const countOf = (value: unknown): number | null =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= countMax
    ? (value as number)
    : null;

function parsed(text: string): Record<string, unknown> | null {
  if (!text.startsWith('{')) return null;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer | 'too long'> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += (part as Buffer).length;
    if (bytes > requestBytesMax) return 'too long';
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts);
}

/** In the form that clients of either API show. */
function refuse(response: ServerResponse, status: number, message: string): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify({ error: { message, type: 'refused' } }));
}
