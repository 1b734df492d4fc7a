import type { Connection, Stream } from '@libp2p/interface';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import {
  type FlowLimits,
  FlowReceiver,
  FlowSender,
  FREE,
  flowLimits,
  type Lane,
  shares,
} from '../../protocol/flow.ts';
import { type MessageSchema, messageBytes, parseFrame, parseUnchecked } from '../../protocol/frame.ts';
import { URGENT } from '../../protocol/session.ts';
import { FrameChannel } from './channel.ts';
import { hostOf } from './host.ts';

/** Why a session ended: the code and words of whoever ended it. */
export interface SessionEnd {
  code: string;
  message: string;
  /** `peer`: it said goodbye; `network`: the stream broke; `us`: this side closed it or found a fault. */
  by: 'us' | 'peer' | 'network';
}

/** One side of a session, as the drivers of both cores use it. */
export interface Session<Out> {
  /** Rises with every session of this process. */
  readonly id: number;
  readonly peer: string;
  /** IP address of the other side; none in one process. */
  readonly address?: string;
  /** Queues a message. False: the session is over (a full queue ends it with `SF_FULL`). */
  send(message: Out): boolean;
  /**
   * Ends the session at once; the peer is told the code and the words where it still can be. With `disconnect` its
   * connection is closed after them.
   */
  close(code: string, message: string, disconnect?: boolean): void;
  /** Resolves after the last byte, when nothing of the session is left. Never rejects. */
  readonly closed: Promise<SessionEnd>;
}

export interface SessionHandlers<In> {
  /**
   * One message. While a returned promise waits, no further message of the same lane is handed over, and the peer is
   * granted nothing for it; urgent messages do not wait for normal ones.
   */
  onMessage(message: In): void | Promise<void>;
  /** Exactly once, and nothing after it. */
  onClosed(end: SessionEnd): void;
}

export interface SessionLimits extends FlowLimits {
  /** The first message comes within this. */
  firstMs: number;
  /** One frame that the peer does not take for this long ends the session. */
  writeMs: number;
  /** A goodbye has this long to leave. */
  goodbyeMs: number;
}

export const sessionLimits: Readonly<SessionLimits> = {
  ...flowLimits,
  firstMs: 10_000,
  writeMs: 30_000,
  goodbyeMs: 1_000,
};

/** Judges the first message of a session, of which only the type is known. */
export type Inspect = (first: { type: string; [field: string]: unknown }) => SuperfleetError | null;

interface Typed {
  type: string;
}
type Controlled = Typed & { bytes?: number; code?: string; message?: string };

let sessions = 0;

/**
 * The transport both sides share: two lanes with credit over one stream, one loop that writes, one that reads, one
 * that hands over each lane.
 */
export class SessionTransport<In extends Typed, Out extends Typed> implements Session<Out> {
  readonly id: number = ++sessions;
  readonly peer: string;
  readonly address: string;
  readonly closed: Promise<SessionEnd>;
  /** Messages of types this version does not know. */
  dropped = 0;

  readonly #connection: Connection;
  readonly #channel: FrameChannel;
  readonly #limits: SessionLimits;
  readonly #schema: MessageSchema<In>;
  readonly #sender: FlowSender;
  readonly #receiver: FlowReceiver;
  readonly #inbox: Record<'urgent' | 'normal', { message: In; bytes: number }[]> = { urgent: [], normal: [] };
  readonly #handing = { urgent: false, normal: false };
  #handlers: SessionHandlers<In> | null = null;
  #resolveClosed: (end: SessionEnd) => void = () => {};
  #end: SessionEnd | null = null;
  #wakeWriter: (() => void) | null = null;

