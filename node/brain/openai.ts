import { createParser } from 'eventsource-parser';
import { z } from 'zod';
import { answering, callNumbers, toolCall } from './answer.ts';
import { clip, errorWords, faultOf } from './fault.ts';
import { listOpenAIModels } from './openai-models.ts';
import { type Answer, ask, type ServerOptions } from './request.ts';
import {
  type Brain,
  BrainError,
  type ChatEvent,
  type ChatRequest,
  type Message,
  type Model,
  type ToolCall,
  type Usage,
} from './types.ts';

export interface OpenAIOptions extends ServerOptions {
  /** Sent as `authorization: Bearer …`. @default none */
  key?: string;
  /** How the server calls the bound of an answer; OpenAI's own newer models know only the second. @default 'max_tokens' */
  maxTokensField?: 'max_tokens' | 'max_completion_tokens';
}

const EVENT_CHARACTERS_MAX = 8 * 1024 * 1024;
/** Calls in one answer, whose pieces are kept until it ends. */
const CALLS_MAX = 128;

const Count = z.number().nonnegative().nullish();
const Delta = z.object({
  content: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
  tool_calls: z
    .array(
      z.object({
        index: z.number().int().nonnegative().nullish(),
        id: z.string().nullish(),
        function: z.object({ name: z.string().nullish(), arguments: z.string().nullish() }).nullish(),
      }),
    )
    .nullish(),
});
const Chunk = z.object({
  choices: z.array(z.object({ delta: Delta.nullish(), finish_reason: z.string().nullish() })).nullish(),
  usage: z
    .object({
      prompt_tokens: Count,
      completion_tokens: Count,
      prompt_tokens_details: z.object({ cached_tokens: Count }).nullish(),
    })
    .nullish(),
  /** Of llama.cpp. */
  timings: z.object({ prompt_n: Count, prompt_ms: Count, predicted_ms: Count }).nullish(),
});
type Chunk = z.infer<typeof Chunk>;

/**
 * Any server of OpenAI's chat completions: llama.cpp, LM Studio, vLLM. How much context it holds, and for how long it
 * keeps a model, is set where it is started: `contextTokens` and `keepAliveMs` do nothing here.
 */
export class OpenAIBrain implements Brain {
  readonly name: string;
  readonly server: string;
  readonly place: 'local' | 'cloud';
  readonly #options: ServerOptions;
  readonly #maxTokensField: string;

  constructor({ key, maxTokensField, ...options }: OpenAIOptions) {
    this.server = options.url.replace(/\/+$/, '').replace(/\/v1$/, '');
    const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
    this.#options = { ...options, url: this.server, headers: { ...authorization, ...options.headers } };
    this.#maxTokensField = maxTokensField ?? 'max_tokens';
    this.name = options.name ?? 'openai';
    this.place = options.place ?? 'local';
  }

