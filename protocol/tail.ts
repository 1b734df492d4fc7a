import { z } from 'zod';
import { SuperfleetError } from './errors.ts';
import { messageBytes, messageSchema } from './frame.ts';
import { count, taskId } from './ids.ts';

/**
 * `/superfleet/tail/1.0.0`: the founder opens a stream to the executor and names an attempt; the member sends its
 * output as it comes, within the bytes granted. It may be dropped: who is behind is told how much it missed. Nothing
 * rests on it; the log that counts is a blob of the result.
 */
export const TAIL_PROTOCOL = '/superfleet/tail/1.0.0';

/** Output bytes the member may have sent and the founder not yet taken. */
export const tailCreditBytes = 256 * 1024;
/** Output bytes in one frame. */
export const tailDataBytesMax = 64 * 1024;
/** A frame either way: its first byte, and data or words. */
export const tailFrameBytesMax = 1 + tailDataBytesMax;
/** Output of a running attempt that its member keeps for those who look. */
export const tailRingBytes = 1024 * 1024;

export const tailRequest = z.discriminatedUnion('type', [
  z.object({ type: z.literal('tail'), task: taskId, attempt: count.min(1), from: count }),
  z.object({ type: z.literal('grant'), bytes: count.min(1).max(tailCreditBytes) }),
]);
export type TailRequest = z.infer<typeof tailRequest>;
export const tailRequestSchema = messageSchema(tailRequest);

/** `unknown`: no such attempt runs on this member. */
export const tailEndReason = z.enum(['finished', 'stopped', 'unknown']);
export type TailEndReason = z.infer<typeof tailEndReason>;

const tailWord = z.discriminatedUnion('type', [
  /** This many bytes were dropped before what comes next. */
  z.object({ type: z.literal('dropped'), bytes: count.min(1) }),
  z.object({ type: z.literal('end'), reason: tailEndReason, bytes: count }),
]);
export type TailWord = z.infer<typeof tailWord>;

const DATA = 0;
const WORD = 1;

export const tailData = (bytes: Uint8Array): Uint8Array => Buffer.concat([Uint8Array.of(DATA), bytes]);
export const tailWords = (word: TailWord): Uint8Array =>
  Buffer.concat([Uint8Array.of(WORD), messageBytes(word)]);

/** A frame from the member: output bytes, or words about them. `SF_FRAME` for anything else. */
export function openTailFrame(frame: Uint8Array): { type: 'data'; bytes: Uint8Array } | TailWord {
  if (frame[0] === DATA && frame.byteLength > 1) return { type: 'data', bytes: frame.subarray(1) };
  if (frame[0] === WORD) {
    try {
      const parsed = tailWord.safeParse(JSON.parse(new TextDecoder().decode(frame.subarray(1))));
      if (parsed.success) return parsed.data;
    } catch {
      // Said below.
    }
  }
  throw new SuperfleetError('SF_FRAME', 'the peer sent a frame of output that is not of the form agreed', {
    expected: 'bytes, dropped or end',
    got: `${frame.byteLength} bytes that begin with ${frame[0] ?? 'nothing'}`,
  });
}
