import { z } from 'zod';
import type { ChatEvent, ChatRequest, Message, Model, ToolCall, ToolDefinition } from '../brain/types.ts';

/** What one API makes of the same models. */
export interface Dialect {
  /** Content type of a streamed answer. */
  streamType: string;
  list(models: readonly Model[]): object;
  error(message: string, status: number, code: string | null): object;
}

/** A request as it is asked of a model, and how its answer is written. */
export interface Answering {
  /** Null: the model is only to be made ready, which a mesh does not do ahead. */
  request: ChatRequest | null;
  stream: boolean;
  writer: AnswerWriter;
}

/** Writes one answer, whole from what was added or piece by piece. */
export interface AnswerWriter {
  add(event: ChatEvent): void;
  whole(): object;
  piece(event: ChatEvent): string;
  /** What went wrong after the answer had begun. */
  fault(message: string): string;
  loaded(): object;
}

/** A request that is not answered, with its status. */
export class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'RequestError';
    this.status = status;
  }
}

/** Of an answer whose length was not said. */
export const answerTokensDefault = 32_768;
const CALLS_MAX = 128;

export const jsonObject = z.record(z.string(), z.unknown());
export const toolsBody = z
  .array(
    z.object({
      type: z.literal('function'),
      function: z.object({
        name: z.string().min(1).max(256),
        description: z.string().nullish(),
        parameters: jsonObject.nullish(),
      }),
    }),
  )
  .max(CALLS_MAX)
  .nullish();

export const toolsOf = (tools: z.infer<typeof toolsBody>): ToolDefinition[] =>
  (tools ?? []).map(({ function: { name, description, parameters } }) => ({
    name,
    description: description ?? '',
    parameters: parameters ?? { type: 'object', properties: {} },
  }));

/** A body of this form, or status 400 with the field that is not. */
export function bodyAs<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new RequestError(400, `${issue?.path.join('.') || 'the body'}: ${issue?.message ?? 'invalid'}`);
}

/** Refuses what the mesh cannot do: an answer that only looks right would be worse. */
export function refuseUnless(holds: boolean, what: string): void {
  if (!holds) throw new RequestError(400, `${what} cannot be asked of the models of a mesh`);
}

/** The name of the tool that each answer of a tool is of, by the call before it. */
export function namedAnswers(messages: readonly Message[]): Message[] {
  const names = new Map<string, string>();
  return messages.map((message) => {
    if (message.role === 'assistant') for (const { id, name } of message.calls) names.set(id, name);
    if (message.role !== 'tool' || message.name !== '') return message;
    return { ...message, name: names.get(message.call) ?? '' };
  });
}

/** An answer put together. */
export class WholeAnswer {
  text = '';
  thinking = '';
  readonly calls: ToolCall[] = [];
  end: Extract<ChatEvent, { type: 'end' }> | null = null;

  add(event: ChatEvent): void {
    if (event.type === 'text') this.text += event.text;
    else if (event.type === 'thinking') this.thinking += event.text;
    else if (event.type === 'call') this.calls.push(event.call);
    else if (event.type === 'end') this.end = event;
  }
}
