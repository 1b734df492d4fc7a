/** What stands in a log where a secret's value stood. */
const MASK = Buffer.from('***');
/** A value shorter than this is found in honest files by chance; it is masked in output, not searched for. */
const searchedBytesMin = 4;

const valuesOf = (secrets: Readonly<Record<string, string>>): { name: string; value: Buffer }[] =>
  Object.entries(secrets)
    .map(([name, value]) => ({ name, value: Buffer.from(value) }))
    .filter(({ value }) => value.length > 0)
    // Where one value begins another, the longer is masked whole.
    .sort((a, b) => b.value.length - a.value.length);

/** Masks secrets' values in a stream, also those that come in pieces. Holds back only what may begin a value. */
export class SecretMask {
  readonly #values: Buffer[];
  #held = Buffer.alloc(0);

  constructor(secrets: Readonly<Record<string, string>>) {
    this.#values = valuesOf(secrets).map(({ value }) => value);
  }

  /** What can be shown now, of this chunk and what was held back. */
  push(chunk: Uint8Array): Buffer {
    if (this.#values.length === 0) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = this.#held.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#held, chunk]);
    // Where each value comes next: looked for again only once it is passed, so that many matches stay cheap.
    const next = this.#values.map((value) => bytes.indexOf(value));
    const shown: Buffer[] = [];
    let at = 0;
    let hold = bytes.length - heldBytes(bytes, this.#values);
    for (;;) {
      let first = -1;
      for (const [index, value] of this.#values.entries()) {
        if (next[index] !== -1 && next[index]! < at) next[index] = bytes.indexOf(value, at);
        if (next[index] !== -1 && (first === -1 || next[index]! < next[first]!)) first = index;
      }
      const found = first === -1 ? bytes.length : next[first]!;
      if (at > hold) hold = bytes.length - heldBytes(bytes.subarray(at), this.#values);
      if (hold <= found) break;
      shown.push(bytes.subarray(at, found), MASK);
      at = found + this.#values[first]!.length;
    }
    shown.push(bytes.subarray(at, hold));
    this.#held = Buffer.from(bytes.subarray(hold));
    return Buffer.concat(shown);
  }

  /** The rest, when nothing more will come. */
  end(): Buffer {
    const rest = this.#held;
    this.#held = Buffer.alloc(0);
    return Buffer.from(this.text(rest.toString('latin1'), 'latin1'), 'latin1');
  }

  /** A finished text with its secrets masked. */
  text(text: string, encoding: 'utf8' | 'latin1' = 'utf8'): string {
    return this.#values.reduce(
      (masked, value) => masked.replaceAll(value.toString(encoding), MASK.toString()),
      text,
    );
  }
}

const begins = (value: Buffer, bytes: Buffer): boolean => value.subarray(0, bytes.length).equals(bytes);

/** Length of the longest end of `bytes` that begins, but is not, a value. */
function heldBytes(bytes: Buffer, values: readonly Buffer[]): number {
  let longest = 0;
  for (const value of values) {
    const first = value[0] ?? 0;
    let at = bytes.indexOf(first, Math.max(0, bytes.length - value.length + 1));
    while (at !== -1 && bytes.length - at > longest) {
      if (begins(value, bytes.subarray(at))) {
        longest = bytes.length - at;
        break;
      }
      at = bytes.indexOf(first, at + 1);
    }
  }
  return longest;
}

/** Finds a secret's value in bytes that come in pieces; remembers the first it found. */
export class SecretSearch {
  readonly #values: { name: string; value: Buffer }[];
  #tail = Buffer.alloc(0);
  /** Name of the secret that was found. */
  found: string | null = null;

  constructor(secrets: Readonly<Record<string, string>>) {
    this.#values = valuesOf(secrets).filter(({ value }) => value.length >= searchedBytesMin);
  }

  /** False: there is nothing to search for. */
  get needed(): boolean {
    return this.#values.length > 0;
  }

  push(chunk: Uint8Array): void {
    if (!this.needed || this.found !== null) return;
    const bytes = Buffer.concat([this.#tail, chunk]);
    this.found = this.#values.find(({ value }) => bytes.includes(value))?.name ?? null;
    const kept = Math.min(bytes.length, (this.#values[0]?.value.length ?? 1) - 1);
    this.#tail = Buffer.from(bytes.subarray(bytes.length - kept));
  }
}
