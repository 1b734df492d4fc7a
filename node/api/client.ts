import type { ClientRequest, IncomingMessage } from 'node:http';
import { userInfo } from 'node:os';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { collectBytes } from '../../protocol/bytes.ts';
import { isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import { reachablePath, socketPath } from './socket.ts';

// Imported, it would load all that `fetch` needs with it, which takes as long as Node itself to start.
const { request: httpRequest } = process.getBuiltinModule('node:http');

/** How long an answer that does not stream may take: a little longer than the server gives itself. */
const answerMs = 70_000;
/** How long an act that waits for machines (an owner's pause, a leave) may take. */
export const actMs = 6 * 60_000;
/** Bytes of a JSON answer, or of one line of a stream. */
const documentBytesMax = 64 * 1024 * 1024;

export interface ClientOptions {
  /** Data folder of the process to speak to. */
  dir: string;
  /** What a person types to bring that process up; shown when it does not answer. */
  startHint: string;
  /** Sent with every request of this client, from the submission on. */
  correlation?: string | null;
  /** Told how many bytes came, of all answers that are bytes. */
  onBytes?: ((bytes: number) => void) | undefined;
}

interface Call {
  method: string;
  path: string;
  body?: unknown;
  /** Streamed as it is, instead of `body`. */
  source?: Readable | AsyncIterable<Uint8Array>;
  signal?: AbortSignal | undefined;
  /** null: as long as it takes. */
  timeoutMs?: number | null;
}

/**
 * Speaks `/v1` over a data folder's socket. Errors of the other side come back as `SuperfleetError` with their code;
 * nobody there is `SF_UNREACHABLE`. No schema library is loaded: both ends are this program.
 */
export class Client {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  get dir(): string {
    return this.#options.dir;
  }

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.json<T>({ method: 'GET', path, signal });
  }

  post<T>(path: string, body: unknown = {}, timeoutMs: number = answerMs): Promise<T> {
    return this.json<T>({ method: 'POST', path, body, timeoutMs });
  }

  /** One request, one JSON document back. */
  async json<T>(call: Call): Promise<T> {
    const response = await this.#open(call);
    const bytes = await wholeBody(response);
    try {
      return JSON.parse(bytes.toString('utf8')) as T;
    } catch (cause) {
      throw new SuperfleetError('SF_INTERNAL', 'the answer is not JSON', {
        got: bytes.toString('utf8', 0, 80),
        cause,
      });
    }
  }

  /** Streams a body up; the answer is one JSON document. */
  upload<T>(
    method: string,
    path: string,
    source: Readable | AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.json<T>({ method, path, source, signal, timeoutMs: null });
  }

  /** The bytes of an answer as they come; one cut off on its way throws. */
  async *bytes(path: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const response = await this.#open({ method: 'GET', path, signal, timeoutMs: null });
    try {
      for await (const chunk of response) {
        this.#options.onBytes?.((chunk as Uint8Array).byteLength);
        yield chunk as Uint8Array;
      }
    } catch (cause) {
      throw cutOff(cause, signal);
    } finally {
      response.destroy();
    }
  }

  /** One JSON document a line; a line `{"error": …}` is thrown. */
  async *lines<T>(method: string, path: string, signal?: AbortSignal, body?: unknown): AsyncGenerator<T> {
    const sent = body === undefined ? {} : { body };
    const response = await this.#open({ method, path, signal, timeoutMs: null, ...sent });
    let rest = '';
    try {
      response.setEncoding('utf8');
      for await (const text of response) {
        const lines = (rest + (text as string)).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > documentBytesMax) throw new SuperfleetError('SF_INTERNAL', 'a line has no end');
        for (const line of lines) {
          if (line === '') continue;
          const value = JSON.parse(line) as { error?: unknown };
          if (value.error !== undefined) throw remoteError(value.error, 500);
          yield value as T;
        }
      }
    } catch (cause) {
      throw cutOff(cause, signal);
    } finally {
      response.destroy();
    }
  }

  async #open(call: Call): Promise<IncomingMessage> {
    call.signal?.throwIfAborted();
    const reachable = this.#reach();
    try {
      const response = await this.#send(reachable.path, call);
      if ((response.statusCode ?? 500) < 400) return response;
      throw await errorOf(response);
    } finally {
      reachable.release();
    }
  }

  #reach(): { path: string; release(): void } {
    try {
      return reachablePath(socketPath(this.#options.dir));
    } catch (cause) {
      if (cause instanceof SuperfleetError) throw cause;
      throw this.#unreachable(cause);
    }
  }

  #send(path: string, call: Call): Promise<IncomingMessage> {
    const body = call.body === undefined ? null : Buffer.from(JSON.stringify(call.body));
    const headers: Record<string, string | number> = { 'superfleet-user': encodeURIComponent(osUser()) };
    if (this.#options.correlation != null) headers['superfleet-correlation'] = this.#options.correlation;
    if (body !== null)
      Object.assign(headers, { 'content-type': 'application/json', 'content-length': body.length });
    if (call.source !== undefined) headers['content-type'] = 'application/octet-stream';
    const timeoutMs = call.timeoutMs === undefined ? answerMs : call.timeoutMs;

    return new Promise((resolve, reject) => {
      const sent: ClientRequest = httpRequest({
        socketPath: path,
        path: call.path,
        method: call.method,
        headers,
        agent: false,
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      const timer =
        timeoutMs === null
          ? undefined
          : setTimeout(() => {
              sent.destroy(
                new SuperfleetError('SF_TIMEOUT', 'no answer came in time', {
                  expected: `within ${timeoutMs} ms`,
                }),
              );
            }, timeoutMs);
      let answered = false;
      sent.once('response', (response) => {
        answered = true;
        clearTimeout(timer);
        resolve(response);
      });
      sent.once('error', (thrown) => {
        clearTimeout(timer);
        reject(this.#failed(thrown, call.signal));
      });
      if (call.source === undefined) return void sent.end(body ?? undefined);
      pipeline(call.source, sent).catch((thrown: unknown) => {
        // A server that refuses in mid-upload has answered already: its answer says more than the broken pipe.
        if (!answered) sent.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)));
      });
    });
  }

  #failed(thrown: Error, signal: AbortSignal | undefined): unknown {
    if (thrown instanceof SuperfleetError) return thrown;
    if (signal?.aborted === true) return signal.reason;
    const code = (thrown as NodeJS.ErrnoException).code ?? '';
    if (code === 'EACCES' || code === 'EPERM') {
      return new SuperfleetError('SF_REFUSED', 'the socket of the data folder belongs to another user', {
        expected: 'the user who runs it, or root',
        got: osUser(),
        cause: thrown,
      });
    }
    if (code === 'ECONNRESET' || code === 'EPIPE') return cutOff(thrown, signal);
    return this.#unreachable(thrown);
  }

  #unreachable(cause: unknown): SuperfleetError {
    return new SuperfleetError('SF_UNREACHABLE', 'nobody answers on the socket of the data folder', {
      expected: `a running process with the data folder ${this.#options.dir}`,
      got: notThere(cause),
      hint: `${this.#options.startHint}, or name another folder with --dir or MESH_HOME`,
      cause,
    });
  }
}

