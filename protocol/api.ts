import { z } from 'zod';
import { type ErrorObject, isErrorCode, SuperfleetError } from './errors.ts';
import { messageBytes } from './frame.ts';
import { correlationId, count } from './ids.ts';

/**
 * `/superfleet/api/1.0.0`: a member hands a `/v1` request of its own user on to the founder; one stream is one request.
 * `request`, its body, `end`; back come `answer`, its body, `end`. Bodies go within the bytes granted, both ways at
 * once; `fault` breaks one off in words. Who asks is who the connection proved, and what it may is what its roles give.
 */
export const API_PROTOCOL = '/superfleet/api/1.0.0';

/** Bytes of a body that may be on the way or unread, each way. */
export const apiCreditBytes = 512 * 1024;
/** Bytes of a body in one frame. */
export const apiDataBytesMax = 64 * 1024;
/** A frame: its first byte, and data or a word. */
export const apiFrameBytesMax = 1 + apiDataBytesMax;
/** Requests of one member under way, and of all. */
export const apiRequestsPerPeerMax = 8;
export const apiRequestsMax = 64;

const text = (max: number) => z.string().max(max);

const apiWord = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('request'),
    method: z.enum(['GET', 'POST', 'PUT', 'DELETE']),
    path: z.string().regex(/^\/v1\/[!-~]{0,4000}$/),
    contentType: text(256).nullable(),
    correlation: correlationId.nullable(),
  }),
  z.object({ type: z.literal('answer'), status: count.min(200).max(599), contentType: text(256).nullable() }),
  z.object({ type: z.literal('grant'), bytes: count.min(1).max(apiCreditBytes) }),
  z.object({ type: z.literal('end') }),
  z.object({ type: z.literal('fault'), code: text(64), message: text(2048), hint: text(2048).nullable() }),
]);
export type ApiWord = z.infer<typeof apiWord>;
export type ApiRequest = Extract<ApiWord, { type: 'request' }>;
export type ApiAnswer = Extract<ApiWord, { type: 'answer' }>;

const DATA = 0;
const WORD = 1;

export function apiData(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(1 + bytes.byteLength);
  frame[0] = DATA;
  frame.set(bytes, 1);
  return frame;
}

export const apiWords = (word: ApiWord): Uint8Array =>
  Buffer.concat([Uint8Array.of(WORD), messageBytes(word)]);

export const apiFault = ({ code, message, hint }: ErrorObject): ApiWord => ({
  type: 'fault',
  code,
  message: message.slice(0, 2048),
  hint: hint?.slice(0, 2048) ?? null,
});

/** What a fault says, as the error it is. */
export const errorOfFault = ({ code, message, hint }: Extract<ApiWord, { type: 'fault' }>): SuperfleetError =>
  new SuperfleetError(isErrorCode(code) ? code : 'SF_INTERNAL', message, { hint });

/** A frame either way: bytes of a body, or a word. `SF_FRAME` for anything else. */
export function openApiFrame(frame: Uint8Array): { type: 'data'; bytes: Uint8Array } | ApiWord {
  if (frame[0] === DATA && frame.byteLength > 1) return { type: 'data', bytes: frame.subarray(1) };
  if (frame[0] === WORD) {
    try {
      const parsed = apiWord.safeParse(JSON.parse(new TextDecoder().decode(frame.subarray(1))));
      if (parsed.success) return parsed.data;
    } catch {
      // Said below.
    }
  }
  throw new SuperfleetError('SF_FRAME', 'the peer sent a frame of a request that is not of the form agreed', {
    expected: 'bytes, request, answer, grant, end or fault',
    got: `${frame.byteLength} bytes that begin with ${frame[0] ?? 'nothing'}`,
  });
}
