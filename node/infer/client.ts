import type { Connection } from '@libp2p/interface';
import { SuperfleetError } from '../../protocol/errors.ts';
import { parseFrame } from '../../protocol/frame.ts';
import {
  INFER_PROTOCOL,
  type InferEvent,
  inferCreditBytes,
  inferEventSchema,
  inferFrame,
  inferFrameBytesMax,
  inferRequestBytesMax,
  inferSilenceMs,
  inferWordMs,
} from '../../protocol/infer.ts';
import { BrainError, type ChatEvent, type ChatRequest } from '../brain/types.ts';
import { FrameChannel } from '../network/channel.ts';

/** A stream is opened, and a list comes, within this. */
const OPEN_MS = 5_000;

/** What a member says that it offers now. */
export type Offering = Omit<Extract<InferEvent, { type: 'models' }>, 'type'>;

/** The models of a member. Rejects with an error of the stream. */
export async function listAt(connection: Connection, signal: AbortSignal): Promise<Offering> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]);
  const channel = await open(connection, within);
  let done = false;
  try {
    await channel.write(inferFrame({ type: 'list' }), within);
    const [event] = eventsIn(await channel.expect(within));
    if (event?.type !== 'models') throw unexpected('a list of models', event);
    done = true;
    return event;
  } finally {
    leave(channel, done);
  }
}

/**
 * One answer of a model on another member, as it comes. Throws a `BrainError` with the fault that the member told, `timeout` where it
 * falls silent or says nothing of the answer, `unreachable` where the connection breaks. Leaving the loop stops the model.
 */
export async function* chatAt(
  connection: Connection,
  chat: ChatRequest,
  correlation: string,
  signal: AbortSignal,
  wordMs: number = inferWordMs,
): AsyncGenerator<ChatEvent, void, void> {
  const frame = inferFrame({
    type: 'chat',
    correlation,
    chat: { ...chat, messages: [...chat.messages], tools: [...chat.tools] },
  });
  if (frame.byteLength > inferRequestBytesMax) {
    throw new BrainError(
      'context',
      `a request to another machine has at most ${inferRequestBytesMax} bytes, not ${frame.byteLength}`,
    );
  }
  const channel = await open(connection, AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]));
  let done = false;
  try {
    await channel.write(frame, signal);
    let ungranted = 0;
    let heardAt = performance.now();
    for (;;) {
      const body = await channel.expect(AbortSignal.any([signal, AbortSignal.timeout(inferSilenceMs)]));
      for (const event of eventsIn(body)) {
        if (event.type === 'alive') {
          if (performance.now() - heardAt < wordMs) continue;
          throw new BrainError('timeout', `it said nothing of the answer for ${wordMs / 1000} s`);
        }
        heardAt = performance.now();
        if (event.type === 'models') throw unexpected('an answer', event);
        if (event.type === 'end' || event.type === 'error') done = true;
        if (event.type === 'error') throw new BrainError(event.fault, event.message);
        yield event;
        if (event.type === 'end') return;
      }
      ungranted += body.byteLength;
      if (ungranted < inferCreditBytes / 4) continue;
      for (; ungranted > 0; ungranted -= Math.min(ungranted, inferCreditBytes))
        await channel.write(
          inferFrame({ type: 'grant', bytes: Math.min(ungranted, inferCreditBytes) }),
          signal,
        );
    }
  } finally {
    leave(channel, done);
  }
}

async function open(connection: Connection, signal: AbortSignal): Promise<FrameChannel> {
  const stream = await connection.newStream(INFER_PROTOCOL, { signal }).catch((cause: unknown) => {
    const refused = (cause as Error).name === 'UnsupportedProtocolError';
    throw refused
      ? new BrainError('refused', 'it lends no models', { cause })
      : new BrainError('unreachable', 'it opens no stream', { cause });
  });
  return new FrameChannel(stream, {
    frameBytesMax: inferFrameBytesMax,
    unreadBytesMax: inferCreditBytes + inferFrameBytesMax,
  });
}

function leave(channel: FrameChannel, done: boolean): void {
  if (done) void channel.close();
  else channel.abort(new Error('the answer is no longer wanted'));
}

const eventsIn = (frame: Uint8Array): InferEvent[] => parseFrame(frame, inferEventSchema).messages;

const unexpected = (expected: string, got: InferEvent | undefined): SuperfleetError =>
  new SuperfleetError('SF_FRAME', 'the member answered with something else', {
    expected,
    got: got?.type ?? 'nothing known here',
  });
