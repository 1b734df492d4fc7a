import type { MultiaddrConnection, Stream, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface';

/** What we use of yamux's streams and muxers besides their interfaces; what has none of it is left as it is. */
interface Windowed {
  state?: number;
  recvWindow?: number;
  recvWindowCapacity?: number;
  sendWindowUpdate?(): void;
}
interface Streaming {
  onCreateStream?(options: unknown): Stream;
  onRemoteStream?(stream: Stream): void;
}

/** An update of a stream in one of these states also opens it: not yet said to the peer, or not yet acknowledged. */
const OPENING: ReadonlySet<number> = new Set([0, 2]);
/** Of the 256 KiB that a stream begins with: a peer that sends as fast as it can never waits for these. */
const UNSAID_BYTES = 32 * 1024;

/** Yamux that tells a peer of room it has again once that is worth a frame, and not after each message of some bytes. */
export const withFewWindowUpdates = (make: () => StreamMuxerFactory) => (): StreamMuxerFactory => {
  const factory = make();
  const create = factory.createStreamMuxer.bind(factory);
  factory.createStreamMuxer = (connection: MultiaddrConnection): StreamMuxer => eased(create(connection));
  return factory;
};

function eased(muxer: StreamMuxer): StreamMuxer {
  const streaming = muxer as unknown as Streaming;
  const ours = streaming.onCreateStream?.bind(streaming);
  const theirs = streaming.onRemoteStream?.bind(streaming);
  if (ours === undefined || theirs === undefined) return muxer;
  streaming.onCreateStream = (options) => patient(ours(options));
  streaming.onRemoteStream = (stream) => theirs(patient(stream));
  return muxer;
}

function patient(stream: Stream): Stream {
  const windowed = stream as unknown as Windowed;
  const update = windowed.sendWindowUpdate?.bind(windowed);
  if (update === undefined) return stream;
  windowed.sendWindowUpdate = () => {
    const { state = 0, recvWindow = 0, recvWindowCapacity = 0 } = windowed;
    if (OPENING.has(state) || recvWindow - recvWindowCapacity >= UNSAID_BYTES) update();
  };
  return stream;
}
