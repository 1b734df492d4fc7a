import { Readable } from 'node:stream';
import { Ollama, type ChatRequest as OllamaChat, type Message as OllamaMessage } from 'ollama';
import { z } from 'zod';
import { answering, callNumbers, isObject, isShallow } from './answer.ts';
import { asBrainError, clip, errorWords, refusal } from './fault.ts';
import { listOllamaModels } from './ollama-models.ts';
import { type Answer, abortReason, ask, type ServerOptions } from './request.ts';
import {
  type Brain,
  BrainError,
  type ChatEvent,
  type ChatRequest,
  type Message,
  type Model,
} from './types.ts';

/** One line of the answer at most: a whole call with a file in it fits. */
const LINE_BYTES_MAX = 8 * 1024 * 1024;

const Count = z.number().int().nonnegative().nullish();
const Chunk = z.object({
  message: z
    .object({
      content: z.string().nullish(),
      thinking: z.string().nullish(),
      tool_calls: z
        .array(
          z.object({
            id: z.string().nullish(),
            function: z.object({ name: z.string(), arguments: z.unknown() }),
          }),
        )
        .nullish(),
    })
    .nullish(),
  done: z.boolean().nullish(),
  done_reason: z.string().nullish(),
  prompt_eval_count: Count,
  prompt_eval_duration: Count,
  eval_count: Count,
  eval_duration: Count,
});

/** A server of [Ollama's API](https://docs.ollama.com/api). What a server found in its cache it does not tell. */
export class OllamaBrain implements Brain {
  readonly name: string;
  readonly server: string;
  readonly place: 'local' | 'cloud';
  readonly #options: ServerOptions;
  /** Facts by digest, which never change. */
  readonly #known = new Map<string, Model>();

  constructor(options: ServerOptions) {
    this.server = options.url.replace(/\/+$/, '');
    this.#options = { ...options, url: this.server };
    this.name = options.name ?? 'ollama';
    this.place = options.place ?? 'local';
  }

  models(signal: AbortSignal): Promise<Model[]> {
    return listOllamaModels(this.#client(signal), this.server, this.#known, signal);
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return answering(this.server, request, signal, (own) => this.#read(request, own));
  }

  async unload(model: string, signal: AbortSignal): Promise<void> {
    // By Ollama's docs: an empty prompt with `keep_alive` 0.
    try {
      await this.#client(signal).generate({ model, prompt: '', keep_alive: 0, stream: false });
    } catch (error) {
      throw signal.aborted ? abortReason(signal, this.server) : asBrainError(error, this.server, false);
    }
  }

  async *#read(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const nextId = callNumbers(request.messages);
    for await (const line of await this.#client(signal, true).chat(chatOf(request))) {
      const parsed = Chunk.safeParse(line);
      if (!parsed.success)
        throw new BrainError('broken', `${this.server} sent a line that is no part of an answer`);
      const { message, ...rest } = parsed.data;
      if (message?.thinking) yield { type: 'thinking', text: message.thinking };
      if (message?.content) yield { type: 'text', text: message.content };
      for (const { id, function: called } of message?.tool_calls ?? []) {
        const { name, arguments: given } = called;
        // What is nested without end could not even be quoted.
        const shallow = isShallow(given);
        const text = typeof given === 'string' ? given : shallow ? JSON.stringify(given ?? null) : '[…]';
        yield {
          type: 'call',
          call: { id: id || nextId(), name, arguments: shallow && isObject(given) ? given : null, text },
        };
      }
      if (rest.done !== true) continue;
      yield {
        type: 'end',
        reason: rest.done_reason === 'length' ? 'length' : 'stop',
        usage: {
          promptTokens: rest.prompt_eval_count ?? null,
          promptFreshTokens: null,
          generatedTokens: rest.eval_count ?? null,
          promptMs: milliseconds(rest.prompt_eval_duration),
          generateMs: milliseconds(rest.eval_duration),
        },
      };
      return;
    }
  }

  /** The client of one request. It would print, and skip, what it cannot read: that is caught before it. */
  #client(signal: AbortSignal, streams = false): Ollama {
    const options = this.#options;
    const fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
      const method = init?.method === 'POST' ? 'POST' : 'GET';
      const body = typeof init?.body === 'string' ? { body: init.body } : {};
      const answer = await ask(options, { method, url: String(input), ...body }, signal);
      const checked = Readable.from(streams ? wholeLines(answer, options.url) : answer, {
        objectMode: false,
      });
      return new Response(Readable.toWeb(checked) as ReadableStream);
    };
    return new Ollama({ host: this.server, fetch });
  }
}

