import type { Stream } from '@libp2p/interface';
import {
  BLOB_PROTOCOL,
  type BlobRequest,
  blobFault,
  blobRequestBytesMax,
  blobRequestSchema,
  dataAnswerHead,
  faultAnswer,
} from '../../protocol/blob.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { parseFrame } from '../../protocol/frame.ts';
import { blobChunksInFlight } from '../../protocol/limits.ts';
import { encodeManifest } from '../../protocol/manifest.ts';
import type { BlobStore } from '../blobs/types.ts';
import { FrameChannel } from './channel.ts';
import type { Registry } from './registry.ts';

export interface BlobServerOptions {
  registry: Registry;
  store: Pick<BlobStore, 'manifest' | 'chunk'>;
  /** May this member have this blob? Asked once a blob and stream. @default every member may have every blob */
  allow?(peer: string, blob: string): boolean | Promise<boolean>;
  limits?: Partial<BlobServerLimits>;
}

export interface BlobServerLimits {
  /** Streams of one peer; a request on one more is answered SF_FULL. @default 4 */
  streamsPerPeerMax: number;
  /** Requests served at one time, each with one chunk in memory at most; others wait for their turn. @default 64 */
  servedMax: number;
  /** Who has waited for its turn for so long is answered SF_FULL. @default 20 s */
  turnMs: number;
  /** A stream without a request for this long is closed. @default 30 s */
  idleMs: number;
  /** One answer is taken by the peer within this. @default 60 s */
  answerMs: number;
}

const blobServerLimits: BlobServerLimits = {
  streamsPerPeerMax: 4,
  servedMax: 64,
  turnMs: 20_000,
  idleMs: 30_000,
  answerMs: 60_000,
};

/** Serves the blobs of a store to members. Every peer holds a bounded part of our memory, whatever it asks. */
export async function serveBlobs(options: BlobServerOptions): Promise<void> {
  const limits = { ...blobServerLimits, ...options.limits };
  const streams = new Map<string, number>();
  const turns = new Turns(limits.servedMax, limits.turnMs);
  await options.registry.handleProtocol({
    protocol: BLOB_PROTOCOL,
    access: 'members',
    maxInboundStreams: limits.streamsPerPeerMax + 1,
    handler: async (stream, connection) => {
      const peer = connection.remotePeer.toString();
      const ofPeer = streams.get(peer) ?? 0;
      const full = ofPeer >= limits.streamsPerPeerMax;
      streams.set(peer, ofPeer + 1);
      try {
        await serve(stream, peer, full ? null : turns, options, limits);
      } finally {
        const left = (streams.get(peer) ?? 1) - 1;
        if (left > 0) streams.set(peer, left);
        else streams.delete(peer);
      }
    },
  });
}

async function serve(
  stream: Stream,
  peer: string,
  /** Null: this stream is one too many of its peer's. */
  turns: Turns | null,
  options: BlobServerOptions,
  limits: BlobServerLimits,
): Promise<void> {
  const channel = new FrameChannel(stream, {
    frameBytesMax: blobRequestBytesMax,
    unreadBytesMax: 2 * blobChunksInFlight * blobRequestBytesMax,
  });
  let allowed: string | null = null;
  for (;;) {
    const frame = await channel.read(AbortSignal.timeout(limits.idleMs));
    if (frame === null) return;
    const request = parseFrame(frame, blobRequestSchema, 1).messages[0];
    if (request === undefined || request.type === 'done') return;
    let answer: Uint8Array;
    let head: Uint8Array | undefined;
    const served = (await turns?.next()) ?? false;
    try {
      try {
        if (!served) throw new SuperfleetError('SF_FULL', 'too many transfers at once; try again later');
        if (allowed !== request.blob && (await options.allow?.(peer, request.blob)) === false) {
          throw new SuperfleetError('SF_REFUSED', `blob ${request.blob} is not for this member`);
        }
        allowed = request.blob;
        answer = await bytesOf(options.store, request);
        head = dataAnswerHead;
      } catch (thrown) {
        answer = faultOf(thrown);
      }
      await channel.write(answer, AbortSignal.timeout(limits.answerMs), head);
    } finally {
      if (served) turns?.done();
    }
  }
}

/** Lets so many on at one time, the others in the order in which they came. */
class Turns {
  #free: number;
  readonly #waitMs: number;
  readonly #waiting = new Set<(on: boolean) => void>();

  constructor(max: number, waitMs: number) {
    this.#free = max;
    this.#waitMs = waitMs;
  }

  /** True: it is one's turn, until `done`. False: it did not come in time. */
  next(): Promise<boolean> | boolean {
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => settle(false), this.#waitMs);
      const settle = (on: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(settle);
        resolve(on);
      };
      this.#waiting.add(settle);
    });
  }

  done(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#free += 1;
    else next(true);
  }
}

async function bytesOf(
  store: BlobServerOptions['store'],
  request: Exclude<BlobRequest, { type: 'done' }>,
): Promise<Uint8Array> {
  if (request.type === 'chunk') return store.chunk(request.blob, request.index);
  const manifest = await store.manifest(request.blob);
  if (manifest !== null) return encodeManifest(manifest);
  throw new SuperfleetError('SF_NOT_FOUND', `blob ${request.blob} is not here`);
}

function faultOf(thrown: unknown): Uint8Array {
  const error = asSuperfleetError(thrown);
  const code = blobFault.shape.code.safeParse(error.code);
  return faultAnswer({
    code: code.success ? code.data : 'SF_INTERNAL',
    // What an unexpected error says may name paths of this machine: it stays here.
    message:
      code.success && code.data !== 'SF_INTERNAL' ? error.message.slice(0, 512) : 'the blob cannot be read',
  });
}