  models(signal: AbortSignal): Promise<Model[]> {
    return listOpenAIModels(this.#options, signal);
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return answering(this.server, request, signal, (own) => this.#read(request, own));
  }

  async *#read(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const body = JSON.stringify({ ...bodyOf(request), [this.#maxTokensField]: request.maxTokens });
    const url = `${this.server}/v1/chat/completions`;
    const answer = await ask(this.#options, { method: 'POST', url, body }, signal);
    const calls = new CallPieces(this.server);
    const usage: Usage = {
      promptTokens: null,
      promptFreshTokens: null,
      generatedTokens: null,
      promptMs: null,
      generateMs: null,
    };
    let finish: string | null = null;
    for await (const chunk of chunks(answer, this.server)) {
      count(usage, chunk);
      // One answer was asked for, so there is one choice.
      const choice = chunk.choices?.[0];
      const thinking = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
      if (thinking) yield { type: 'thinking', text: thinking };
      if (choice?.delta?.content) yield { type: 'text', text: choice.delta.content };
      for (const piece of choice?.delta?.tool_calls ?? []) calls.add(piece);
      finish ??= choice?.finish_reason ?? null;
    }
    // The usage follows the reason, so the reason does not end the reading.
    if (finish === null) return;
    if (finish === 'content_filter') throw new BrainError('refused', `${this.server} filtered the answer`);
    for (const call of calls.whole(callNumbers(request.messages))) yield { type: 'call', call };
    yield { type: 'end', reason: finish === 'length' ? 'length' : 'stop', usage };
  }
}

/** The pieces of calls, put together by their index. */
class CallPieces {
  readonly #server: string;
  readonly #pieces = new Map<number, { id: string; name: string; text: string }>();

  constructor(server: string) {
    this.#server = server;
  }

  add(piece: NonNullable<z.infer<typeof Delta>['tool_calls']>[number]): void {
    // Some servers send whole calls without an index: an id then begins a new one.
    const index = piece.index ?? (piece.id ? this.#pieces.size : Math.max(0, this.#pieces.size - 1));
    const call = this.#pieces.get(index) ?? { id: '', name: '', text: '' };
    call.id ||= piece.id ?? '';
    // The name comes once and whole; some servers repeat it.
    call.name ||= piece.function?.name ?? '';
    call.text += piece.function?.arguments ?? '';
    this.#pieces.set(index, call);
    if (this.#pieces.size > CALLS_MAX)
      throw new BrainError('broken', `${this.#server} sent more than ${CALLS_MAX} calls`);
  }

  whole(nextId: () => string): ToolCall[] {
    return [...this.#pieces.entries()]
      .sort(([a], [b]) => a - b)
      .map(([, { id, name, text }]) => toolCall(id || nextId(), name, text));
  }
}

/** The chunks of an event stream until `[DONE]` or its end. */
async function* chunks(answer: Answer, server: string): AsyncGenerator<Chunk> {
  const decoder = new TextDecoder();
  const events: string[] = [];
  let broken: Error | null = null;
  const parser = createParser({
    maxBufferSize: EVENT_CHARACTERS_MAX,
    onEvent: ({ data }) => events.push(data),
    onError: (error) => {
      broken ??= error;
    },
  });
  for await (const part of answer) {
    parser.feed(decoder.decode(part, { stream: true }));
    for (const data of events.splice(0)) {
      if (data === '[DONE]') return;
      yield chunkOf(data, server);
    }
    if (broken !== null)
      throw new BrainError('broken', `${server} sent something other than events`, { cause: broken });
  }
}

function chunkOf(data: string, server: string): Chunk {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (cause) {
    throw new BrainError('broken', `${server} sent an event that is no JSON: ${clip(data, 80)}`, { cause });
  }
  const error = (value as { error?: { code?: unknown } | string | null } | null)?.error;
  if (error !== undefined && error !== null) {
    const code = typeof error === 'object' ? Number(error.code) : Number.NaN;
    const words = errorWords(data);
    const message = `${server} breaks off: ${clip(words)}`;
    throw new BrainError(faultOf(code >= 400 && code < 600 ? code : 500, words), message);
  }
  const parsed = Chunk.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new BrainError('broken', `${server} sent an event that is no part of an answer: ${clip(data, 80)}`);
}

function count(usage: Usage, { usage: counted, timings }: Chunk): void {
  if (counted) {
    const cached = counted.prompt_tokens_details?.cached_tokens;
    usage.promptTokens = counted.prompt_tokens ?? null;
    usage.generatedTokens = counted.completion_tokens ?? null;
    if (typeof cached === 'number' && typeof counted.prompt_tokens === 'number')
      usage.promptFreshTokens ??= Math.max(0, counted.prompt_tokens - cached);
  }
  if (timings) {
    usage.promptFreshTokens = timings.prompt_n ?? null;
    usage.promptMs = timings.prompt_ms ?? null;
    usage.generateMs = timings.predicted_ms ?? null;
  }
}

const bodyOf = (request: ChatRequest): Record<string, unknown> => ({
  model: request.model,
  messages: request.messages.map(messageOf),
  stream: true,
  stream_options: { include_usage: true },
  ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
  ...(request.tools.length === 0
    ? {}
    : { tools: request.tools.map((tool) => ({ type: 'function', function: { ...tool } })) }),
  ...(request.format === null
    ? {}
    : {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'answer', strict: true, schema: request.format },
        },
      }),
});

function messageOf(message: Message): Record<string, unknown> {
  if (message.role === 'tool') return { role: 'tool', tool_call_id: message.call, content: message.content };
  if (message.role !== 'assistant' || message.calls.length === 0)
    return { role: message.role, content: message.content };
  // Templates of local servers parse the arguments again, and fail on what is no JSON object.
  const argumentsOf = (call: ToolCall): string =>
    JSON.stringify(call.arguments ?? { malformed: call.text.slice(0, 2_000) });
  return {
    role: 'assistant',
    content: message.content === '' ? null : message.content,
    tool_calls: message.calls.map((call) => ({
      id: call.id,
      type: 'function',
      function: { name: call.name, arguments: argumentsOf(call) },
    })),
  };
}
