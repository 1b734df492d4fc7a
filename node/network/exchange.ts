import {
  type ApiAnswer,
  type ApiRequest,
  apiCreditBytes,
  apiData,
  apiDataBytesMax,
  apiFault,
  apiFrameBytesMax,
  apiWords,
  errorOfFault,
  openApiFrame,
} from '../../protocol/api.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { FrameChannel } from './channel.ts';

/** A body that the other side does not take for so long breaks the exchange. */
const STALLED_MS = 120_000;
/** A fault that the other side does not take within this is not told. */
const LAST_WORD_MS = 1_000;

/** What a channel of an exchange must be able to hold: what was granted, and words between. */
export const exchangeLimits = {
  frameBytesMax: apiFrameBytesMax,
  unreadBytesMax: 2 * apiCreditBytes,
} as const;

/**
 * One request or answer each way over one stream: a head, then a body within the bytes granted. Reading goes on by
 * itself and holds at most the credit; a side that sends past it, or out of turn, breaks the exchange with `SF_FRAME`.
 */
export class Exchange {
  readonly #channel: FrameChannel;
  /** What this side waits for: a request, or the answer to its own. */
  readonly #awaits: 'request' | 'answer';
  readonly #head = Promise.withResolvers<ApiRequest | ApiAnswer>();
  readonly #broken = new AbortController();
  #breaking: Promise<void> | null = null;
  #headed = false;
  /** Bytes of the other side's body that wait to be taken. */
  #inbox: Uint8Array[] = [];
  /** Bytes the other side may still send. */
  #granted = apiCreditBytes;
  #ungranted = 0;
  #ended = false;
  #sent = false;
  /** Bytes we may still send. */
  #credit = apiCreditBytes;
  #wake = new Set<() => void>();

  constructor(channel: FrameChannel, awaits: 'request' | 'answer') {
    this.#channel = channel;
    this.#awaits = awaits;
    this.#head.promise.catch(() => {});
    void this.#read().catch((thrown: unknown) => this.break(thrown));
  }

  /** Aborted, with the reason, when the stream broke, the other side gave up, or we did. */
  get signal(): AbortSignal {
    return this.#broken.signal;
  }

