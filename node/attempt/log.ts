import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { logBytesMax } from '../../protocol/limits.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { printable } from '../git/fault.ts';
import type { AttemptBlobs } from './context.ts';
import { SecretMask } from './secrets.ts';

/** A log shorter than this never touches the disk before it is a blob. */
const memoryBytesMax = 256 * 1024;

/**
 * The one log of an attempt: each step's header, then what it printed, secrets masked. Bounded: what comes past
 * `bytesMax` is counted and dropped, and the log says so. `write` waits for the disk, so a flood slows its writer.
 */
export class AttemptLog {
  readonly #path: string;
  readonly #mask: SecretMask;
  readonly #live: (bytes: Uint8Array) => void;
  readonly #bytesMax: number;
  readonly #digest = createHash('sha256');
  #chunks: Buffer[] = [];
  #file: WriteStream | null = null;
  #kept = 0;
  #dropped = 0;
  #total = 0;
  /** An error of the disk; told when the log is made a blob. */
  #failure: unknown = null;
  #ended: Promise<void> | null = null;

  constructor(
    path: string,
    secrets: Readonly<Record<string, string>>,
    live: (bytes: Uint8Array) => void,
    bytesMax: number = logBytesMax,
  ) {
    this.#path = path;
    this.#mask = new SecretMask(secrets);
    this.#live = live;
    this.#bytesMax = bytesMax;
  }

  /** Bytes printed so far, dropped ones too. */
  get bytes(): number {
    return this.#total;
  }

  /** A text with the secrets masked, for words that are not part of the log. */
  masked(text: string): string {
    return this.#mask.text(text);
  }

  /** A line of this program's own: which step begins, how it ended. */
  async say(line: string): Promise<void> {
    await this.#append(this.#mask.end());
    await this.#append(Buffer.from(`superfleet: ${printable(this.masked(line))}\n`));
  }

  /** What a step printed. */
  write(chunk: Uint8Array): Promise<void> {
    return this.#append(this.#mask.push(chunk));
  }

  /** SHA-256 of the log as it is so far, as if it ended here. */
  async digest(): Promise<string> {
    await this.#append(this.#mask.end());
    return this.#digest.copy().update(this.#cutWords()).digest('hex');
  }

  /** Ends the log and puts it, synced, into the store; again, where the store refused it. */
  async finish(blobs: Pick<AttemptBlobs, 'put'>): Promise<ResultBlob> {
    this.#ended ??= this.#end();
    await this.#ended;
    return blobs.put(this.#file === null ? Buffer.concat(this.#chunks) : createReadStream(this.#path));
  }

  async #end(): Promise<void> {
    await this.#append(this.#mask.end());
    if (this.#dropped > 0) await this.#keep(Buffer.from(this.#cutWords()));
    if (this.#failure !== null) throw this.#failure;
    if (this.#file === null) return;
    this.#file.end();
    await finished(this.#file);
  }

  #cutWords(): string {
    if (this.#dropped === 0) return '';
    return `\nsuperfleet: the log is cut here: ${this.#dropped} more bytes were printed and not kept\n`;
  }

  /** Lets go of the file; for an attempt that keeps nothing. */
  async abandon(): Promise<void> {
    this.#chunks = [];
    const file = this.#file;
    if (file === null) return;
    file.destroy();
    await finished(file).catch(() => {});
  }

  async #append(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    this.#total += bytes.length;
    const room = Math.max(0, this.#bytesMax - this.#kept);
    const kept = bytes.subarray(0, room);
    this.#dropped += bytes.length - kept.length;
    if (kept.length === 0) return;
    this.#live(kept);
    await this.#keep(kept);
  }

  async #keep(bytes: Buffer): Promise<void> {
    this.#kept += bytes.length;
    this.#digest.update(bytes);
    if (this.#file === null) {
      this.#chunks.push(Buffer.from(bytes));
      if (this.#kept <= memoryBytesMax) return;
      this.#file = createWriteStream(this.#path, { flags: 'wx', mode: 0o600 });
      this.#file.on('error', (error) => {
        this.#failure ??= error;
      });
      const all = Buffer.concat(this.#chunks);
      this.#chunks = [];
      return this.#toFile(this.#file, all);
    }
    return this.#toFile(this.#file, Buffer.from(bytes));
  }

  async #toFile(file: WriteStream, bytes: Buffer): Promise<void> {
    if (this.#failure !== null || file.write(bytes)) return;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        for (const event of ['drain', 'error', 'close']) file.off(event, go);
        resolve();
      };
      for (const event of ['drain', 'error', 'close']) file.once(event, go);
    });
  }
}
