import { BrainError, type BrainFault } from './types.ts';

const CONTEXT =
  /context[ _-](length|size|window)|maximum context|context_length_exceeded|prompt is too long|too many tokens/i;
const MODEL =
  /model[^.]{0,300}(not found|does not exist|not exist|not loaded)|(no such|unknown|invalid) model|model_not_found/i;

/** What a server's refusal means, from its HTTP status and its own words. */
export function faultOf(status: number, words: string): BrainFault {
  if ([400, 413, 422, 500].includes(status) && CONTEXT.test(words)) return 'context';
  if ([400, 404, 422, 500].includes(status) && MODEL.test(words)) return 'model';
  if (status === 429 || status === 503) return 'busy';
  if (status === 408 || status === 504) return 'timeout';
  // A path that is not there: the server speaks something else.
  if (status === 404 || status === 405) return 'broken';
  return status >= 400 && status < 500 ? 'refused' : 'broken';
}

/** A refusal as an error that quotes the server. */
export const refusal = (server: string, status: number, words: string): BrainError =>
  new BrainError(faultOf(status, words), `${server} answers ${status}: ${clip(words) || 'without a word'}`);

/** The words of an error body: `{"error": "…"}`, `{"error": {"message", "code", "type"}}`, `{"message": "…"}` or text. */
export function errorWords(body: string): string {
  try {
    return wordsOf(JSON.parse(body)) ?? body;
  } catch {
    return body;
  }
}

function wordsOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return null;
  const { error, message, code, type } = value as Record<string, unknown>;
  if (error !== undefined && error !== null) return wordsOf(error);
  const named = [code, type].filter((part) => typeof part === 'string' && part !== '');
  if (typeof message !== 'string') return named.length > 0 ? named.join(', ') : null;
  return named.length > 0 ? `${message} (${named.join(', ')})` : message;
}

/** Text of a server in a message for people: one line, bounded. */
export function clip(text: string, charactersMax = 500): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > charactersMax ? `${line.slice(0, charactersMax)}…` : line;
}

/** Any thrown value as the fault of a brain; what is none is `broken`. */
export function asBrainError(thrown: unknown, server: string, begun: boolean): BrainError {
  if (thrown instanceof BrainError) {
    if (thrown.begun || !begun) return thrown;
    return new BrainError(thrown.fault, thrown.message, { begun, cause: thrown.cause });
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new BrainError('broken', `${server}: ${clip(message)}`, { begun, cause: thrown });
}
