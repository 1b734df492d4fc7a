import type { SigningKey } from '../../protocol/keys.ts';
import { type SignedStatement, signBatch } from '../../protocol/statement.ts';

/** Statements under one signature: its path adds eight steps of 90 bytes to each at most. */
const batchMax = 256;

interface Waiting {
  statement: Uint8Array;
  resolve(signed: SignedStatement): void;
  reject(error: unknown): void;
}

/**
 * Signs what is asked for in one turn of the event loop with one signature: attempts that end together cost one, here and
 * wherever they are checked. One that ends alone is signed alone. Each receipt of a batch can be verified by itself.
 */
export class BatchSigner {
  readonly #key: SigningKey;
  #waiting: Waiting[] = [];

  constructor(key: SigningKey) {
    this.#key = key;
  }

  /** Rejects with `SF_FULL` for a statement that is too large; the others of its turn are signed. */
  sign(statement: Uint8Array): Promise<SignedStatement> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ statement, resolve, reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#signAll());
    });
  }

  #signAll(): void {
    const all = this.#waiting;
    this.#waiting = [];
    for (let at = 0; at < all.length; at += batchMax) this.#signPart(all.slice(at, at + batchMax));
  }

  #signPart(part: Waiting[]): void {
    try {
      const signed = signBatch(
        part.map(({ statement }) => statement),
        this.#key,
      );
      for (const [at, { resolve }] of part.entries()) resolve(signed[at]!);
    } catch (error) {
      if (part.length === 1) part[0]!.reject(error);
      else for (const one of part) this.#signPart([one]);
    }
  }
}
