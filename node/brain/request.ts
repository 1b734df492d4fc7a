import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { errorWords, refusal } from './fault.ts';
import { BrainError } from './types.ts';

/** How a server of models is reached. */
export interface ServerOptions {
  /** Its address, such as `http://127.0.0.1:11434`. Nothing is taken from environment variables. */
  url: string;
  /** How people name the brain. @default what its server speaks */
  name?: string;
  /** @default 'local' */
  place?: 'local' | 'cloud';
  /** Sent with each request, such as an `authorization`. @default none */
  headers?: Record<string, string>;
  /** How names become addresses, to keep them on the LAN. @default the system's way */
  lookup?: LookupFunction;
  /** For the connection to stand, in ms. @default 5 s */
  connectMs?: number;
  /** Without a byte, in ms: a slow machine may read a long prompt for minutes before its first word. @default 10 min */
  silenceMs?: number;
}

/** Beyond this an answer has no end. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const REFUSAL_BYTES_MAX = 64 * 1024;
const CONNECT_MS = 5_000;
const SILENCE_MS = 600_000;

export interface Call {
  method: 'GET' | 'POST';
  url: string;
  body?: string;
}

/** An answer as it comes; leaving the iteration closes the connection. */
export type Answer = AsyncGenerator<Buffer, void, void>;

/**
 * One HTTP request whose answer is read as it comes, on a connection of its own, without redirects or proxy. Aborting closes
 * it. Rejects with a `BrainError` unless the status is 2xx, and so does the reading of what breaks off, falls silent or has
 * no end. (`fetch` would give up on an answer whose first word takes more than five minutes.)
 */
export function ask(server: ServerOptions, call: Call, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  if (signal.aborted) {
    reject(abortReason(signal, server.url));
    return promise;
  }
  const secure = call.url.startsWith('https:');
  const asked = (secure ? httpsRequest : httpRequest)(call.url, requestOptions(server, call));
  const silenceMs = server.silenceMs ?? SILENCE_MS;
  let connected = false;
  let answer: IncomingMessage | null = null;
  let timer: NodeJS.Timeout | undefined;
  const end = (error: Error): void => {
    answer?.destroy(error);
    asked.destroy(error);
  };
  const wait = (ms: number, error: BrainError): void => {
    clearTimeout(timer);
    timer = setTimeout(() => end(error), ms);
  };
  const listen = (): void =>
    wait(silenceMs, new BrainError('timeout', `${server.url} sent nothing for ${silenceMs / 1000} s`));
  const aborted = (): void => end(abortReason(signal, server.url));
  signal.addEventListener('abort', aborted, { once: true });

  wait(server.connectMs ?? CONNECT_MS, new BrainError('unreachable', `${server.url} does not answer`));
  asked.on('socket', (socket) =>
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      connected = true;
      listen();
    }),
  );
  asked.on('close', () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', aborted);
  });
  asked.on('error', (error) => reject(connectionFault(error, signal, server.url, connected)));

  async function* read(incoming: IncomingMessage): Answer {
    let bytes = 0;
    try {
      for await (const part of incoming) {
        // Only the server's silence counts, not the time its words are being worked on.
        clearTimeout(timer);
        bytes += (part as Buffer).length;
        if (bytes > ANSWER_BYTES_MAX)
          throw new BrainError('broken', `the answer of ${server.url} has no end`);
        yield part as Buffer;
        listen();
      }
    } catch (error) {
      throw connectionFault(error, signal, server.url, true);
    } finally {
      clearTimeout(timer);
      asked.destroy();
    }
  }
  asked.on('response', (incoming) => {
    answer = incoming;
    listen();
    const status = incoming.statusCode ?? 0;
    if (status >= 200 && status < 300) return resolve(read(incoming));
    readText(read(incoming), REFUSAL_BYTES_MAX).then(
      (text) => reject(refusal(server.url, status, errorWords(text))),
      reject,
    );
  });
  asked.end(call.body);
  return promise;
}

const requestOptions = ({ headers, lookup }: ServerOptions, call: Call): RequestOptions => ({
  method: call.method,
  agent: false,
  ...(lookup === undefined ? {} : { lookup }),
  headers: {
    accept: 'application/json, text/event-stream, application/x-ndjson',
    ...headers,
    ...(call.body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(call.body) }),
  },
});

/** The JSON of an answer, at most 16 MiB. */
export async function askJson(server: ServerOptions, call: Call, signal: AbortSignal): Promise<unknown> {
  const answer = await ask(server, call, signal);
  try {
    return JSON.parse(await readText(answer, 16 * 1024 * 1024));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new BrainError('broken', `${call.url} answers something other than JSON`, { cause: error });
  }
}

async function readText(answer: Answer, bytesMax: number): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of answer) {
    parts.push(part);
    bytes += part.length;
    if (bytes > bytesMax) break;
  }
  return Buffer.concat(parts).toString('utf8');
}

/** What a failed connection or a broken answer means; the signal's reason goes before it. */
function connectionFault(error: unknown, signal: AbortSignal, server: string, connected: boolean): unknown {
  if (signal.aborted) return abortReason(signal, server);
  if (error instanceof BrainError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  return connected
    ? new BrainError('broken', `${server} broke off: ${code ?? message}`, { cause: error })
    : new BrainError('unreachable', `${server} cannot be reached: ${code ?? message}`, { cause: error });
}

/** A time limit is a fault of the brain; any other abort is what the caller wanted. */
export function abortReason(signal: AbortSignal, server: string): Error {
  const reason: unknown = signal.reason;
  if (reason instanceof Error && reason.name === 'TimeoutError') {
    return new BrainError('timeout', `${server} took longer than it was given`, { cause: reason });
  }
  return reason instanceof Error ? reason : new DOMException(String(reason), 'AbortError');
}
