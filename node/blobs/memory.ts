import { blobChunkBytes, blobStoreBytesMax } from '../../protocol/limits.ts';
import { chunkLength, decodeManifest, encodeManifest } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { BlobDigester, sha256Of } from './digester.ts';
import {
  blobFault,
  noSuchBlob,
  requireBlobId,
  requireChunk,
  requireManifestOf,
  unfinished,
} from './faults.ts';
import { chargeOf, Quota, Reservation } from './quota.ts';
import type { BlobManifest, BlobReceiver, BlobStore } from './types.ts';

interface Held {
  bytes: Uint8Array;
  manifest: BlobManifest;
  result: ResultBlob;
}

interface Incoming {
  bytes: Uint8Array;
  missing: Set<number>;
  receivers: number;
}

/** The blob store of the simulator, of tests and of rosters: same promises as the one on disk, except that nothing outlives it. */
export class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<string, Held>();
  readonly #incoming = new Map<string, Incoming>();
  readonly #quota: Quota;

  /** @param bytesMax quota in bytes. @default blobStoreBytesMax */
  constructor({ bytesMax = blobStoreBytesMax }: { bytesMax?: number } = {}) {
    this.#quota = new Quota(bytesMax);
  }

  get usedBytes(): number {
    return this.#quota.used;
  }

  async has(blob: string): Promise<boolean> {
    requireBlobId(blob);
    return this.#blobs.has(blob);
  }

  async manifest(blob: string): Promise<BlobManifest | null> {
    requireBlobId(blob);
    return this.#blobs.get(blob)?.manifest ?? null;
  }

  async chunk(blob: string, index: number): Promise<Uint8Array> {
    const { bytes, manifest } = this.#held(blob);
    requireChunk(blob, manifest, index);
    const chunk = bytes.slice(index * blobChunkBytes, (index + 1) * blobChunkBytes);
    if (sha256Of(chunk) !== manifest.chunks[index]) throw blobFault(blob, index);
    return chunk;
  }

  async put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    const reservation = new Reservation(this.#quota);
    const digester = new BlobDigester();
    const pieces: Uint8Array[] = [];
    try {
      for await (const piece of source instanceof Uint8Array ? [source] : source) {
        reservation.grow(digester.bytes + piece.length);
        digester.update(piece);
        pieces.push(Uint8Array.from(piece));
      }
      reservation.grow(digester.bytes);
      const { manifest, result } = digester.finish();
      if (this.#blobs.has(result.blob)) return result;
      reservation.keep();
      this.#blobs.set(result.blob, { bytes: Buffer.concat(pieces), manifest, result });
      return result;
    } finally {
      reservation.release();
    }
  }

  async receive(blob: string, manifest: BlobManifest): Promise<BlobReceiver> {
    requireManifestOf(blob, manifest);
    let incoming = this.#incoming.get(blob);
    if (incoming === undefined && !this.#blobs.has(blob)) {
      new Reservation(this.#quota).grow(manifest.bytes);
      incoming = {
        bytes: new Uint8Array(manifest.bytes),
        missing: new Set(manifest.chunks.keys()),
        receivers: 0,
      };
      this.#incoming.set(blob, incoming);
    }
    if (incoming !== undefined) incoming.receivers += 1;
    let left = false;
    return {
      missing: () => [...(incoming?.missing ?? [])].sort((a, b) => a - b),
      write: async (index, bytes) => {
        requireChunk(blob, manifest, index);
        const right = bytes.length === chunkLength(manifest.bytes, index);
        if (!right || sha256Of(bytes) !== manifest.chunks[index]) throw blobFault(blob, index);
        incoming?.bytes.set(bytes, index * blobChunkBytes);
        incoming?.missing.delete(index);
      },
      finish: async () => {
        if (incoming === undefined || this.#incoming.get(blob) !== incoming) return this.#held(blob).result;
        if (incoming.missing.size > 0) throw unfinished(blob, incoming.missing.size);
        const result = { blob, bytes: manifest.bytes, sha256: sha256Of(incoming.bytes) };
        this.#incoming.delete(blob);
        // A put may have brought the same content meanwhile: it is held, and counted, once.
        if (this.#blobs.has(blob)) this.#quota.release(chargeOf(manifest.bytes));
        this.#blobs.set(blob, {
          bytes: incoming.bytes,
          manifest: decodeManifest(encodeManifest(manifest)),
          result,
        });
        return result;
      },
      abandon: async () => {
        if (left || incoming === undefined) return;
        left = true;
        incoming.receivers -= 1;
        if (incoming.receivers > 0 || this.#incoming.get(blob) !== incoming) return;
        this.#incoming.delete(blob);
        this.#quota.release(chargeOf(manifest.bytes));
      },
    };
  }

  async *read(blob: string): AsyncIterable<Uint8Array> {
    const { manifest } = this.#held(blob);
    for (const index of manifest.chunks.keys()) yield await this.chunk(blob, index);
  }

  path(): null {
    return null;
  }

  async list(): Promise<string[]> {
    return [...this.#blobs.keys()];
  }

  async delete(blob: string): Promise<void> {
    requireBlobId(blob);
    const held = this.#blobs.get(blob);
    if (held === undefined) return;
    this.#blobs.delete(blob);
    this.#quota.release(chargeOf(held.manifest.bytes));
  }

  /** For tests: changes a byte under the store's feet, as a failing memory or disk would. */
  damage(blob: string, at: number): void {
    const { bytes } = this.#held(blob);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }

  #held(blob: string): Held {
    requireBlobId(blob);
    const held = this.#blobs.get(blob);
    if (held === undefined) throw noSuchBlob(blob);
    return held;
  }
}
