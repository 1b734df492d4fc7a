import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { toolCall } from '../brain/answer.ts';
import type { ChatEvent, Message, Model, Usage } from '../brain/types.ts';
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
const parts = z.array(z.object({ type: text, text: text.optional() }));
const limit = z.int().min(1).nullish();
const body = z.object({
  model: text.min(1).max(256),
  messages: z
    .array(
      z.object({
        role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
        content: z.union([text, parts]).nullish(),
        tool_calls: z
          .array(z.object({ id: text, function: z.object({ name: text, arguments: text }) }))
          .nullish(),
        tool_call_id: text.nullish(),
      }),
    )
    .min(1),
  tools: toolsBody,
  tool_choice: z.unknown().optional(),
  response_format: z
    .discriminatedUnion('type', [
      z.object({ type: z.literal('text') }),
      z.object({ type: z.literal('json_object') }),
      z.object({ type: z.literal('json_schema'), json_schema: z.object({ schema: jsonObject.nullish() }) }),
    ])
    .nullish(),
  max_tokens: limit,
  max_completion_tokens: limit,
  temperature: z.number().min(0).max(10).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  n: z.int().nullish(),
  stop: z.unknown().optional(),
  logprobs: z.boolean().nullish(),
});
type Body = z.infer<typeof body>;

/** OpenAI's models and chat completions. */
export const openaiDialect = {
  streamType: 'text/event-stream',
  error: (message: string, status: number, code: string | null) => ({
    error: {
      message,
      type: status < 500 ? 'invalid_request_error' : 'server_error',
      code: code === 'model' ? 'model_not_found' : code === 'context' ? 'context_length_exceeded' : code,
      param: null,
    },
  }),
  list: (models: readonly Model[]) => ({
    object: 'list',
    data: models.map(({ name }) => ({ id: name, object: 'model', created: 0, owned_by: 'mesh' })),
  }),
  chat: (given: unknown): Answering => {
    const asked = bodyAs(body, given);
    const { tool_choice: choice, stop, temperature } = asked;
    refuseUnless(asked.n === undefined || asked.n === null || asked.n === 1, 'several answers');
    refuseUnless(asked.logprobs !== true, 'probabilities');
    refuseUnless(stop === undefined || stop === null || (Array.isArray(stop) && stop.length === 0), 'stop');
    refuseUnless(
      choice === undefined || choice === null || choice === 'auto' || choice === 'none',
      'a tool that must be called',
    );
    return {
      request: {
        model: asked.model,
        messages: namedAnswers(asked.messages.map(messageOf)),
        tools: choice === 'none' ? [] : toolsOf(asked.tools),
        format: formatOf(asked.response_format),
        maxTokens: Math.min(
          asked.max_completion_tokens ?? asked.max_tokens ?? answerTokensDefault,
          1_000_000,
        ),
        contextTokens: null,
        ...(temperature === undefined || temperature === null ? {} : { temperature }),
      },
      stream: asked.stream === true,
      writer: new OpenAIWriter(asked.model, asked.stream_options?.include_usage === true),
    };
  },
} satisfies Dialect & Record<string, unknown>;

function formatOf(format: Body['response_format']): Record<string, unknown> | null {
  if (format?.type === 'json_object') return { type: 'object' };
  return format?.type === 'json_schema' ? (format.json_schema.schema ?? { type: 'object' }) : null;
}

function messageOf({ role, content, tool_calls, tool_call_id }: Body['messages'][number]): Message {
  const words = typeof content === 'string' ? content : (content ?? []).map(partText).join('');
  switch (role) {
    case 'system':
    case 'developer':
      return { role: 'system', content: words };
    case 'user':
      return { role, content: words };
    case 'tool':
      return { role, call: tool_call_id ?? '', name: '', content: words };
    case 'assistant': {
      const calls = (tool_calls ?? []).map(({ id, function: { name, arguments: given } }) =>
        toolCall(id, name, given),
      );
      return { role, content: words, calls };
    }
    default:
      return role satisfies never;
  }
}

function partText(part: { type: string; text?: string | undefined }): string {
  refuseUnless(part.type === 'text', `content of the type ${part.type.slice(0, 32)}`);
  return part.text ?? '';
}

class OpenAIWriter implements AnswerWriter {
  readonly #head: { id: string; created: number; model: string };
  readonly #usage: boolean;
  readonly #answer = new WholeAnswer();
  #begun = false;

  constructor(model: string, usage: boolean) {
    this.#head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model };
    this.#usage = usage;
  }

  add(event: ChatEvent): void {
    this.#answer.add(event);
  }

  whole(): object {
    const { text: content, thinking, calls, end } = this.#answer;
    const message = {
      role: 'assistant',
      content: content === '' && calls.length > 0 ? null : content,
      refusal: null,
      ...(thinking === '' ? {} : { reasoning_content: thinking }),
      ...(calls.length === 0 ? {} : { tool_calls: calls.map(callOf) }),
    };
    const finish_reason = finishOf(end, calls.length);
    return {
      ...this.#head,
      object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason }],
      ...usageOf(end?.usage ?? null),
    };
  }

  piece(event: ChatEvent): string {
    this.#count(event);
    if (event.type === 'call') {
      const index = this.#answer.calls.length - 1;
      return this.#delta({ tool_calls: [{ index, ...callOf(event.call) }] });
    }
    if (event.type !== 'end')
      return this.#delta({ [event.type === 'text' ? 'content' : 'reasoning_content']: event.text });
    const usage = usageOf(event.usage);
    const tail = this.#usage && 'usage' in usage ? this.#event({ choices: [], ...usage }) : '';
    return `${this.#delta({}, finishOf(event, this.#answer.calls.length))}${tail}data: [DONE]\n\n`;
  }

  fault(message: string): string {
    return `data: ${JSON.stringify(openaiDialect.error(message, 500, null))}\n\n`;
  }

  /** Never asked for: a request has a message. */
  loaded(): object {
    return this.whole();
  }

  /** Calls are numbered over the whole answer; its text is not kept. */
  #count(event: ChatEvent): void {
    if (event.type === 'call') this.#answer.add(event);
  }

  #delta(delta: object, finish_reason: string | null = null): string {
    const role = this.#begun ? {} : { role: 'assistant' };
    this.#begun = true;
    return this.#event({
      choices: [{ index: 0, delta: { ...role, ...delta }, logprobs: null, finish_reason }],
    });
  }

  #event(fields: object): string {
    return `data: ${JSON.stringify({ ...this.#head, object: 'chat.completion.chunk', ...fields })}\n\n`;
  }
}

const callOf = ({ id, name, text: given }: { id: string; name: string; text: string }): object => ({
  id,
  type: 'function',
  function: { name, arguments: given },
});

const finishOf = (end: WholeAnswer['end'], calls: number): string =>
  end?.reason === 'length' ? 'length' : calls > 0 ? 'tool_calls' : 'stop';

/** Left out where the server did not count. */
function usageOf(usage: Usage | null): object {
  if (usage === null || usage.promptTokens === null || usage.generatedTokens === null) return {};
  const { promptTokens, generatedTokens } = usage;
  return {
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: generatedTokens,
      total_tokens: promptTokens + generatedTokens,
    },
  };
}
