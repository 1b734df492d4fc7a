import { SuperfleetError } from '../../protocol/errors.ts';
import { frameOf, parseFrame } from '../../protocol/frame.ts';
import {
  INFER_PROTOCOL,
  type InferChat,
  type InferEvent,
  type InferRequest,
  inferAliveMs,
  inferCreditBytes,
  inferRequestBytesMax,
  inferRequestSchema,
  inferTextMax,
} from '../../protocol/infer.ts';
import { asBrainError, clip } from '../brain/fault.ts';
import { BrainError, type ChatEvent, type ChatRequest } from '../brain/types.ts';
import { FrameChannel } from '../network/channel.ts';
import type { Registry } from '../network/registry.ts';
import type { OfferedModels } from './offered.ts';
import { Outbox } from './outbox.ts';

export interface InferServerOptions {
  registry: Registry;
  models: Pick<OfferedModels, 'told' | 'chat'>;
  /** Whether this machine lends its models now: its owner allows it, and has not paused it. */
  lends(): boolean;
  /** An answer is given to this peer; for the log. @default of no interest */
  onRequest?(peer: string, model: string, correlation: string): void;
  limits?: Partial<InferServerLimits>;
}

export interface InferServerLimits {
  /** Answers of one peer at a time, and of all; one more is refused as `busy`. @default 2, 4 */
  perPeerMax: number;
  requestsMax: number;
  /** A request has come whole within this. @default 30 s */
  requestMs: number;
  /** Whoever takes nothing of an answer for so long is let go. @default 60 s */
  stallMs: number;
  /** One answer. @default 60 min */
  answerMs: number;
}

const serverLimits: InferServerLimits = {
  perPeerMax: 2,
  requestsMax: 4,
  requestMs: 30_000,
  stallMs: 60_000,
  answerMs: 60 * 60_000,
};

/** Streams of one peer, and of all: each may hold a request in memory before it is known what it asks. */
const PEER_STREAMS_MAX = 8;
const STREAMS_MAX = 32;

/** What lends the models of this machine to members. */
export interface InferenceServer {
  /** Answers under way. */
  readonly running: number;
  /** Lets go of every model at once; those who asked are told `busy`. */
  drop(): void;
}

/** Lends the models of this machine to members: bounded in number, size and time, and stopped when who asked has left. */
export async function serveInference(options: InferServerOptions): Promise<InferenceServer> {
  const limits = { ...serverLimits, ...options.limits };
  const streams: string[] = [];
  const running = new Map<AbortController, string>();
  /** Why no answer is given now, in words; null: one is. */
  const refusalOf = (peer: string): string | null => {
    if (!options.lends())
      return 'it does not lend its models now: its owner or the operator of the mesh says so';
    const ofPeer = countOf(running.values(), peer);
    if (ofPeer < limits.perPeerMax && running.size < limits.requestsMax) return null;
    return `it gives ${running.size} answers already, ${ofPeer} of them here`;
  };
  const serve = async (channel: FrameChannel, peer: string, full: boolean): Promise<void> => {
    const tell = (event: InferEvent): Promise<void> =>
      channel.write(frameOf(event), AbortSignal.timeout(limits.stallMs));
    if (full) return tell({ type: 'error', fault: 'busy', message: 'too many requests at once' });
    const request = requestIn(await channel.expect(AbortSignal.timeout(limits.requestMs)));
    if (request.type === 'list') {
      const lends = options.lends();
      const models = lends ? await options.models.told() : [];
      return tell({ type: 'models', models, running: running.size, lends });
    }
    if (request.type !== 'chat') throw new SuperfleetError('SF_FRAME', 'expected a request for a model');
    const refusal = refusalOf(peer);
    if (refusal !== null) return tell({ type: 'error', fault: 'busy', message: refusal });
    const stop = new AbortController();
    running.set(stop, peer);
    try {
      options.onRequest?.(peer, request.chat.model, request.correlation);
      await answer(channel, chatOf(request.chat), options.models, stop, limits);
    } finally {
      running.delete(stop);
    }
  };
  await options.registry.handleProtocol({
    protocol: INFER_PROTOCOL,
    access: 'members',
    maxInboundStreams: PEER_STREAMS_MAX + 1,
    handler: async (stream, connection) => {
      const peer = connection.remotePeer.toString();
      const full = streams.length >= STREAMS_MAX || countOf(streams, peer) >= PEER_STREAMS_MAX;
      const channel = new FrameChannel(stream, {
        frameBytesMax: full ? 0 : inferRequestBytesMax,
        unreadBytesMax: inferRequestBytesMax + inferCreditBytes,
        ...(full ? { onFault: 'tell' as const } : {}),
      });
      streams.push(peer);
      try {
        await serve(channel, peer, full);
      } finally {
        streams.splice(streams.indexOf(peer), 1);
      }
    },
  });
  return {
    get running() {
      return running.size;
    },
    drop: () => {
      for (const stop of running.keys())
        stop.abort(new BrainError('busy', 'it does not lend its models now'));
    },
  };
}

