import type { Stream } from '@libp2p/interface';
import { SuperfleetError } from '../../protocol/errors.ts';
import { FrameDecoder, lengthPrefix, withLength } from '../../protocol/frame.ts';
import { frameBytesMax } from '../../protocol/limits.ts';

export interface ChannelLimits {
  /** @default frameBytesMax */
  frameBytesMax?: number;
  /** Bytes of frames that may wait to be read; a peer that sends more is cut off. @default 2 frames */
  unreadBytesMax?: number;
  /** What a peer gets that breaks these bounds: its stream aborted at once, or our words first. @default abort */
  onFault?: 'abort' | 'tell';
}

/**
 * Frames that may wait to be read: each costs memory besides its bytes, and one may have none. Far more than an honest peer
 * has on the way: one for every 16 bytes that may be unread, within these.
 */
const unreadFrames = { min: 1_024, max: 65_536, bytesEach: 16 };
/** A body of this size goes out as it is, after its length: a copy of it would cost more than a message of its own. */
const UNCOPIED_BYTES_MIN = 64 * 1024;
const nothing = new Uint8Array(0);

/**
 * Frames over one libp2p stream. Reading is bounded: a peer that sends past `unreadBytesMax`, a frame past
 * `frameBytesMax` or more frames than anyone needs breaks the channel with `SF_FRAME`. Writing resolves when the bytes have left for the socket, so
 * whoever awaits it holds one frame at most. One reader and one writer at a time.
 */
export class FrameChannel {
  readonly stream: Stream;
  readonly #decoder: FrameDecoder;
  readonly #unreadBytesMax: number;
  readonly #unreadFramesMax: number;
  readonly #onFault: 'abort' | 'tell';
  #frames: Uint8Array[] = [];
  #unread = 0;
  #failure: Error | null = null;
  #ended = false;
  #wake: (() => void) | null = null;

