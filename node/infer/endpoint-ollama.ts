import { z } from 'zod';
import { callNumbers } from '../brain/answer.ts';
import type { ChatEvent, ChatRequest, Message, Model, ToolCall } from '../brain/types.ts';
import {
  type Answering,
  type AnswerWriter,
  answerTokensDefault,
  bodyAs,
  type Dialect,
  jsonObject,
  namedAnswers,
  refuseUnless,
  toolsBody,
  toolsOf,
  WholeAnswer,
} from './endpoint-dialect.ts';

const text = z.string();
const common = {
  model: text.min(1).max(256),
  stream: z.boolean().nullish(),
  format: z.union([z.literal(''), z.literal('json'), jsonObject]).nullish(),
  options: z
    .looseObject({
      num_predict: z.int().nullish(),
      num_ctx: z.int().positive().nullish(),
      temperature: z.number().min(0).max(10).nullish(),
      stop: z.unknown().optional(),
    })
    .nullish(),
  keep_alive: z.union([text, z.number()]).nullish(),
};
const chatBody = z.object({
  ...common,
  messages: z
    .array(
      z.object({
        role: z.enum(['system', 'user', 'assistant', 'tool']),
        content: text.nullish(),
        images: z.array(z.unknown()).nullish(),
        tool_calls: z
          .array(z.object({ id: text.nullish(), function: z.object({ name: text, arguments: jsonObject }) }))
          .nullish(),
        tool_name: text.nullish(),
        tool_call_id: text.nullish(),
      }),
    )
    .nullish(),
  tools: toolsBody,
});
const generateBody = z.object({
  ...common,
  prompt: text.nullish(),
  system: text.nullish(),
  images: z.array(z.unknown()).nullish(),
  raw: z.boolean().nullish(),
  suffix: text.nullish(),
  template: text.nullish(),
  context: z.array(z.unknown()).nullish(),
});
const showBody = z.object({ model: text.max(256).nullish(), name: text.max(256).nullish() });

/** Ollama's API, as docs.ollama.com/api describes it. */
export const ollamaDialect = {
  streamType: 'application/x-ndjson',
  error: (message: string) => ({ error: message }),
  list: (models: readonly Model[]) => ({ models: models.map(tag) }),
  shown: (body: unknown): string => {
    const { model, name } = bodyAs(showBody, body);
    return model ?? name ?? '';
  },
  show: (model: Model) => ({
    modelfile: '',
    parameters: '',
    template: '',
    details: detailsOf(model),
    model_info: {
      'general.architecture': 'unknown',
      ...(model.parameters === null ? {} : { 'general.parameter_count': model.parameters }),
      ...(model.contextTokens === null ? {} : { 'unknown.context_length': model.contextTokens }),
    },
    capabilities: ['completion', ...(model.tools === true ? ['tools'] : [])],
    modified_at: UNKNOWN_TIME,
  }),
  chat: (body: unknown): Answering => {
    const { messages, tools, ...asked } = bodyAs(chatBody, body);
    const given = messages ?? [];
    refuseUnless(
      given.every(({ images }) => (images ?? []).length === 0),
      'images',
    );
    const request = requestOf(asked, messagesOf(given));
    return {
      request: given.length === 0 ? null : { ...request, tools: toolsOf(tools) },
      stream: asked.stream !== false,
      writer: new OllamaWriter(asked.model, 'chat'),
    };
  },
  generate: (body: unknown): Answering => {
    const { prompt, system, images, raw, suffix, template, context, ...asked } = bodyAs(generateBody, body);
    refuseUnless((images ?? []).length === 0, 'images');
    refuseUnless(raw !== true && !suffix && !template, 'a raw prompt, a suffix or a template');
    refuseUnless((context ?? []).length === 0, 'the context of an answer before');
    const messages: Message[] = [
      ...(system ? [{ role: 'system' as const, content: system }] : []),
      { role: 'user', content: prompt ?? '' },
    ];
    return {
      request: prompt ? requestOf(asked, messages) : null,
      stream: asked.stream !== false,
      writer: new OllamaWriter(asked.model, 'generate'),
    };
  },
} satisfies Dialect & Record<string, unknown>;

type Asked = z.infer<z.ZodObject<typeof common>>;

function requestOf({ model, format, options, keep_alive }: Asked, messages: Message[]): ChatRequest {
  const { num_predict, num_ctx, temperature, stop } = options ?? {};
  refuseUnless(stop === undefined || stop === null || (Array.isArray(stop) && stop.length === 0), 'stop');
  const keepAliveMs = keptMs(keep_alive);
  return {
    model,
    messages,
    tools: [],
    format: format === 'json' ? { type: 'object' } : format ? format : null,
    maxTokens: num_predict && num_predict > 0 ? Math.min(num_predict, 1_000_000) : answerTokensDefault,
    contextTokens: num_ctx ?? null,
    ...(temperature === undefined || temperature === null ? {} : { temperature }),
    ...(keepAliveMs === null ? {} : { keepAliveMs }),
  };
}