/** Passes on lines of JSON objects; anything else, and what Ollama tells of a failure in mid-answer, is thrown. */
async function* wholeLines(answer: Answer, server: string): AsyncGenerator<Buffer> {
  /** The line so far, joined only when it is whole. */
  let begun: Buffer[] = [];
  let bytes = 0;
  for await (const part of answer) {
    let start = 0;
    for (let end = part.indexOf(10); end !== -1; end = part.indexOf(10, start)) {
      yield* checked(Buffer.concat([...begun, part.subarray(start, end)]), server);
      begun = [];
      bytes = 0;
      start = end + 1;
    }
    begun.push(part.subarray(start));
    bytes += part.length - start;
    if (bytes > LINE_BYTES_MAX) throw new BrainError('broken', `${server} sent a line without an end`);
  }
  yield* checked(Buffer.concat(begun), server);
}

function checked(line: Buffer, server: string): Buffer[] {
  const text = line.toString('utf8').trim();
  if (text === '') return [];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new BrainError('broken', `${server} sent a line that is no JSON: ${clip(text, 80)}`, { cause });
  }
  if (!isObject(value)) throw new BrainError('broken', `${server} sent a line that is no JSON object`);
  if (value.error !== undefined) {
    throw refusal(server, typeof value.status === 'number' ? value.status : 500, errorWords(text));
  }
  return [Buffer.from(`${text}\n`)];
}

/** `truncate` and `shift` off: a prompt that does not fit is refused, where Ollama would silently drop its beginning. */
function chatOf(request: ChatRequest): OllamaChat & { stream: true; truncate: false; shift: false } {
  const { keepAliveMs, temperature, contextTokens } = request;
  return {
    model: request.model,
    messages: request.messages.map(messageOf),
    stream: true,
    truncate: false,
    shift: false,
    ...(request.tools.length === 0
      ? {}
      : { tools: request.tools.map((tool) => ({ type: 'function', function: { ...tool } })) }),
    ...(request.format === null ? {} : { format: request.format }),
    ...(keepAliveMs === undefined ? {} : { keep_alive: `${Math.round(keepAliveMs)}ms` }),
    options: {
      num_predict: request.maxTokens,
      ...(contextTokens === null ? {} : { num_ctx: contextTokens }),
      ...(temperature === undefined ? {} : { temperature }),
    },
  };
}

function messageOf(message: Message): OllamaMessage {
  if (message.role === 'tool') return { role: 'tool', content: message.content, tool_name: message.name };
  if (message.role !== 'assistant') return message;
  const calls = message.calls.flatMap(({ name, arguments: given }) =>
    given === null ? [] : [{ function: { name, arguments: given } }],
  );
  // Ollama takes only objects as arguments: a malformed call is quoted as the text it was.
  const malformed = message.calls.filter((call) => call.arguments === null);
  const content = [message.content, ...malformed.map((call) => `${call.name}: ${call.text}`)]
    .filter((part) => part !== '')
    .join('\n');
  return { role: 'assistant', content, ...(calls.length === 0 ? {} : { tool_calls: calls }) };
}

const milliseconds = (nanoseconds: number | null | undefined): number | null =>
  nanoseconds === null || nanoseconds === undefined ? null : nanoseconds / 1e6;
