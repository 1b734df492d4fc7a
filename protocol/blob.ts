import { z } from 'zod';
import { SuperfleetError } from './errors.ts';
import { messageBytes, messageSchema } from './frame.ts';
import { blobId, count } from './ids.ts';
import { blobBytesMax, blobChunkBytes } from './limits.ts';

/**
 * `/superfleet/blob/1.0.0`: whoever opens the stream asks, the other side answers each request in order with one
 * frame: a byte that says what it is, then raw bytes or words. The asker has at most `blobChunksInFlight` requests
 * under way, so both sides hold that many chunks at most. A stream ends with `done`.
 */
export const BLOB_PROTOCOL = '/superfleet/blob/1.0.0';

/** Chunks of one blob: index below this. */
const chunksMax = blobBytesMax / blobChunkBytes;

export const blobRequest = z.discriminatedUnion('type', [
  /** The canonical bytes of the manifest, whose SHA-256 is the blob's id. */
  z.object({ type: z.literal('manifest'), blob: blobId }),
  z.object({ type: z.literal('chunk'), blob: blobId, index: count.max(chunksMax - 1) }),
  z.object({ type: z.literal('done') }),
]);
export type BlobRequest = z.infer<typeof blobRequest>;
export const blobRequestSchema = messageSchema(blobRequest);

/** A request frame holds one request. */
export const blobRequestBytesMax = 256;
/** An answer: its first byte, and a chunk. */
export const blobAnswerBytesMax = 1 + blobChunkBytes;

const DATA = 0;
const FAULT = 1;

/** Why a request was not answered with bytes. */
export const blobFault = z.object({
  type: z.literal('fault'),
  code: z.enum(['SF_NOT_FOUND', 'SF_REFUSED', 'SF_FULL', 'SF_NOT_PROVED', 'SF_INTERNAL']),
  message: z.string().max(512),
});
export type BlobFault = z.infer<typeof blobFault>;

/** What goes before the bytes of an answer, in the same frame: a chunk is not copied for the sake of one byte. */
export const dataAnswerHead = Uint8Array.of(DATA);

export const faultAnswer = (fault: Omit<BlobFault, 'type'>): Uint8Array =>
  Buffer.concat([Uint8Array.of(FAULT), messageBytes({ type: 'fault', ...fault } as { type: string })]);

/** The bytes of an answer; throws what the peer said instead, or `SF_FRAME`. */
export function openAnswer(answer: Uint8Array): Uint8Array {
  if (answer[0] === DATA) return answer.subarray(1);
  if (answer[0] === FAULT) {
    const parsed = blobFault.safeParse(jsonOf(answer.subarray(1)));
    if (parsed.success)
      throw new SuperfleetError(parsed.data.code, `the peer answered: ${parsed.data.message}`);
  }
  throw new SuperfleetError('SF_FRAME', 'the peer sent an answer that is not of the form agreed', {
    expected: 'bytes or a fault',
    got: `${answer.byteLength} bytes that begin with ${answer[0] ?? 'nothing'}`,
  });
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}
