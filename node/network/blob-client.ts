import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from '@libp2p/interface';
import { BLOB_PROTOCOL, type BlobRequest, blobAnswerBytesMax, openAnswer } from '../../protocol/blob.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { frameOf } from '../../protocol/frame.ts';
import { blobChunksInFlight } from '../../protocol/limits.ts';
import { type BlobManifest, blobIdOf, chunkCount, decodeManifest } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import type { BlobReceiver, BlobStore } from '../blobs/types.ts';
import { FrameChannel } from './channel.ts';
import type { Host } from './host.ts';

/**
 * A blob to fetch. Where `bytes` is known, a manifest of another size is refused before anything is stored; where its
 * digest is known too, the manifest of a blob of one chunk is, and is not asked for.
 */
export interface WantedBlob {
  blob: string;
  bytes?: number;
  sha256?: string;
}

export interface FetchOptions {
  /** Addresses to dial when there is no connection. @default none: only what is connected is asked */
  addresses?: readonly string[];
  /** One answer comes within this. @default 60 s */
  answerMs?: number;
  /** Tries without a single new chunk before giving up; waits double from `retryMs`. @default 6, 250 ms */
  triesMax?: number;
  retryMs?: number;
  /** Called after every chunk that was verified and stored. */
  onChunk?(blob: string, index: number): void;
}

/** Codes that a new connection can mend. */
const TRANSIENT = new Set(['SF_UNREACHABLE', 'SF_TIMEOUT', 'SF_FULL']);

/**
 * Fetches blobs from one peer into the store, over one stream, and answers with their sizes and digests. Every chunk
 * is verified as it comes: a wrong one is `SF_NOT_PROVED` and names the peer. A broken connection is taken up where
 * it broke. What fails for good leaves nothing behind in the store.
 */
export async function fetchBlobs(
  host: Host,
  peer: string,
  blobs: readonly (string | WantedBlob)[],
  store: BlobStore,
  signal: AbortSignal,
  options: FetchOptions = {},
): Promise<ResultBlob[]> {
  const transfer = new BlobFetch(host, peer, store, signal, options);
  const finishing: Promise<ResultBlob>[] = [];
  try {
    for (const wanted of blobs) {
      const whole = await transfer.fetch(typeof wanted === 'string' ? { blob: wanted } : wanted);
      // The disk makes one durable while the next is on its way.
      const finished = whole();
      finished.catch(() => {});
      finishing.push(finished);
    }
    return await Promise.all(finishing);
  } finally {
    await Promise.allSettled(finishing);
    // What the peer still answers to a goodbye is nothing to wait for.
    void transfer.end();
  }
}

class BlobFetch {
  readonly #host: Host;
  readonly #peer: string;
  readonly #store: BlobStore;
  readonly #signal: AbortSignal;
  readonly #options: FetchOptions;
  #channel: FrameChannel | null = null;
  #idle = 0;

  constructor(host: Host, peer: string, store: BlobStore, signal: AbortSignal, options: FetchOptions) {
    this.#host = host;
    this.#peer = peer;
    this.#store = store;
    this.#signal = signal;
    this.#options = options;
  }

