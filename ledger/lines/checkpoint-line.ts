import { type Cursor, readCount, skip } from '../canonical/read.ts';
import type { Digest } from '../proofs/merkle.ts';
import type { Checkpoint } from './checkpoint.ts';

const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');
const EQUALS = 0x3d;
const HASH_BYTES = 32;
/** Characters before the `=`. Key id and signature are 68 bytes: the last character holds 4 bits of them, and 2 that are 0. */
const SIGNATURE_CHARACTERS = 91;
/** By code of a character, what it stands for; of others -1. */
const BITS = new Int8Array(256).fill(-1);
for (const [bits, code] of BASE64.entries()) BITS[code] = bits;

const NEWLINE = Buffer.from('\\n');
const ENDS = Buffer.from('=\\n"}');

/** Reads the lines of one log's checkpoints where it is known what they must say: nothing is taken apart for it. */
export class CheckpointLines {
  readonly #origin: string;
  readonly #begins: Uint8Array;
  readonly #named: Uint8Array;

  /** `origin`: mesh id. */
  constructor(origin: string) {
    this.#origin = origin;
    this.#begins = Buffer.from(`{"checkpoint":"${origin}\\n`);
    this.#named = Buffer.from(`\\n\\n— ${origin} `);
  }

  /**
   * The checkpoint of a line that says just this size and root, under one signature such as a log key makes; exactly what
   * `parseLine` makes of it. Null says nothing about the line. `hex` is the root again.
   */
  read(bytes: Buffer, size: number, root: Digest, hex: string): Checkpoint | null {
    const cursor: Cursor = { bytes, at: 0 };
    if (!skip(cursor, this.#begins) || readCount(cursor) !== size || !skip(cursor, NEWLINE)) return null;
    const rootAt = cursor.at;
    if (!skipBase64(cursor, root)) return null;
    const rootEnd = cursor.at;
    if (!skip(cursor, this.#named)) return null;
    const signatureAt = cursor.at;
    for (let n = 0; n < SIGNATURE_CHARACTERS; n += 1) if (!(BITS[bytes[signatureAt + n]!]! >= 0)) return null;
    cursor.at += SIGNATURE_CHARACTERS;
    if ((BITS[bytes[cursor.at - 1]!]! & 3) !== 0) return null;
    if (!skip(cursor, ENDS) || cursor.at !== bytes.length) return null;
    const origin = this.#origin;
    const rootBase64 = bytes.toString('latin1', rootAt, rootEnd);
    const signature = bytes.toString('latin1', signatureAt, signatureAt + SIGNATURE_CHARACTERS);
    const text = `${origin}\n${size}\n${rootBase64}\n\n— ${origin} ${signature}=\n`;
    return { origin, size, root: hex, text };
  }
}

/** True, and the cursor behind it, where the base64 of this digest comes next. */
function skipBase64(cursor: Cursor, digest: Digest): boolean {
  const { bytes } = cursor;
  let { at } = cursor;
  for (let n = 0; n < HASH_BYTES; n += 3, at += 4) {
    // Two bytes are left for the last four characters.
    const whole = n + 2 < HASH_BYTES;
    const first = digest.charCodeAt(n);
    const second = digest.charCodeAt(n + 1);
    const third = whole ? digest.charCodeAt(n + 2) : 0;
    if (
      bytes[at] !== BASE64[first >> 2] ||
      bytes[at + 1] !== BASE64[((first & 3) << 4) | (second >> 4)] ||
      bytes[at + 2] !== BASE64[((second & 15) << 2) | (third >> 6)] ||
      bytes[at + 3] !== (whole ? BASE64[third & 63] : EQUALS)
    )
      return false;
  }
  cursor.at = at;
  return true;
}
