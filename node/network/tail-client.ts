import type { Connection } from '@libp2p/interface';
import { SuperfleetError } from '../../protocol/errors.ts';
import { frameOf } from '../../protocol/frame.ts';
import {
  openTailFrame,
  TAIL_PROTOCOL,
  type TailEndReason,
  tailCreditBytes,
  tailFrameBytesMax,
} from '../../protocol/tail.ts';
import { FrameChannel } from './channel.ts';

export interface TailTarget {
  task: string;
  attempt: number;
  /** Output offset to begin at. */
  from: number;
}

export type TailEvent =
  | { type: 'bytes'; offset: number; bytes: Uint8Array }
  /** `bytes` bytes at `offset` are missing: this reader was behind. */
  | { type: 'dropped'; offset: number; bytes: number }
  /** `bytes`: output in all. */
  | { type: 'end'; reason: TailEndReason; bytes: number };

/** The stream is opened within this. */
const OPEN_MS = 10_000;

/**
 * The live output of an attempt from its member, until its end. Pull as fast as you can show it: what is not pulled
 * is not granted, and the member drops the oldest of it. Ends with `end`, or throws `SF_UNREACHABLE` when the
 * connection broke. Leaving the loop closes the stream.
 */
export async function* tail(
  connection: Connection,
  target: TailTarget,
  signal: AbortSignal,
): AsyncGenerator<TailEvent, void, void> {
  const stream = await connection
    .newStream(TAIL_PROTOCOL, { signal: AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]) })
    .catch((cause: unknown) => {
      signal.throwIfAborted();
      throw new SuperfleetError('SF_UNREACHABLE', 'the member opened no stream for its output', { cause });
    });
  const channel = new FrameChannel(stream, {
    frameBytesMax: tailFrameBytesMax,
    // What was granted, and room for the words between.
    unreadBytesMax: tailCreditBytes + tailFrameBytesMax,
  });
  let ended = false;
  try {
    await channel.write(frameOf({ type: 'tail', ...target } as { type: string }), signal);
    let offset = target.from;
    let ungranted = 0;
    for (;;) {
      const event = openTailFrame(await channel.expect(signal));
      if (event.type === 'end') {
        ended = true;
        yield event;
        return;
      }
      if (event.type === 'dropped') {
        yield { type: 'dropped', offset, bytes: event.bytes };
        offset += event.bytes;
        continue;
      }
      yield { type: 'bytes', offset, bytes: event.bytes };
      offset += event.bytes.byteLength;
      ungranted += event.bytes.byteLength;
      if (ungranted < tailCreditBytes / 4) continue;
      await channel.write(frameOf({ type: 'grant', bytes: ungranted } as { type: string }), signal);
      ungranted = 0;
    }
  } finally {
    if (ended) await channel.close();
    else channel.abort(new Error('no longer looked at'));
  }
}
