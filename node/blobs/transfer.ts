import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { blobChunkBytes } from '../../protocol/limits.ts';
import { type BlobManifest, chunkLength } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { sha256Of } from './digester.ts';
import { blobFault, requireChunk, unfinished } from './faults.ts';
import { StoreFile } from './files.ts';
import type { BlobReceiver } from './types.ts';

interface TransferHooks {
  /** Gives the complete, synced part its name among the blobs. */
  publish(part: string): Promise<void>;
  /** Runs when nobody else begins, joins or publishes a transfer of this blob. */
  inTurn(work: () => Promise<void>): Promise<void>;
  /** The store forgets this transfer and frees what it reserved. */
  ended(): void;
}

/**
 * One blob on its way in, however many want it. Its part file needs no record of what has come: a chunk is there if
 * it has its digest, so a part left by a crash is taken up by reading it. No file is held open between chunks, so a
 * receiver that is just dropped leaks nothing but the part, which the next receiver takes up.
 */
export class Transfer {
  readonly #part: string;
  readonly #blob: string;
  readonly #manifest: BlobManifest;
  readonly #hooks: TransferHooks;
  readonly #missing: Set<number>;
  /** SHA-256 of the chunks before `#hashed`: taken as they come where they come in order. */
  readonly #whole = createHash('sha256');
  #hashed = 0;
  #receivers = 0;
  #finished: Promise<ResultBlob> | null = null;

  private constructor(
    part: string,
    blob: string,
    manifest: BlobManifest,
    missing: Set<number>,
    hooks: TransferHooks,
  ) {
    this.#part = part;
    this.#blob = blob;
    this.#manifest = manifest;
    this.#missing = missing;
    this.#hooks = hooks;
  }

  static async open(
    part: string,
    blob: string,
    manifest: BlobManifest,
    hooks: TransferHooks,
  ): Promise<Transfer> {
    const missing = new Set(manifest.chunks.keys());
    const left = await StoreFile.open(part, 'write');
    if (left?.size === manifest.bytes) {
      for (const index of manifest.chunks.keys()) {
        const bytes = await left.read(index * blobChunkBytes, chunkLength(manifest.bytes, index));
        if (sha256Of(bytes) === manifest.chunks[index]) missing.delete(index);
      }
      left.close();
      return new Transfer(part, blob, manifest, missing, hooks);
    }
    left?.close();
    await rm(part, { force: true, recursive: true });
    const file = await StoreFile.create(part);
    try {
      await file.truncate(manifest.bytes);
    } finally {
      file.close();
    }
    return new Transfer(part, blob, manifest, missing, hooks);
  }

  join(): BlobReceiver {
    this.#receivers += 1;
    let left = false;
    return {
      missing: () => [...this.#missing].sort((a, b) => a - b),
      write: (index, bytes) => this.#write(index, bytes),
      finish: () => {
        this.#finished ??= this.#finish().catch((error: unknown) => {
          this.#finished = null;
          throw error;
        });
        return this.#finished;
      },
      abandon: async () => {
        if (left) return;
        left = true;
        this.#receivers -= 1;
        await this.#hooks.inTurn(async () => {
          if (this.#receivers > 0 || this.#finished !== null) return;
          await rm(this.#part, { force: true });
          this.#hooks.ended();
        });
      },
    };
  }

  async #write(index: number, bytes: Uint8Array): Promise<void> {
    requireChunk(this.#blob, this.#manifest, index);
    const right = bytes.length === chunkLength(this.#manifest.bytes, index);
    if (!right || sha256Of(bytes) !== this.#manifest.chunks[index]) throw blobFault(this.#blob, index);
    if (!this.#missing.has(index)) return;
    await this.#withPart((file) => file.write(bytes, index * blobChunkBytes));
    this.#missing.delete(index);
    if (index !== this.#hashed) return;
    this.#whole.update(bytes);
    this.#hashed += 1;
  }

  async #finish(): Promise<ResultBlob> {
    if (this.#missing.size > 0) throw unfinished(this.#blob, this.#missing.size);
    const { bytes, chunks } = this.#manifest;
    await this.#withPart(async (file) => {
      for (; this.#hashed < chunks.length; this.#hashed += 1) {
        const length = chunkLength(bytes, this.#hashed);
        this.#whole.update(await file.read(this.#hashed * blobChunkBytes, length));
      }
      await file.sync();
    });
    const sha256 = this.#whole.copy().digest('hex');
    await this.#hooks.publish(this.#part);
    this.#hooks.ended();
    return { blob: this.#blob, bytes, sha256 };
  }

  async #withPart<T>(work: (file: StoreFile) => Promise<T>): Promise<T> {
    const file = await StoreFile.open(this.#part, 'write');
    if (file === null) {
      // The part is gone from under it: the next receiver begins anew.
      this.#hooks.ended();
      throw unfinished(this.#blob, this.#manifest.chunks.length);
    }
    try {
      return await work(file);
    } finally {
      file.close();
    }
  }
}
