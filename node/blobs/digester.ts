import { createHash, type Hash, hash } from 'node:crypto';
import { blobChunkBytes } from '../../protocol/limits.ts';
import { type BlobManifest, blobIdOf } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';

/** Manifest, blob id and SHA-256 of bytes as they pass, in pieces of any size. */
export class BlobDigester {
  #bytes = 0;
  readonly #chunks: string[] = [];
  #chunk: Hash = createHash('sha256');
  /** Null within the first chunk, whose hash is the whole's so far: small blobs are hashed once. */
  #whole: Hash | null = null;

  get bytes(): number {
    return this.#bytes;
  }

  update(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      const filled = this.#bytes % blobChunkBytes;
      if (filled === 0 && this.#bytes > 0) this.#nextChunk();
      const part = piece.subarray(at, at + blobChunkBytes - filled);
      this.#chunk.update(part);
      this.#whole?.update(part);
      this.#bytes += part.length;
      at += part.length;
    }
  }

  /** To be called once. */
  finish(): { manifest: BlobManifest; result: ResultBlob } {
    const sha256 = (this.#whole ?? this.#chunk.copy()).digest('hex');
    if (this.#bytes > 0) this.#chunks.push(this.#chunk.digest('hex'));
    const manifest = { bytes: this.#bytes, chunks: this.#chunks };
    return { manifest, result: { blob: blobIdOf(manifest), bytes: this.#bytes, sha256 } };
  }

  #nextChunk(): void {
    this.#whole ??= this.#chunk.copy();
    this.#chunks.push(this.#chunk.digest('hex'));
    this.#chunk = createHash('sha256');
  }
}

export const sha256Of = (bytes: Uint8Array): string => hash('sha256', bytes, 'hex');

/** Of at most one chunk. */
export const manifestOfSmall = (bytes: Uint8Array): BlobManifest => ({
  bytes: bytes.length,
  chunks: bytes.length === 0 ? [] : [sha256Of(bytes)],
});

/** What `BlobDigester` says of at most one chunk, hashed once. */
export function resultOf(bytes: Uint8Array): ResultBlob {
  const manifest = manifestOfSmall(bytes);
  return { blob: blobIdOf(manifest), bytes: bytes.length, sha256: manifest.chunks[0] ?? sha256Of(bytes) };
}
