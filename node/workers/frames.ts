import { deserialize, serialize } from 'node:v8';
import { SuperfleetError } from '../../protocol/errors.ts';

/** Of one message between a node and its worker: an assignment, a prompt and its tools, a piece of a blob. */
export const frameBytesMax = 64 * 1024 * 1024;
const HEAD_BYTES = 4;

/** A message as bytes: their number (32 bit, little-endian), then the value as `v8.serialize` writes it. */
export function frameOf(message: unknown): Buffer {
  const body = serialize(message);
  if (body.length > frameBytesMax) {
    throw new SuperfleetError('SF_FRAME', 'a message between a node and its worker is too large', {
      expected: `at most ${frameBytesMax} bytes`,
      got: `${body.length} bytes`,
    });
  }
  const frame = Buffer.allocUnsafe(HEAD_BYTES + body.length);
  frame.writeUInt32LE(body.length);
  body.copy(frame, HEAD_BYTES);
  return frame;
}

/** Messages out of bytes as they come. After it threw once nothing more can be made of the stream. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** The messages that are whole now. Throws `SF_FRAME` where one is too large or none at all. */
  *push(chunk: Buffer): Generator<unknown> {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= HEAD_BYTES) {
      const length = this.#head();
      if (length > frameBytesMax) {
        throw new SuperfleetError('SF_FRAME', 'a frame is too large', {
          expected: `at most ${frameBytesMax} bytes`,
          got: `${length} bytes`,
        });
      }
      if (this.#bytes < HEAD_BYTES + length) return;
      yield valueIn(this.#take(HEAD_BYTES + length).subarray(HEAD_BYTES));
    }
  }

  #head(): number {
    const first = this.#chunks[0]!;
    // A chunk may end within the number.
    if (first.length < HEAD_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0]!.readUInt32LE();
  }

  #take(bytes: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(bytes);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    return all.subarray(0, bytes);
  }
}

function valueIn(body: Buffer): unknown {
  try {
    return deserialize(body);
  } catch (cause) {
    throw new SuperfleetError('SF_FRAME', 'a frame holds no value', { cause });
  }
}
