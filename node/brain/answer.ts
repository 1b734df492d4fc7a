import { asBrainError } from './fault.ts';
import { abortReason } from './request.ts';
import { BrainError, type ChatEvent, type Message, type ToolCall } from './types.ts';

/**
 * The promises of `Brain.chat` over what one protocol reads: nothing after `end`, an answer without one is `broken`, every
 * failure is a `BrainError` that says whether something had come, and the request is closed however the reading stops.
 */
export async function* answering(
  server: string,
  signal: AbortSignal,
  read: (signal: AbortSignal) => AsyncIterable<ChatEvent>,
): AsyncGenerator<ChatEvent, void, void> {
  const own = new AbortController();
  let begun = false;
  try {
    for await (const event of read(AbortSignal.any([signal, own.signal]))) {
      if (signal.aborted) throw abortReason(signal, server);
      begun = true;
      yield event;
      if (event.type === 'end') return;
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
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