const DAY_MS = 86_400_000;
const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** `5m`, or seconds as a number; below zero: for ever, of which a day is lent. Null: not said, or not understood. */
function keptMs(given: string | number | null | undefined): number | null {
  const [, amount, unit] = /^(-?\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(String(given ?? '')) ?? [];
  if (amount === undefined) return null;
  const ms = Number(amount) * (UNITS[unit ?? 's'] ?? 1_000);
  return ms < 0 ? DAY_MS : Math.min(Math.round(ms), DAY_MS);
}

function messagesOf(given: NonNullable<z.infer<typeof chatBody>['messages']>): Message[] {
  const number = callNumbers([]);
  /** Ollama's answers of tools name no call: they follow the calls in order. */
  let open: ToolCall[] = [];
  const messages = given.map(({ role, content, tool_calls, tool_name, tool_call_id }): Message => {
    const words = content ?? '';
    if (role === 'system' || role === 'user') return { role, content: words };
    if (role === 'tool') {
      const named = open.find(({ id, name }) => id === tool_call_id || name === tool_name) ?? open[0];
      open = open.filter((call) => call !== named);
      return {
        role,
        call: named?.id ?? tool_call_id ?? '',
        name: tool_name ?? named?.name ?? '',
        content: words,
      };
    }
    const calls = (tool_calls ?? []).map(({ id, function: { name, arguments: args } }) => ({
      id: id ?? number(),
      name,
      arguments: args,
      text: JSON.stringify(args),
    }));
    open = [...calls];
    return { role, content: words, calls };
  });
  return namedAnswers(messages);
}

class OllamaWriter implements AnswerWriter {
  readonly #model: string;
  readonly #of: 'chat' | 'generate';
  readonly #answer = new WholeAnswer();
  readonly #began = performance.now();

  constructor(model: string, of: 'chat' | 'generate') {
    this.#model = model;
    this.#of = of;
  }

  add(event: ChatEvent): void {
    this.#answer.add(event);
  }

  whole(): object {
    const { text, thinking, calls, end } = this.#answer;
    return this.#part(text, thinking, calls, end);
  }

  piece(event: ChatEvent): string {
    const one = new WholeAnswer();
    one.add(event);
    return `${JSON.stringify(this.#part(one.text, one.thinking, one.calls, one.end))}\n`;
  }

  fault(message: string): string {
    return `${JSON.stringify({ error: message })}\n`;
  }

  loaded(): object {
    return { ...this.#said('', '', []), done: true, done_reason: 'load' };
  }

  #part(text: string, thinking: string, calls: ToolCall[], end: WholeAnswer['end']): object {
    const said = this.#said(text, thinking, calls);
    if (end === null) return { ...said, done: false };
    const { promptTokens, generatedTokens, promptMs, generateMs } = end.usage;
    const counts = {
      prompt_eval_count: promptTokens,
      prompt_eval_duration: nanoseconds(promptMs),
      eval_count: generatedTokens,
      eval_duration: nanoseconds(generateMs),
    };
    return {
      ...said,
      done: true,
      done_reason: end.reason,
      total_duration: nanoseconds(performance.now() - this.#began),
      ...Object.fromEntries(Object.entries(counts).filter(([, value]) => value !== null)),
    };
  }

  #said(text: string, thinking: string, calls: ToolCall[]): object {
    const head = { model: this.#model, created_at: new Date().toISOString() };
    const thought = thinking === '' ? {} : { thinking };
    if (this.#of === 'generate') return { ...head, response: text, ...thought };
    const tool_calls = calls.map(({ id, name, arguments: args, text: words }) => ({
      id,
      // What the model wrote as arguments and is no object is passed on as it is.
      function: { name, arguments: args ?? { malformed: words } },
    }));
    return {
      ...head,
      message: {
        role: 'assistant',
        content: text,
        ...thought,
        ...(calls.length === 0 ? {} : { tool_calls }),
      },
    };
  }
}

const nanoseconds = (ms: number | null): number | null => (ms === null ? null : Math.round(ms * 1e6));

/** Clients read a time here; nobody in a mesh knows it. */
const UNKNOWN_TIME = '1970-01-01T00:00:00Z';

const detailsOf = ({ parameters }: Model): object => ({
  parent_model: '',
  format: '',
  family: '',
  families: [],
  parameter_size: parameters === null ? '' : `${(parameters / 1e9).toFixed(1)}B`,
  quantization_level: '',
});

const tag = (model: Model): object => ({
  name: model.name,
  model: model.name,
  modified_at: UNKNOWN_TIME,
  size: model.bytes ?? 0,
  digest: '',
  details: detailsOf(model),
});