  constructor(stream: Stream, limits: ChannelLimits = {}) {
    const frameMax = limits.frameBytesMax ?? frameBytesMax;
    this.stream = stream;
    this.#decoder = new FrameDecoder(frameMax);
    this.#unreadBytesMax = limits.unreadBytesMax ?? 2 * frameMax;
    const { min, max, bytesEach } = unreadFrames;
    this.#unreadFramesMax = Math.min(max, Math.max(min, Math.floor(this.#unreadBytesMax / bytesEach)));
    this.#onFault = limits.onFault ?? 'abort';
    stream.addEventListener('close', (event) => this.#end(event.error ?? null));
    stream.addEventListener('end', () => this.#end(null));
    stream.addEventListener('message', ({ data }) => this.#take(data instanceof Uint8Array ? [data] : data));
    // Negotiation may have read ahead and pushed back: then the end was told before the last bytes are.
    if (stream.status !== 'open')
      this.#end(stream.status === 'closed' ? null : new Error('the stream broke'));
    else if (stream.readableEnded && stream.readBufferLength === 0) this.#end(null);
  }

  /**
   * The next frame, or null when the peer has closed its side after a whole frame. Rejects with `SF_FRAME` for bad
   * framing, `SF_UNREACHABLE` when the stream broke, and the signal's reason.
   */
  async read(signal?: AbortSignal): Promise<Uint8Array | null> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame !== undefined) {
        this.#unread -= frame.byteLength;
        return frame;
      }
      if (this.#failure !== null) throw this.#failure;
      if (this.#ended) return null;
      await this.#changed(signal);
    }
  }

  /** As `read`, where the end of the stream is an error too. */
  async expect(signal?: AbortSignal): Promise<Uint8Array> {
    const frame = await this.read(signal);
    if (frame === null) throw broken('the peer closed the stream before it answered');
    return frame;
  }

  /**
   * Sends one frame, `head` before `body`, and waits until the muxer has taken all of it. A large body is not copied:
   * nobody may change its bytes afterwards.
   */
  async write(body: Uint8Array, signal?: AbortSignal, head: Uint8Array = nothing): Promise<void> {
    signal?.throwIfAborted();
    if (!this.send(body, head)) await this.sent(signal);
  }

  /** Hands one frame to the muxer. True: it has taken all of it; else `sent` waits for that, and comes before the next frame. */
  send(body: Uint8Array, head: Uint8Array = nothing): boolean {
    const { stream } = this;
    if (this.#failure !== null && stream.status !== 'open') throw this.#failure;
    try {
      if (body.byteLength < UNCOPIED_BYTES_MIN) {
        stream.send(withLength(head.byteLength === 0 ? body : Buffer.concat([head, body])));
      } else {
        stream.send(Buffer.concat([lengthPrefix(head.byteLength + body.byteLength), head]));
        stream.send(body);
      }
    } catch (cause) {
      throw broken('the stream is closed', cause);
    }
    return stream.status === 'open' && !stream.writableNeedsDrain && stream.writeBufferLength === 0;
  }

  /** Resolves when the muxer has taken all of the last frame. */
  async sent(signal?: AbortSignal): Promise<void> {
    const { stream } = this;
    // A single drain event may stand for a part of the bytes only: wait until nothing is left.
    while (stream.writableNeedsDrain || stream.writeBufferLength > 0) {
      if (stream.status !== 'open') break;
      await eventOf(stream, signal);
    }
    if (stream.status === 'aborted' || stream.status === 'reset') {
      throw this.#failure ?? broken('the stream broke while a frame was sent');
    }
  }

  /** Ends our side and waits for the other to end its own; aborts after `timeoutMs`. Never rejects. */
  close(timeoutMs = 2_000): Promise<void> {
    return finish(this.stream, timeoutMs);
  }

  abort(reason: Error): void {
    this.#end(reason);
    this.stream.abort(reason);
  }

  #take(pieces: Iterable<Uint8Array>): void {
    if (this.#failure !== null) return;
    try {
      for (const bytes of pieces) {
        for (const frame of this.#decoder.push(bytes)) {
          this.#frames.push(frame);
          this.#unread += frame.byteLength;
        }
        const frames = this.#frames.length;
        if (this.#unread <= this.#unreadBytesMax && frames <= this.#unreadFramesMax) continue;
        throw new SuperfleetError('SF_FRAME', 'the peer sent more than it may', {
          expected: `at most ${this.#unreadBytesMax} bytes in ${this.#unreadFramesMax} frames not yet read`,
          got: `${this.#unread} bytes in ${frames} frames`,
        });
      }
    } catch (thrown) {
      this.#failure = thrown instanceof Error ? thrown : new Error(String(thrown));
      this.#frames = [];
      this.#unread = 0;
      const failure = this.#failure;
      // Not from within the stream's own dispatch of these bytes.
      if (this.#onFault === 'abort') queueMicrotask(() => this.stream.abort(failure));
    }
    if (this.stream.readableEnded && this.stream.readBufferLength === 0) this.#end(null);
    this.#wake?.();
  }

  #end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error !== null)
      this.#failure ??= error instanceof SuperfleetError ? error : broken(error.message, error);
    else if (!this.#decoder.atBoundary) this.#failure ??= broken('the stream ended within a frame');
    this.#wake?.();
  }

  #changed(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const done = (): void => {
        signal?.removeEventListener('abort', stop);
        this.#wake = null;
        resolve();
      };
      const stop = (): void => {
        this.#wake = null;
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', stop, { once: true });
      this.#wake = done;
    });
  }
}

/**
 * Ends a stream so that nothing of it is left: our side is closed, the other side has `timeoutMs` to close its own (a
 * muxer keeps a half-closed stream for ever), then it is aborted.
 */
export async function finish(stream: Stream, timeoutMs: number): Promise<void> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    await stream.close({ signal });
    while (stream.status === 'open' || stream.status === 'closing') await eventOf(stream, signal);
  } catch (thrown) {
    stream.abort(thrown instanceof Error ? thrown : new Error(String(thrown)));
  }
}

const broken = (message: string, cause?: unknown): SuperfleetError =>
  new SuperfleetError('SF_UNREACHABLE', message, { expected: 'an open stream', cause });

/** Resolves at the next event that may change what a writer waits for. */
function eventOf(stream: Stream, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const events = ['drain', 'idle', 'close'] as const;
    const clean = (): void => {
      for (const event of events) stream.removeEventListener(event, done);
      signal?.removeEventListener('abort', stop);
    };
    const done = (): void => {
      clean();
      resolve();
    };
    const stop = (): void => {
      clean();
      reject(signal?.reason);
    };
    for (const event of events) stream.addEventListener(event, done);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