  /** The other side's head, within this time (null: as long as it takes). */
  async head(ms: number | null = null): Promise<ApiRequest | ApiAnswer> {
    if (ms === null) return this.#head.promise;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      late.reject(
        new SuperfleetError('SF_TIMEOUT', 'no request came in time', { expected: `within ${ms} ms` }),
      );
    }, ms);
    return Promise.race([this.#head.promise, late.promise]).finally(() => clearTimeout(timer));
  }

  /** Our head and body, to the end of it; null: there is none. */
  async send(head: ApiRequest | ApiAnswer, body: ReadableStream<Uint8Array> | null): Promise<void> {
    await this.#write(apiWords(head));
    for await (const bytes of body === null ? [] : untilBroken(body, this.signal)) {
      for (let at = 0; at < bytes.byteLength; ) {
        while (this.#credit === 0) await this.#change(AbortSignal.timeout(STALLED_MS));
        const piece = bytes.subarray(at, at + Math.min(this.#credit, apiDataBytesMax));
        this.#credit -= piece.byteLength;
        at += piece.byteLength;
        await this.#write(apiData(piece));
      }
    }
    await this.#write(apiWords({ type: 'end' }));
    this.#sent = true;
    if (this.#ended) await this.#channel.close();
  }

  /** The other side's body as it comes; what is taken is granted again. Leaving it early ends the exchange. */
  body(): ReadableStream<Uint8Array> {
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          while (this.#inbox.length === 0 && !this.#ended) await this.#change();
          const bytes = this.#inbox.shift();
          if (bytes === undefined) return controller.close();
          controller.enqueue(bytes);
          await this.#grant(bytes.byteLength);
        },
        cancel: (reason) => this.break(reason ?? new Error('nobody reads on')),
      },
      { highWaterMark: 0 },
    );
  }

  /** Gives the exchange up; the other side is told why where the stream still carries words. Never rejects. */
  break(thrown: unknown): Promise<void> {
    this.#breaking ??= this.#break(asSuperfleetError(thrown));
    return this.#breaking;
  }

  async #break(error: SuperfleetError): Promise<void> {
    this.#broken.abort(error);
    this.#head.reject(error);
    for (const wake of this.#wake) wake();
    try {
      // What is nobody's fault, and what a broken stream cannot say, ends it at once.
      if (error.code === 'SF_INTERNAL' || error.code === 'SF_UNREACHABLE') throw error;
      await this.#channel.write(apiWords(apiFault(error.toJSON())), AbortSignal.timeout(LAST_WORD_MS));
      await this.#channel.close();
    } catch {
      this.#channel.abort(error);
    }
  }

  async close(): Promise<void> {
    await this.#channel.close();
  }

  async #read(): Promise<void> {
    for (;;) {
      const bytes = await this.#channel.read();
      if (bytes === null) {
        // Who asks closes the stream when all is answered, and not before.
        if (this.#ended && (this.#sent || this.#awaits === 'answer')) return;
        throw new SuperfleetError('SF_UNREACHABLE', 'the other side closed the stream half way');
      }
      this.#take(openApiFrame(bytes));
    }
  }

  #take(frame: ReturnType<typeof openApiFrame>): void {
    switch (frame.type) {
      case 'fault':
        throw errorOfFault(frame);
      case 'grant':
        if (this.#credit + frame.bytes > apiCreditBytes) throw outOfTurn('a grant of at most what was sent');
        this.#credit += frame.bytes;
        break;
      case 'request':
      case 'answer':
        if (this.#headed || frame.type !== this.#awaits) throw outOfTurn(`one ${this.#awaits}`);
        this.#headed = true;
        this.#head.resolve(frame);
        return;
      case 'data':
        if (!this.#headed || this.#ended || frame.bytes.byteLength > this.#granted) {
          throw outOfTurn('bytes within what was granted, after the head and before the end');
        }
        this.#granted -= frame.bytes.byteLength;
        this.#inbox.push(frame.bytes);
        break;
      case 'end':
        if (!this.#headed || this.#ended) throw outOfTurn('one end');
        this.#ended = true;
        if (this.#awaits === 'answer') this.#answered();
        break;
      default:
        frame satisfies never;
    }
    for (const wake of this.#wake) wake();
  }

  /** The whole answer is here: what was still to be sent of the request is not wanted. */
  #answered(): void {
    if (this.#sent) void this.#channel.close();
    else void this.break(new Error('answered before the request had ended'));
  }

  /** In steps of a quarter, so that small pieces cost no frame each. */
  async #grant(bytes: number): Promise<void> {
    this.#ungranted += bytes;
    if (this.#ended || this.#ungranted < apiCreditBytes / 4) return;
    const grant = this.#ungranted;
    this.#ungranted = 0;
    this.#granted += grant;
    await this.#write(apiWords({ type: 'grant', bytes: grant }));
  }

  async #write(frame: Uint8Array): Promise<void> {
    this.#broken.signal.throwIfAborted();
    await this.#channel.write(frame, AbortSignal.any([this.#broken.signal, AbortSignal.timeout(STALLED_MS)]));
  }

  /** Settles when something came; throws why the exchange is broken. */
  async #change(timeout?: AbortSignal): Promise<void> {
    this.#broken.signal.throwIfAborted();
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#wake.delete(wake);
        timeout?.removeEventListener('abort', wake);
        resolve();
      };
      this.#wake.add(wake);
      timeout?.addEventListener('abort', wake, { once: true });
    });
    this.#broken.signal.throwIfAborted();
    timeout?.throwIfAborted();
  }
}

/** What a stream gives until its end; a signal ends it too, also while it has nothing to give. */
async function* untilBroken(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  const cancel = (): void => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener('abort', cancel, { once: true });
  try {
    if (signal.aborted) cancel();
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
    signal.throwIfAborted();
  } finally {
    signal.removeEventListener('abort', cancel);
    // Left half way: whoever makes it is told that nobody takes it.
    cancel();
  }
}

const outOfTurn = (expected: string): SuperfleetError =>
  new SuperfleetError('SF_FRAME', 'the peer sent a frame out of turn', { expected });
