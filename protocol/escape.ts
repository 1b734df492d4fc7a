import { isUtf8 } from 'node:buffer';

/**
 * What a task or a stranger wrote, made safe for a person's terminal: C0 (but newline and tab), DEL, C1, the
 * characters that turn or hide text (bidi controls, line and paragraph separators), lone surrogates and bytes that
 * are no UTF-8 are written as `\x1b`, `\u202e`, `\xff`. Everything else passes as it is; a backslash does too, so
 * this is for eyes, not for reading back.
 */
const UNSAFE =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const UNSAFE_IN_LINE = new RegExp(`[\\n\\t]|${UNSAFE.source}`, 'g');

const escaped = (character: string): string => {
  const code = character.charCodeAt(0);
  return code < 0x100 ? byteEscape(code) : `\\u${code.toString(16).padStart(4, '0')}`;
};
const byteEscape = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`;

/** Text of several lines. */
export const escapeText = (text: string): string => text.replace(UNSAFE, escaped);
/** Text that must stay on one line: newlines and tabs are escaped too. */
export const escapeLine = (text: string): string => text.replace(UNSAFE_IN_LINE, escaped);
/** The same for a whole buffer of bytes. */
export function escapeBytes(bytes: Uint8Array): string {
  const escaper = new ControlEscaper();
  return escaper.push(bytes) + escaper.end();
}

/** A stream of output, escaped piece by piece: a character that falls on two pieces comes out once and whole. */
export class ControlEscaper {
  /** Up to three bytes of a character whose end has not come. */
  #rest: Uint8Array = new Uint8Array(0);

  push(piece: Uint8Array): string {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const whole = bytes.length - unfinishedBytes(bytes);
    this.#rest = Uint8Array.from(bytes.subarray(whole));
    return escapeWhole(bytes.subarray(0, whole));
  }

  /** What was left of a character that never ended. */
  end(): string {
    const rest = this.#rest;
    this.#rest = new Uint8Array(0);
    return escapeWhole(rest);
  }
}

/** A stream of output as text that is safe for a terminal: a stage for `pipe`. */
export async function* escapeControls(source: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const escaper = new ControlEscaper();
  for await (const piece of source) yield escaper.push(piece);
  yield escaper.end();
}

function escapeWhole(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return escapeText(buffer.toString());
  const parts: string[] = [];
  for (let at = 0; at < buffer.length; ) {
    // Runs of ASCII go in one piece, so that a single bad byte does not make a megabyte slow.
    const length = asciiRun(buffer, at) || characterAt(buffer, at);
    parts.push(
      length > 0 ? escapeText(buffer.toString('utf8', at, at + length)) : byteEscape(buffer[at] ?? 0),
    );
    at += Math.max(1, length);
  }
  return parts.join('');
}

function asciiRun(buffer: Buffer, from: number): number {
  let at = from;
  while (at < buffer.length && buffer[at]! < 0x80) at += 1;
  return at - from;
}

/** Bytes of the well-formed character at this place; 0 where there is none. */
function characterAt(buffer: Buffer, at: number): number {
  const length = lengthBy(buffer[at]!);
  return length > 0 && at + length <= buffer.length && isUtf8(buffer.subarray(at, at + length)) ? length : 0;
}

const lengthBy = (lead: number): number =>
  lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;

/** Bytes at the end that begin a character and may yet be completed. */
function unfinishedBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    return lengthBy(byte) > back ? back : 0;
  }
  return 0;
}
