import { hash } from 'node:crypto';
import { SuperfleetError } from './errors.ts';
import { blobBytesMax, blobChunkBytes } from './limits.ts';

/** A blob's manifest: total bytes and the SHA-256 of each 1 MiB chunk, in hex. The last chunk may be shorter. */
export interface BlobManifest {
  bytes: number;
  chunks: string[];
}

/** The first bytes of every manifest: format 1, so that another chunk size would be another id. */
const MAGIC = Buffer.from('SFB1');
const DIGEST_BYTES = 32;
const HEAD_BYTES = MAGIC.length + 8;
export const manifestBytesMax = HEAD_BYTES + (blobBytesMax / blobChunkBytes) * DIGEST_BYTES;

export const chunkCount = (bytes: number): number => Math.ceil(bytes / blobChunkBytes);
/** Bytes of chunk `index` of a blob of `bytes`. */
export const chunkLength = (bytes: number, index: number): number =>
  Math.min(blobChunkBytes, bytes - index * blobChunkBytes);

/** Canonical bytes: `SFB1`, the size as 8 bytes big-endian, then the raw chunk digests. */
export function encodeManifest(manifest: BlobManifest): Uint8Array {
  const encoded = Buffer.alloc(HEAD_BYTES + manifest.chunks.length * DIGEST_BYTES);
  MAGIC.copy(encoded);
  encoded.writeBigUInt64BE(BigInt(manifest.bytes), MAGIC.length);
  for (const [at, digest] of manifest.chunks.entries())
    encoded.write(digest, HEAD_BYTES + at * DIGEST_BYTES, 'hex');
  return encoded;
}

/** The manifest of these bytes; `SF_NOT_PROVED` where they are none. */
export function decodeManifest(encoded: Uint8Array): BlobManifest {
  const buffer = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  const fits = buffer.length >= HEAD_BYTES && buffer.length <= manifestBytesMax;
  if (!fits || !buffer.subarray(0, MAGIC.length).equals(MAGIC)) throw malformed(`${buffer.length} bytes`);
  const bytes = Number(buffer.readBigUInt64BE(MAGIC.length));
  if (bytes > blobBytesMax || buffer.length !== HEAD_BYTES + chunkCount(bytes) * DIGEST_BYTES) {
    throw malformed(`${bytes} bytes in ${(buffer.length - HEAD_BYTES) / DIGEST_BYTES} chunks`);
  }
  const chunks = Array.from({ length: chunkCount(bytes) }, (_, index) =>
    buffer.toString('hex', HEAD_BYTES + index * DIGEST_BYTES, HEAD_BYTES + (index + 1) * DIGEST_BYTES),
  );
  return { bytes, chunks };
}

/** Blob id: SHA-256 of the manifest's canonical bytes, in hex. */
export const blobIdOf = (manifest: BlobManifest): string => hash('sha256', encodeManifest(manifest), 'hex');

function malformed(got: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', 'not a manifest of a blob', {
    expected: `SFB1, a size of at most ${blobBytesMax} and one SHA-256 for each ${blobChunkBytes} bytes of it`,
    got,
  });
}
