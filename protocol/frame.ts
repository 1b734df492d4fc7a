import type { z } from 'zod';
import { SuperfleetError } from './errors.ts';
import { type Fits, fitsOf } from './fits.ts';
import { frameBytesMax, frameMessagesMax } from './limits.ts';

/**
 * Frames: an unsigned varint length, then that many bytes. A control frame is a JSON array of messages, each an
 * object with a `type`; a bulk frame is raw bytes. Everything here is pure.
 */

/** Bytes of the longest length prefix we accept: 2^28 − 1 is far past every frame we know. */
const PREFIX_BYTES_MAX = 4;

/** The varint that goes before a body of this many bytes. */
export function lengthPrefix(bytes: number): Uint8Array {
  const prefix: number[] = [];
  let rest = bytes;
  while (rest > 127) {
    prefix.push((rest & 127) | 128);
    rest >>>= 7;
  }
  prefix.push(rest);
  return Uint8Array.from(prefix);
}

/** Length prefix and body in one piece, ready for the wire. */
export function withLength(body: Uint8Array): Uint8Array {
  const prefix = lengthPrefix(body.byteLength);
  const framed = new Uint8Array(prefix.length + body.byteLength);
  framed.set(prefix);
  framed.set(body, prefix.length);
  return framed;
}

/**
 * Cuts a byte stream into frame bodies. Holds one unfinished frame at most, and refuses a frame by its length
 * alone, before its bytes are taken: `SF_FRAME`. After a throw it must not be used again.
 */
export class FrameDecoder {
  readonly #bytesMax: number;
  #prefix = 0;
  #prefixBytes = 0;
  #body: Uint8Array | null = null;
  #filled = 0;

  constructor(bytesMax: number = frameBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** The frames that these bytes complete, in order; each is a copy that shares no memory with `chunk`. */
  push(chunk: Uint8Array): Uint8Array[] {
    const frames: Uint8Array[] = [];
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#body === null) {
        this.#takePrefixByte(chunk[at++]!);
      } else {
        const taken = chunk.subarray(at, at + this.#body.byteLength - this.#filled);
        this.#body.set(taken, this.#filled);
        this.#filled += taken.byteLength;
        at += taken.byteLength;
      }
      if (this.#body !== null && this.#filled === this.#body.byteLength) {
        frames.push(this.#body);
        this.#body = null;
        this.#filled = 0;
      }
    }
    return frames;
  }

  /** True where a stream may end: no frame is half read. */
  get atBoundary(): boolean {
    return this.#body === null && this.#prefixBytes === 0;
  }

  #takePrefixByte(byte: number): void {
    this.#prefix += (byte & 127) * 2 ** (7 * this.#prefixBytes);
    this.#prefixBytes += 1;
    if (this.#prefix > this.#bytesMax || (byte > 127 && this.#prefixBytes === PREFIX_BYTES_MAX)) {
      throw new SuperfleetError('SF_FRAME', 'the peer announced a frame that is too large', {
        expected: `a frame of at most ${this.#bytesMax} bytes`,
        got: byte > 127 ? `a length of more than ${PREFIX_BYTES_MAX} bytes` : `${this.#prefix} bytes`,
      });
    }
    if (byte > 127) return;
    this.#body = new Uint8Array(this.#prefix);
    this.#prefix = 0;
    this.#prefixBytes = 0;
  }
}

/** What a control stream carries: the schema of one message, and the types it knows. */
export interface MessageSchema<M extends { type: string }> {
  message: z.ZodType<M>;
  /** Of a message that needs no schema any more; null where none can be made. */
  fits: Fits | null;
  types: ReadonlySet<string>;
}

interface Variant {
  shape: { type: z.ZodLiteral<string> };
}

/** The schema of a stream from a union of messages told apart by `type`. */
export function messageSchema<M extends { type: string }>(
  union: z.ZodType<M> & { options: readonly unknown[] },
): MessageSchema<M> {
  const types = union.options.flatMap((option) => [...(option as Variant).shape.type.values]);
  return { message: union, fits: fitsOf(union), types: new Set(types) };
}

/** The messages of a frame; those of a type unknown here are left out and only counted. */
export interface ParsedFrame<M> {
  messages: M[];
  /** Messages of a type that this version does not know (a newer minor version's). */
  dropped: number;
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

interface Typed {
  type: string;
  [field: string]: unknown;
}

/** One or more objects, each with a type. */
function areTyped(value: unknown): value is Typed[] {
  if (!Array.isArray(value) || value.length === 0) return false;
  for (const each of value as unknown[]) {
    if (typeof each !== 'object' || each === null || Array.isArray(each)) return false;
    const { type } = each as { type?: unknown };
    if (typeof type !== 'string' || type.length === 0 || type.length > 64) return false;
  }
  return true;
}

/** Bytes of a control frame as JSON objects with a type, not yet checked further. `SF_FRAME` otherwise. */
export function parseUnchecked(body: Uint8Array, messagesMax: number = frameMessagesMax): Typed[] {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(body));
  } catch (cause) {
    throw frameError('a JSON array of messages in UTF-8', preview(body), cause);
  }
  if (!areTyped(value)) throw frameError('a JSON array of objects with a type', preview(body));
  if (value.length > messagesMax) {
    throw frameError(`at most ${messagesMax} messages in a frame`, `${value.length} messages`);
  }
  return value;
}

/** Parses and checks a control frame; `SF_FRAME` names what was expected and what came. */
export function parseFrame<M extends { type: string }>(
  body: Uint8Array,
  schema: MessageSchema<M>,
  messagesMax: number = frameMessagesMax,
): ParsedFrame<M> {
  const messages: M[] = [];
  let dropped = 0;
  for (const value of parseUnchecked(body, messagesMax)) {
    if (!schema.types.has(value.type)) {
      dropped += 1;
      continue;
    }
    if (schema.fits?.(value) === true) {
      messages.push(value as M);
      continue;
    }
    const parsed = schema.message.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const where = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.join('.')}`;
      throw frameError(
        `a message ${value.type}${where}: ${issue?.message ?? 'of the agreed form'}`,
        preview(body),
      );
    }
    messages.push(parsed.data);
  }
  return { messages, dropped };
}

/** Body of a control frame from messages already written as JSON. */
export function joinMessages(texts: readonly Uint8Array[]): Uint8Array {
  const size = texts.reduce((sum, text) => sum + text.byteLength + 1, 1);
  const body = new Uint8Array(size);
  let at = 0;
  for (const text of texts) {
    body[at++] = at === 1 ? OPEN : COMMA;
    body.set(text, at);
    at += text.byteLength;
  }
  body[at] = CLOSE;
  return body;
}

const OPEN = 0x5b;
const COMMA = 0x2c;
const CLOSE = 0x5d;
const encoder = new TextEncoder();

/** A message as JSON bytes. */
export const messageBytes = (message: { type: string }): Uint8Array =>
  encoder.encode(JSON.stringify(message));

/** Body of a control frame that carries these messages; for streams that send few. */
export const frameOf = (...messages: { type: string }[]): Uint8Array =>
  joinMessages(messages.map(messageBytes));

function frameError(expected: string, got: string, cause?: unknown): SuperfleetError {
  return new SuperfleetError('SF_FRAME', 'the peer sent a frame that is not of the form agreed', {
    expected,
    got,
    cause,
  });
}

/** The first bytes of a frame for a person, with everything but printable ASCII replaced. */
function preview(body: Uint8Array): string {
  const head = Buffer.from(body.subarray(0, 80))
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, '?');
  return `${body.byteLength} bytes: ${head}${body.byteLength > 80 ? '…' : ''}`;
}
