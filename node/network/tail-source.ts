import { type TailEndReason, tailRingBytes } from '../../protocol/tail.ts';

/** What a reader finds at its offset: bytes, nothing yet, or the end. `dropped` bytes before `bytes` are gone. */
export type TailRead =
  | { state: 'bytes'; dropped: number; bytes: Uint8Array }
  | { state: 'waiting'; dropped: number }
  | { state: 'ended'; dropped: number; reason: TailEndReason };

/** The last output of one attempt, in a ring: writing never waits, and never takes more memory than the ring. */
export class TailSource {
  readonly #ringBytes: number;
  #ring: Buffer | null = null;
  #total = 0;
  #ended: TailEndReason | null = null;
  readonly #waiting = new Set<() => void>();

  constructor(ringBytes: number = tailRingBytes) {
    this.#ringBytes = ringBytes;
  }

  /** Bytes ever written. */
  get total(): number {
    return this.#total;
  }

  get ended(): TailEndReason | null {
    return this.#ended;
  }

  write(bytes: Uint8Array): void {
    if (this.#ended !== null || bytes.byteLength === 0) return;
    this.#ring ??= Buffer.allocUnsafe(this.#ringBytes);
    const kept = bytes.subarray(Math.max(0, bytes.byteLength - this.#ringBytes));
    const at = (this.#total + bytes.byteLength - kept.byteLength) % this.#ringBytes;
    const head = kept.subarray(0, this.#ringBytes - at);
    this.#ring.set(head, at);
    this.#ring.set(kept.subarray(head.byteLength), 0);
    this.#total += bytes.byteLength;
    this.#notify();
  }

  end(reason: TailEndReason): void {
    if (this.#ended !== null) return;
    this.#ended = reason;
    this.#notify();
  }

  /** At most `max` bytes from `offset` on; a copy. An offset past the end waits, or is the end. */
  read(offset: number, max: number): TailRead {
    const oldest = Math.max(0, this.#total - this.#ringBytes);
    const dropped = Math.max(0, oldest - offset);
    const from = offset + dropped;
    if (from >= this.#total || this.#ring === null) {
      return this.#ended === null
        ? { state: 'waiting', dropped }
        : { state: 'ended', dropped, reason: this.#ended };
    }
    const at = from % this.#ringBytes;
    const length = Math.min(max, this.#total - from, this.#ringBytes - at);
    return { state: 'bytes', dropped, bytes: Uint8Array.from(this.#ring.subarray(at, at + length)) };
  }

  /** Calls back at every change, until the answer is called. */
  onChange(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  #notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

/** Ended attempts whose last output is still shown. */
const endedKept = 16;

/** The attempts of this member that can be looked at, by task and number. */
export class TailSources {
  readonly #sources = new Map<string, TailSource>();

  /** A fresh source for an attempt that starts. */
  open(task: string, attempt: number): TailSource {
    const source = new TailSource();
    this.#sources.set(`${task}.${attempt}`, source);
    const ended = [...this.#sources].filter(([, { ended }]) => ended !== null);
    for (const [key] of ended.slice(0, Math.max(0, ended.length - endedKept))) this.#sources.delete(key);
    return source;
  }

  get(task: string, attempt: number): TailSource | undefined {
    return this.#sources.get(`${task}.${attempt}`);
  }
}
