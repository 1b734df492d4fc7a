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
import { type TurnLimits, Turns } from './turns.ts';

export interface BlobServerOptions {
  registry: Registry;
  store: Pick<BlobStore, 'manifest' | 'chunk'>;
  /** May this member have this blob? Asked once a blob and stream. @default every member may have every blob */
  allow?(peer: string, blob: string): boolean | Promise<boolean>;
  limits?: Partial<BlobServerLimits>;
}

export interface BlobServerLimits extends TurnLimits {
  /** Streams of one peer; a request on one more is answered SF_FULL. @default 4 */
  streamsPerPeerMax: number;
  /** Requests served at one time, each with one chunk in memory at most; others wait for their turn. @default 64 */
  servedMax: number;
  /** Who has waited for its turn for so long is answered SF_FULL. @default 20 s */
  turnMs: number;
  /** While others wait for a turn, one answer is taken by the peer within this, or its stream is cut. @default 8 s */
  takeMs: number;
  /** A stream without a request for this long is closed. @default 30 s */
  idleMs: number;
  /** One answer is taken by the peer within this, where nobody waits. @default 60 s */
  answerMs: number;
}

const blobServerLimits: BlobServerLimits = {
  streamsPerPeerMax: 4,
  servedMax: 64,
  turnMs: 20_000,
  takeMs: 8_000,
  idleMs: 30_000,
  answerMs: 60_000,
};

/** Serves the blobs of a store to members. Every peer holds a bounded part of our memory, whatever it asks. */
export async function serveBlobs(options: BlobServerOptions): Promise<void> {
  const limits = { ...blobServerLimits, ...options.limits };
  const streams = new Map<string, number>();
  const turns = new Turns(limits);
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

const tooSlow = new SuperfleetError('SF_TIMEOUT', 'the peer took its answer too slowly while others waited');

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
    const turn = (await turns?.next(peer)) ?? null;
    try {
      try {
        if (turn === null)
          throw new SuperfleetError('SF_FULL', 'too many transfers at once; try again later');
        if (allowed !== request.blob && (await options.allow?.(peer, request.blob)) === false) {
          throw new SuperfleetError('SF_REFUSED', `blob ${request.blob} is not for this member`);
        }
        allowed = request.blob;
        answer = await bytesOf(options.store, request);
        head = dataAnswerHead;
      } catch (thrown) {
        answer = faultOf(thrown);
      }
      if (!channel.send(answer, head)) {
        turn?.sending(() => channel.abort(tooSlow));
        await channel.sent(AbortSignal.timeout(limits.answerMs));
      }
    } finally {
      turn?.end();
    }
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
