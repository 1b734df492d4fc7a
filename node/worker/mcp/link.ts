import { z } from 'zod';

/** Of one message of a server, in bytes. */
export const messageBytesMax = 1024 * 1024;
/** Of all that a server says until it has answered one request. */
export const answerBytesMax = 8 * 1024 * 1024;

/** Messages until then: each costs more time than its bytes do. */
export const messagesMax = 10_000;

/** What a server did wrong, in words for a person or a model. */
export class McpFault extends Error {
  /** Nothing more can be asked over this link. */
  readonly gone: boolean;

  constructor(message: string, { gone = false, cause }: { gone?: boolean; cause?: unknown } = {}) {
    super(message, { cause });
    this.name = 'McpFault';
    this.gone = gone;
  }
}

/** A way to a server. One request at a time. */
export interface Link {
  /** Its result, not yet looked into. Rejects with an `McpFault`, or the signal's reason; then the link is to be closed. */
  request(method: string, params: object, signal: AbortSignal): Promise<unknown>;
  /** Says something that has no answer. */
  notify(method: string, signal: AbortSignal): Promise<void>;
  /** Resolves when nothing of it is left. */
  close(): Promise<void>;
}

const message = z.looseObject({
  id: z.union([z.string(), z.number(), z.null()]).optional(),
  method: z.string().optional(),
  result: z.unknown().optional(),
  error: z.looseObject({ code: z.number(), message: z.string() }).optional(),
});
export type Message = z.output<typeof message>;

/** A message of JSON-RPC 2.0; null: it is none. */
export function messageOf(text: string): Message | null {
  try {
    return message.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** The result in an answer. Throws an `McpFault` where it is an error. */
export function resultOf({ error, result }: Message): unknown {
  if (error === undefined) return result;
  throw new McpFault(`error ${error.code}: ${error.message.slice(0, 2_000)}`);
}

/** What a server asks of its client: it may know that the client is there, and nothing else. */
export function replyTo({ id, method }: Message): object | null {
  if (method === undefined || id === undefined || id === null) return null;
  const error = { code: -32601, message: 'this client offers nothing' };
  return { jsonrpc: '2.0', id, ...(method === 'ping' ? { result: {} } : { error }) };
}