/** The OS user's name as this process sees it. */
export function osUser(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}

async function wholeBody(response: IncomingMessage): Promise<Buffer> {
  const endless = () => new SuperfleetError('SF_INTERNAL', 'the answer has no end');
  return collectBytes(response, documentBytesMax, endless).catch((cause: unknown) => {
    throw cutOff(cause, undefined);
  });
}

async function errorOf(response: IncomingMessage): Promise<SuperfleetError> {
  const text = (await wholeBody(response)).toString('utf8');
  try {
    return remoteError((JSON.parse(text) as { error?: unknown }).error, response.statusCode ?? 500);
  } catch {
    return remoteError(null, response.statusCode ?? 500);
  }
}

function remoteError(value: unknown, status: number): SuperfleetError {
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const text = (name: string): string | null =>
    typeof fields[name] === 'string' ? (fields[name] as string) : null;
  return new SuperfleetError(
    isErrorCode(fields.code) ? fields.code : 'SF_INTERNAL',
    text('message') ?? `the answer was an error without words (HTTP ${status})`,
    {
      expected: text('expected'),
      got: text('got'),
      hint: text('hint'),
      retryAfterMs: typeof fields.retryAfterMs === 'number' ? fields.retryAfterMs : null,
    },
  );
}

function cutOff(cause: unknown, signal: AbortSignal | undefined): unknown {
  if (cause instanceof SuperfleetError) return cause;
  if (signal?.aborted === true) return signal.reason;
  return new SuperfleetError(
    'SF_UNREACHABLE',
    'the answer was cut off: the other process ended or closed it',
    {
      got: (cause as NodeJS.ErrnoException | null)?.code ?? String(cause),
      cause,
    },
  );
}

function notThere(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  if (code === 'ENOENT') return 'no socket there: nothing runs (ENOENT)';
  return code === 'ECONNREFUSED'
    ? 'a socket that nobody listens on: what ran has ended (ECONNREFUSED)'
    : code;
}