function countOf(peers: Iterable<string>, peer: string): number {
  let count = 0;
  for (const one of peers) if (one === peer) count += 1;
  return count;
}

function requestIn(frame: Uint8Array): InferRequest {
  const request = parseFrame(frame, inferRequestSchema, 1).messages[0];
  if (request === undefined) throw new SuperfleetError('SF_FRAME', 'expected a request or a grant');
  return request;
}

/** Gives one answer: what has come while a frame was under way goes out together in the next. */
async function answer(
  channel: FrameChannel,
  request: ChatRequest,
  models: InferServerOptions['models'],
  stop: AbortController,
  limits: InferServerLimits,
): Promise<void> {
  const outbox = new Outbox(channel, limits.stallMs);
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(limits.answerMs)]);
  void hear(channel, outbox).catch((reason: unknown) => {
    outbox.fail(reason);
    stop.abort(reason);
  });
  // A model is let go of at once, also while its answer waits for who asked.
  signal.addEventListener('abort', () => outbox.wake(), { once: true });
  const alive = setInterval(() => outbox.put([{ type: 'alive' }]), inferAliveMs);
  const sent = outbox.run().catch((reason: unknown) => {
    stop.abort(reason);
    throw reason;
  });
  // Seen by nobody before the end of the answer, which may be never.
  sent.catch(() => {});
  try {
    for await (const event of models.chat(request, signal)) {
      outbox.put(piecesOf(event));
      await outbox.room(signal);
    }
  } catch (thrown) {
    const { fault, message } = asBrainError(thrown, 'the model server', false);
    outbox.put([{ type: 'error', fault, message: clip(message, 1_000) }]);
  } finally {
    clearInterval(alive);
    outbox.end();
  }
  await sent;
}

/** Takes grants until who asked has left, which it throws. */
async function hear(channel: FrameChannel, outbox: Outbox): Promise<never> {
  for (;;) {
    const frame = await channel.read();
    if (frame === null) throw new SuperfleetError('SF_UNREACHABLE', 'who asked has left');
    const request = requestIn(frame);
    if (request.type !== 'grant') throw new SuperfleetError('SF_FRAME', 'expected a grant');
    outbox.grant(request.bytes);
  }
}

/** An event as messages of a bounded size. */
function piecesOf(event: ChatEvent): InferEvent[] {
  if ((event.type !== 'text' && event.type !== 'thinking') || event.text.length <= inferTextMax)
    return [event];
  const pieces: InferEvent[] = [];
  for (let at = 0; at < event.text.length; ) {
    // Not between the two halves of one character.
    const cut = at + inferTextMax;
    const end = isHighSurrogate(event.text.charCodeAt(cut - 1)) ? cut - 1 : cut;
    pieces.push({ type: event.type, text: event.text.slice(at, end) });
    at = end;
  }
  return pieces;
}

const isHighSurrogate = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;

/** Options that were not given are left out, as a brain's request has it. */
function chatOf({ temperature, keepAliveMs, ...rest }: InferChat): ChatRequest {
  return {
    ...rest,
    ...(temperature === undefined ? {} : { temperature }),
    ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
  };
}
