import { SuperfleetError } from './errors.ts';
import { joinMessages } from './frame.ts';
import {
  frameBytesMax,
  frameMessagesMax,
  sessionCreditBytes,
  sessionQueueBytesMax,
  sessionReserveBytes,
} from './limits.ts';

/**
 * Credit in bytes for one direction of a control stream, without IO. What costs credit is the body of a frame.
 * A frame is of one lane: urgent, normal, or free. Normal frames leave the reserve untouched; urgent ones may use
 * it; free ones (grants and goodbye) cost nothing, so that the two sides can never wait for each other.
 */
export interface FlowLimits {
  /** Bytes the sender may have on the way or unread. @default sessionCreditBytes */
  creditBytes: number;
  /** The part of the credit that only urgent frames may use. @default sessionReserveBytes */
  reserveBytes: number;
  /** @default frameBytesMax */
  frameBytesMax: number;
  /** @default frameMessagesMax */
  frameMessagesMax: number;
  /** Bytes that may wait to be sent. @default sessionQueueBytesMax */
  queueBytesMax: number;
}

export const flowLimits: Readonly<FlowLimits> = {
  creditBytes: sessionCreditBytes,
  reserveBytes: sessionReserveBytes,
  frameBytesMax,
  frameMessagesMax,
  queueBytesMax: sessionQueueBytesMax,
};

export type Lane = 'free' | 'urgent' | 'normal';

/** Types that cost no credit; a frame is free when it holds nothing else. */
export const FREE: ReadonlySet<string> = new Set(['grant', 'goodbye']);

/** Bytes consumed that make a grant worth a frame: half the reserve, so that urgent frames never run dry. */
export const grantStep = (limits: FlowLimits): number => limits.reserveBytes >> 1;

/** Bytes of `[`, `]` and the commas around messages in a frame: one a message and one more. */
const framing = (messages: number): number => messages + 1;

/** A first-in first-out list of byte strings with its size; shifting is cheap at any length. */
class ByteQueue {
  #items: Uint8Array[] = [];
  #head = 0;
  bytes = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: Uint8Array): void {
    this.#items.push(item);
    this.bytes += item.byteLength;
  }

  peek(offset = 0): Uint8Array | undefined {
    return this.#items[this.#head + offset];
  }

  take(count: number): Uint8Array[] {
    const taken = this.#items.slice(this.#head, this.#head + count);
    this.#head += taken.length;
    for (const item of taken) this.bytes -= item.byteLength;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return taken;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.bytes = 0;
  }
}

/**
 * The sending side. Promises: bytes on the way never exceed the credit; order is kept within a lane; urgent frames
 * go first and, up to half the reserve each, never wait for what the receiver does with normal ones.
 */
export class FlowSender {
  readonly #limits: FlowLimits;
  readonly #lanes: Record<Lane, ByteQueue> = {
    free: new ByteQueue(),
    urgent: new ByteQueue(),
    normal: new ByteQueue(),
  };
  #credit: number;

  constructor(limits: FlowLimits = flowLimits) {
    this.#limits = limits;
    this.#credit = limits.creditBytes;
  }

  /** Bytes the peer will still take. */
  get credit(): number {
    return this.#credit;
  }

  /** Bytes waiting for credit or for the wire. */
  get queuedBytes(): number {
    return this.#lanes.free.bytes + this.#lanes.urgent.bytes + this.#lanes.normal.bytes;
  }

  /**
   * Takes one message as JSON bytes. False: the queue is full, the message was not taken, and the stream should be
   * given up. A message that fits no frame is a defect of the caller: `SF_FRAME`.
   */
  push(message: Uint8Array, lane: Lane): boolean {
    if (message.byteLength + framing(1) > this.#limits.frameBytesMax) {
      throw new SuperfleetError('SF_FRAME', 'a message is too large to be sent', {
        expected: `at most ${this.#limits.frameBytesMax - framing(1)} bytes`,
        got: `${message.byteLength} bytes`,
      });
    }
    if (this.queuedBytes + message.byteLength > this.#limits.queueBytesMax) return false;
    this.#lanes[lane].push(message);
    return true;
  }

  /** The peer granted bytes; more than was ever taken is `SF_FRAME`. */
  granted(bytes: number): void {
    if (this.#credit + bytes > this.#limits.creditBytes) {
      throw new SuperfleetError('SF_FRAME', 'the peer granted more bytes than it was sent', {
        expected: `at most ${this.#limits.creditBytes - this.#credit} bytes`,
        got: `${bytes} bytes`,
      });
    }
    this.#credit += bytes;
  }

  /** The body of the next frame to write, or null until there is a message or more credit. */
  next(): Uint8Array | null {
    const { frameBytesMax, reserveBytes } = this.#limits;
    return (
      this.#pack('free', frameBytesMax, Number.POSITIVE_INFINITY) ??
      this.#pack('urgent', Math.min(frameBytesMax, reserveBytes >> 1), this.#credit) ??
      this.#pack('normal', frameBytesMax, this.#credit - reserveBytes)
    );
  }

  /** Forgets everything that waits: the stream is being given up. */
  clear(): void {
    for (const lane of Object.values(this.#lanes)) lane.clear();
  }

  /** As many messages as fit `wanted` and `affordable`; one that is larger than `wanted` goes alone. */
  #pack(lane: Lane, wanted: number, affordable: number): Uint8Array | null {
    const queue = this.#lanes[lane];
    let count = 0;
    let size = framing(0);
    while (count < Math.min(queue.length, this.#limits.frameMessagesMax)) {
      const grown = size + queue.peek(count)!.byteLength + 1;
      if (grown > affordable || (count > 0 && grown > wanted)) break;
      size = grown;
      count += 1;
    }
    if (count === 0) return null;
    if (lane !== 'free') this.#credit -= size;
    return joinMessages(queue.take(count));
  }
}

/**
 * The receiving side: knows how much may still come, and says when to grant. Promise: what has come and is not yet
 * consumed never exceeds the credit, or the peer is refused.
 */
export class FlowReceiver {
  readonly #limits: FlowLimits;
  #unconsumed = 0;
  #ungranted = 0;

  constructor(limits: FlowLimits = flowLimits) {
    this.#limits = limits;
  }

  /** Bytes that came and were not consumed. */
  get unconsumed(): number {
    return this.#unconsumed;
  }

  /** A frame of this size came; past the credit it is `SF_FRAME`. */
  received(bytes: number): void {
    const room = this.#limits.creditBytes - this.#unconsumed - this.#ungranted;
    if (bytes > room) {
      throw new SuperfleetError('SF_FRAME', 'the peer sent more than it was granted', {
        expected: `at most ${room} bytes`,
        got: `${bytes} bytes`,
      });
    }
    this.#unconsumed += bytes;
  }

  /** Bytes have been dealt with; the answer is how many to grant now, 0 while too few to be worth a frame. */
  consumed(bytes: number): number {
    this.#unconsumed -= bytes;
    this.#ungranted += bytes;
    if (this.#ungranted < grantStep(this.#limits)) return 0;
    const grant = this.#ungranted;
    this.#ungranted = 0;
    return grant;
  }
}

/** The bytes of a frame shared out over its messages, so that each can be consumed by itself. */
export function shares(frameBytes: number, messages: number): number[] {
  const share = Math.floor(frameBytes / messages);
  return Array.from({ length: messages }, (_, index) =>
    index === 0 ? frameBytes - share * (messages - 1) : share,
  );
}
