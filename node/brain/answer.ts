import { asBrainError } from './fault.ts';
import { abortReason } from './request.ts';
import {
  BrainError,
  type ChatEvent,
  type ChatRequest,
  type Message,
  type ToolCall,
  type Usage,
} from './types.ts';

/** No tokenizer puts more than this into a token, runs of blanks apart. */
const CHARACTERS_PER_TOKEN_MAX = 32;
/** An answer may be this long however few tokens were asked for. */
const CHARACTERS_MIN = 16 * 1024;
/** Calls of one answer. A model that makes more does not look at what comes of them. */
export const CALLS_MAX = 64;
/** Objects and lists in each other. What a tool takes has three; far more could not be written as JSON again. */
const DEPTH_MAX = 64;

/** What a template adds to a prompt and a model to its answer that nobody sees. */
const UNSEEN_TOKENS_MAX = 4_096;
/** UTF-8, of a UTF-16 unit; a token is a byte at least. */
const BYTES_PER_CHARACTER_MAX = 3;

const UNCOUNTED: Usage = {
  promptTokens: null,
  promptFreshTokens: null,
  generatedTokens: null,
  promptMs: null,
  generateMs: null,
};

/**
 * The promises of `Brain.chat` over what one protocol reads: nothing after `end`, an answer without one is `broken`, every
 * failure is a `BrainError` that says whether something had come, and the request is closed however the reading stops. A server
 * that goes on beyond what `maxTokens` can hold is cut there, uncounted, as one that had kept to it would have been.
 */
export async function* answering(
  server: string,
  request: ChatRequest,
  signal: AbortSignal,
  read: (signal: AbortSignal) => AsyncIterable<ChatEvent>,
): AsyncGenerator<ChatEvent, void, void> {
  const own = new AbortController();
  let begun = false;
  const charactersMax = Math.max(CHARACTERS_MIN, request.maxTokens * CHARACTERS_PER_TOKEN_MAX);
  let characters = 0;
  let calls = 0;
  try {
    for await (const event of read(AbortSignal.any([signal, own.signal]))) {
      if (signal.aborted) throw abortReason(signal, server);
      begun = true;
      if (event.type === 'end') {
        yield { ...event, usage: believed(event.usage, request, characters) };
        return;
      }
      if (event.type === 'call') calls += 1;
      characters +=
        event.type === 'call' ? event.call.name.length + event.call.text.length : event.text.length;
      if (characters > charactersMax || calls > CALLS_MAX) {
        yield { type: 'end', reason: 'length', usage: UNCOUNTED };
        return;
      }
      yield event.type === 'call' && !isShallow(event.call.arguments)
        ? { ...event, call: { ...event.call, arguments: null } }
        : event;
    }
    throw new BrainError('broken', `${server} stopped before the end of its answer`, { begun });
  } catch (error) {
    const cause = signal.aborted ? abortReason(signal, server) : error;
    if (signal.aborted && !(cause instanceof BrainError)) throw cause;
    throw asBrainError(cause, server, begun);
  } finally {
    own.abort();
  }
}

/**
 * Counts that cannot be are none: parts of a token, more written than were asked for or characters came, more read than bytes were sent.
 * Nor is a speed made of them.
 */
function believed(usage: Usage, { maxTokens, messages, tools }: ChatRequest, characters: number): Usage {
  const sent = BYTES_PER_CHARACTER_MAX * JSON.stringify([messages, tools]).length;
  const most = Math.max(maxTokens, characters) + UNSEEN_TOKENS_MAX;
  const read = isWhole(usage.promptTokens) && (usage.promptTokens ?? 0) <= sent + UNSEEN_TOKENS_MAX;
  const wrote = isWhole(usage.generatedTokens) && (usage.generatedTokens ?? 0) <= most;
  return {
    ...usage,
    ...(read ? {} : { promptTokens: null, promptFreshTokens: null, promptMs: null }),
    ...(wrote ? {} : { generatedTokens: null, generateMs: null }),
  };
}

const isWhole = (tokens: number | null): boolean => tokens === null || Number.isSafeInteger(tokens);

/** Ids for calls whose server gives none: `call-N`, above every one of the conversation. */
export function callNumbers(messages: readonly Message[]): () => string {
  let last = 0;
  for (const message of messages) {
    if (message.role !== 'assistant') continue;
    for (const { id } of message.calls) {
      const number = /^call-(\d{1,9})$/.exec(id)?.[1];
      if (number !== undefined) last = Math.max(last, Number(number));
    }
  }
  return () => `call-${++last}`;
}

/** A call from the text a model wrote as its arguments. No text at all stands for no arguments. */
export function toolCall(id: string, name: string, text: string): ToolCall {
  return { id, name, arguments: text.trim() === '' ? {} : objectIn(text), text };
}

/** The JSON object that a text is, and nothing else; null: it is none. */
export function objectIn(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) && isShallow(value) ? value : null;
  } catch {
    return null;
  }
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Neither too deep to be written as JSON again, nor to be looked through by calls of itself. */
export function isShallow(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; depth <= DEPTH_MAX; depth += 1) {
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
    if (level.length === 0) return true;
  }
  return false;
}
