import { SuperfleetError } from '../../protocol/errors.ts';
import { joinMessages, messageBytes } from '../../protocol/frame.ts';
import { type InferEvent, inferCreditBytes, inferFrameBytesMax } from '../../protocol/infer.ts';
import { BrainError } from '../brain/types.ts';
import type { FrameChannel } from '../network/channel.ts';

/** Events in one frame. */
const FRAME_EVENTS_MAX = 256;

/** Messages on their way to who asked, within the bytes it granted. */
export class Outbox {
  readonly #channel: FrameChannel;
  readonly #stallMs: number;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #credit = inferCreditBytes;
  #ended = false;
  #failure: unknown = null;
  #changed = Promise.withResolvers<void>();

  constructor(channel: FrameChannel, stallMs: number) {
    this.#channel = channel;
    this.#stallMs = stallMs;
  }

  put(events: readonly InferEvent[]): void {
    for (const event of events) {
      const bytes = messageBytes(event);
      if (bytes.byteLength + 2 > inferFrameBytesMax)
        throw new BrainError('broken', 'the model called a tool with more than fits a frame');
      this.#waiting.push(bytes);
      this.#waitingBytes += bytes.byteLength + 1;
    }
    this.wake();
  }

  grant(bytes: number): void {
    if (this.#credit + bytes > inferCreditBytes)
      throw new SuperfleetError('SF_FRAME', 'expected a grant of at most what was sent');
    this.#credit += bytes;
    this.wake();
  }

  end(): void {
    this.#ended = true;
    this.wake();
  }

  fail(reason: unknown): void {
    this.#failure ??= reason;
    this.wake();
  }

  /** Resolves when little waits, or nobody takes it any more. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.#waitingBytes > inferCreditBytes && this.#failure === null && !signal.aborted)
      await this.#changed.promise;
  }

  /** Sends until all is sent after `end`. Rejects when nobody takes it. */
  async run(): Promise<void> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      if (this.#waiting.length > 0 && this.#credit > 0) await this.#send();
      else if (this.#waiting.length === 0 && this.#ended) return;
      else await this.#pause(this.#waiting.length > 0);
    }
  }

  async #send(): Promise<void> {
    const frame = this.#next();
    this.#credit -= frame.byteLength;
    await this.#channel.write(frame, AbortSignal.timeout(this.#stallMs)).catch((reason: unknown) => {
      this.fail(reason);
      throw reason;
    });
    this.wake();
  }

  /** As many of what waits as fit. */
  #next(): Uint8Array {
    const room = Math.min(inferFrameBytesMax, Math.max(this.#credit, 0));
    let bytes = 1;
    let taken = 0;
    for (const next of this.#waiting) {
      if (taken > 0 && (bytes + next.byteLength + 1 > room || taken === FRAME_EVENTS_MAX)) break;
      bytes += next.byteLength + 1;
      taken += 1;
    }
    const messages = this.#waiting.splice(0, taken);
    this.#waitingBytes -= bytes - 1;
    return joinMessages(messages);
  }

  /** Until something changes; what waits for a grant waits no longer than `stallMs`. */
  async #pause(stalled: boolean): Promise<void> {
    const { promise } = this.#changed;
    if (!stalled) return promise;
    const timer = setTimeout(
      () => this.fail(new SuperfleetError('SF_TIMEOUT', 'who asked takes nothing of the answer')),
      this.#stallMs,
    );
    await promise;
    clearTimeout(timer);
  }

  /** Lets those who wait look again. */
  wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