  /** Resolves when all of its bytes are here; what it resolves with makes them durable and visible. */
  async fetch(wanted: WantedBlob): Promise<() => Promise<ResultBlob>> {
    const manifest =
      manifestOf(wanted) ?? (await this.#store.manifest(wanted.blob)) ?? (await this.#manifest(wanted));
    const receiver = await this.#store.receive(wanted.blob, manifest);
    const orAbandon = async <T>(work: () => Promise<T>): Promise<T> => {
      try {
        return await work();
      } catch (thrown) {
        await receiver.abandon();
        throw thrown;
      }
    };
    await orAbandon(() => this.#retrying(() => this.#chunks(wanted.blob, receiver)));
    return () => orAbandon(() => receiver.finish());
  }

  /** Says done and closes; a stream that does not take it is cut. */
  async end(): Promise<void> {
    const channel = this.#channel;
    this.#channel = null;
    if (channel === null) return;
    try {
      await channel.write(frameOf({ type: 'done' }), AbortSignal.timeout(1_000));
      await channel.close();
    } catch (thrown) {
      channel.abort(asSuperfleetError(thrown));
    }
  }

  async #manifest({ blob, bytes }: WantedBlob): Promise<BlobManifest> {
    const encoded = await this.#retrying(async () => {
      const channel = await this.#open();
      await this.#ask(channel, { type: 'manifest', blob });
      return this.#answer(channel);
    });
    const manifest = this.#decoded(encoded);
    if (blobIdOf(manifest) !== blob)
      throw this.#liar(`a manifest with the digest ${blob}`, blobIdOf(manifest));
    if (bytes !== undefined && manifest.bytes !== bytes) {
      throw this.#liar(`blob ${blob} of ${bytes} bytes`, `${manifest.bytes} bytes`);
    }
    return manifest;
  }

  #decoded(encoded: Uint8Array): BlobManifest {
    try {
      return decodeManifest(encoded);
    } catch (thrown) {
      throw this.#named(thrown);
    }
  }

  /** Keeps `blobChunksInFlight` requests under way until nothing is missing. */
  async #chunks(blob: string, receiver: BlobReceiver): Promise<void> {
    const missing = receiver.missing();
    if (missing.length === 0) return;
    const channel = await this.#open();
    let asked = 0;
    for (const [got, index] of missing.entries()) {
      while (asked < missing.length && asked - got < blobChunksInFlight) {
        await this.#ask(channel, { type: 'chunk', blob, index: missing[asked++]! });
      }
      const bytes = await this.#answer(channel);
      await receiver.write(index, bytes).catch((thrown: unknown) => {
        throw this.#named(thrown);
      });
      this.#idle = 0;
      this.#options.onChunk?.(blob, index);
    }
  }

  /** Runs `work` anew after a fault of the connection, while it gets on. */
  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (thrown) {
        this.#signal.throwIfAborted();
        const error = asSuperfleetError(thrown);
        this.#channel?.abort(error);
        this.#channel = null;
        this.#idle += 1;
        if (!TRANSIENT.has(error.code) || this.#idle >= (this.#options.triesMax ?? 6)) throw error;
        // Many that were turned away at one time come back at different times.
        const ms = (this.#options.retryMs ?? 250) * 2 ** (this.#idle - 1);
        await delay(ms * (0.5 + Math.random()), undefined, {
          signal: this.#signal,
        });
      }
    }
  }

  async #open(): Promise<FrameChannel> {
    if (this.#channel !== null) return this.#channel;
    const connection = await this.#host.dial(this.#peer, this.#options.addresses ?? [], this.#signal);
    const stream = await this.#stream(connection);
    this.#channel = new FrameChannel(stream, {
      frameBytesMax: blobAnswerBytesMax,
      unreadBytesMax: blobChunksInFlight * blobAnswerBytesMax,
    });
    return this.#channel;
  }

  async #stream(connection: Connection) {
    try {
      return await connection.newStream(BLOB_PROTOCOL, { signal: this.#within(10_000) });
    } catch (cause) {
      this.#signal.throwIfAborted();
      connection.abort(new Error('no stream could be opened'));
      throw new SuperfleetError('SF_UNREACHABLE', `peer ${this.#peer} opened no stream for blobs`, {
        expected: BLOB_PROTOCOL,
        got: cause instanceof Error ? cause.message : String(cause),
        cause,
      });
    }
  }

  async #ask(channel: FrameChannel, request: BlobRequest): Promise<void> {
    await channel.write(frameOf(request), this.#within(this.#answerMs));
  }

  async #answer(channel: FrameChannel): Promise<Uint8Array> {
    try {
      return openAnswer(await channel.expect(this.#within(this.#answerMs)));
    } catch (thrown) {
      this.#signal.throwIfAborted();
      if (thrown instanceof Error && thrown.name === 'TimeoutError') {
        throw new SuperfleetError('SF_TIMEOUT', `peer ${this.#peer} did not answer`, {
          expected: `an answer within ${this.#answerMs} ms`,
          got: 'nothing',
        });
      }
      throw thrown;
    }
  }

  get #answerMs(): number {
    return this.#options.answerMs ?? 60_000;
  }

  #within(ms: number): AbortSignal {
    return AbortSignal.any([this.#signal, AbortSignal.timeout(ms)]);
  }

  /** The error, with the peer named where it is about what that peer sent. */
  #named(thrown: unknown): SuperfleetError {
    const error = asSuperfleetError(thrown);
    if (error.code !== 'SF_NOT_PROVED') return error;
    return this.#liar(
      error.expected ?? 'bytes with the digest of the manifest',
      error.got ?? error.message,
      error,
    );
  }

  #liar(expected: string, got: string, cause?: unknown): SuperfleetError {
    return new SuperfleetError(
      'SF_NOT_PROVED',
      `peer ${this.#peer} sent bytes that are not what was asked for`,
      {
        expected,
        got,
        cause,
      },
    );
  }
}

/** The manifest that follows from what is known; null where it does not. */
function manifestOf({ blob, bytes, sha256 }: WantedBlob): BlobManifest | null {
  if (bytes === undefined || sha256 === undefined || chunkCount(bytes) > 1) return null;
  const manifest = { bytes, chunks: chunkCount(bytes) === 0 ? [] : [sha256] };
  return blobIdOf(manifest) === blob ? manifest : null;
}