  constructor(
    stream: Stream,
    connection: Connection,
    schema: MessageSchema<In>,
    limits: Partial<SessionLimits> = {},
  ) {
    this.#limits = { ...sessionLimits, ...limits };
    this.peer = connection.remotePeer.toString();
    this.address = hostOf(connection.remoteAddr);
    this.#connection = connection;
    this.#schema = schema;
    this.#channel = new FrameChannel(stream, {
      frameBytesMax: this.#limits.frameBytesMax,
      // The reader takes frames as they come; the credit is what bounds a peer.
      unreadBytesMax: this.#limits.creditBytes + 2 * this.#limits.frameBytesMax,
      onFault: 'tell',
    });
    this.#sender = new FlowSender(this.#limits);
    this.#receiver = new FlowReceiver(this.#limits);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    void this.#write();
  }

  /**
   * Hands over what comes. `inspect` sees the first message before any schema does (another major version may have
   * other fields) and may refuse the peer.
   */
  run(handlers: SessionHandlers<In>, inspect: Inspect): void {
    this.#handlers = handlers;
    if (this.#end !== null) handlers.onClosed(this.#end);
    else void this.#read(inspect);
  }

  send(message: Out): boolean {
    if (this.#end !== null) return false;
    if (this.#sender.push(messageBytes(message), laneOf(message.type))) {
      this.#wakeWriter?.();
      return true;
    }
    this.close('SF_FULL', 'more waits to be sent than the queue of a session holds');
    return false;
  }

  close(code: string, message: string, disconnect = false): void {
    this.#finish({ code, message, by: 'us' }, true);
    if (!disconnect) return;
    const bye = this.closed.then(() => this.#connection.close());
    bye.catch((cause: Error) => this.#connection.abort(cause));
  }

  #finish(end: SessionEnd, tell: boolean): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.#sender.clear();
    this.#inbox.urgent.length = 0;
    this.#inbox.normal.length = 0;
    if (tell) {
      const words = { type: 'goodbye', code: end.code.slice(0, 64), message: end.message.slice(0, 1024) };
      this.#sender.push(messageBytes(words), 'free');
    }
    this.#wakeWriter?.();
    this.#handlers?.onClosed(end);
  }

  async #write(): Promise<void> {
    for (;;) {
      const frame = this.#sender.next();
      if (frame === null) {
        if (this.#end !== null) break;
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
        this.#wakeWriter = null;
        continue;
      }
      const ms = this.#end === null ? this.#limits.writeMs : this.#limits.goodbyeMs;
      try {
        if (!this.#channel.send(frame)) await this.#channel.sent(AbortSignal.timeout(ms));
      } catch (thrown) {
        this.#fail(asTimeout(thrown, 'the peer takes no bytes', `a frame taken within ${ms} ms`));
        break;
      }
    }
    if (this.#end?.by === 'network')
      this.#channel.abort(new SuperfleetError('SF_UNREACHABLE', this.#end.message));
    else await this.#channel.close(this.#limits.goodbyeMs);
    this.#resolveClosed(this.#end ?? { code: 'SF_INTERNAL', message: 'the writer ended', by: 'us' });
  }

  async #read(inspect: Inspect): Promise<void> {
    try {
      await this.#begin(inspect);
      while (this.#end === null) this.#take(await this.#channel.expect());
    } catch (thrown) {
      this.#fail(asSuperfleetError(thrown));
    }
  }

  /** Up to the first message that is judged. A grant may come before it: what a long hello took up was given back. */
  async #begin(inspect: Inspect): Promise<void> {
    const ms = this.#limits.firstMs;
    const signal = AbortSignal.timeout(ms);
    for (;;) {
      const frame = await this.#channel.expect(signal).catch((thrown: unknown) => {
        throw asTimeout(
          thrown,
          'the peer opened a session and said nothing',
          `a first message within ${ms} ms`,
        );
      });
      const messages = parseUnchecked(frame);
      const first = messages.find(({ type }) => type !== 'grant');
      const fault = first === undefined && messages.length > 0 ? null : inspect(first ?? { type: '' });
      if (fault !== null) throw fault;
      this.#take(frame);
      if (first !== undefined) return;
    }
  }

  #take(frame: Uint8Array): void {
    const { messages, dropped } = parseFrame(frame, this.#schema, this.#limits.frameMessagesMax);
    this.dropped += dropped;
    const free = dropped === 0 && messages.every(({ type }) => FREE.has(type));
    const costs = free ? [] : shares(frame.byteLength, messages.length + dropped);
    if (!free) this.#receiver.received(frame.byteLength);
    let at = 0;
    for (const message of messages) {
      const cost = costs[at++] ?? 0;
      if (this.#control(message)) this.#consumed(cost);
      else
        this.#inbox[laneOf(message.type) === 'normal' ? 'normal' : 'urgent'].push({ message, bytes: cost });
    }
    for (; at < costs.length; at++) this.#consumed(costs[at] ?? 0);
    void this.#handOver('urgent');
    void this.#handOver('normal');
  }

  /** Messages that are the transport's own. */
  #control(message: Controlled): boolean {
    if (message.type === 'grant') {
      this.#sender.granted(message.bytes ?? 0);
      this.#wakeWriter?.();
      return true;
    }
    if (message.type !== 'goodbye') return false;
    this.#finish(
      { code: message.code ?? 'SF_UNREACHABLE', message: message.message ?? '', by: 'peer' },
      false,
    );
    return true;
  }

  async #handOver(lane: 'urgent' | 'normal'): Promise<void> {
    if (this.#handing[lane]) return;
    this.#handing[lane] = true;
    try {
      for (let item = this.#inbox[lane].shift(); item !== undefined; item = this.#inbox[lane].shift()) {
        const waiting = this.#handlers?.onMessage(item.message);
        if (waiting !== undefined) await waiting;
        if (this.#end !== null) return;
        this.#consumed(item.bytes);
      }
    } catch (thrown) {
      this.#finish({ code: 'SF_INTERNAL', message: asSuperfleetError(thrown).message, by: 'us' }, true);
    } finally {
      this.#handing[lane] = false;
    }
  }

  #consumed(bytes: number): void {
    const grant = this.#receiver.consumed(bytes);
    if (grant === 0 || this.#end !== null) return;
    this.#sender.push(messageBytes({ type: 'grant', bytes: grant } as Typed), 'free');
    this.#wakeWriter?.();
  }

  /** A fault on the wire: tell the peer where the stream still carries words, and end. */
  #fail(error: SuperfleetError): void {
    const network = error.code === 'SF_UNREACHABLE' || error.code === 'SF_TIMEOUT';
    const detail = error.expected === null || network ? '' : `: expected ${error.expected}, got ${error.got}`;
    this.#finish(
      { code: error.code, message: `${error.message}${detail}`, by: network ? 'network' : 'us' },
      !network,
    );
    // Silence means that the connection is dead or the peer is hung: the next dial must not find it again.
    if (error.code === 'SF_TIMEOUT') this.#connection.abort(error);
  }
}

const laneOf = (type: string): Lane =>
  FREE.has(type) ? 'free' : URGENT.has(type as 'grant') ? 'urgent' : 'normal';

function asTimeout(thrown: unknown, message: string, expected: string): SuperfleetError {
  if (thrown instanceof Error && thrown.name === 'TimeoutError') {
    return new SuperfleetError('SF_TIMEOUT', message, { expected, got: 'nothing' });
  }
  return asSuperfleetError(thrown);
}
