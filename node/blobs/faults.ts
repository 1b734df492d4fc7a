import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import { blobChunkBytes } from '../../protocol/limits.ts';
import { type BlobManifest, blobIdOf, chunkCount } from '../../protocol/manifest.ts';

/** A blob's id becomes a file's name: nothing else than 64 hex digits gets that far. */
export function requireBlobId(blob: string): void {
  if (blobId.safeParse(blob).success) return;
  throw new SuperfleetError('SF_USAGE', 'not a blob id', {
    expected: '64 hex digits',
    got: JSON.stringify(blob.slice(0, 80)),
  });
}

export function requireChunk(blob: string, manifest: BlobManifest, index: number): void {
  if (Number.isSafeInteger(index) && index >= 0 && index < manifest.chunks.length) return;
  throw new SuperfleetError('SF_NOT_FOUND', `blob ${blob} has no chunk ${index}`, {
    expected: `0 to ${manifest.chunks.length - 1}`,
    got: String(index),
  });
}

/** The manifest must be this blob's before a byte is stored by it. */
export function requireManifestOf(blob: string, manifest: BlobManifest): void {
  requireBlobId(blob);
  const whole = manifest.chunks.length === chunkCount(manifest.bytes);
  if (whole && blobIdOf(manifest) === blob) return;
  throw new SuperfleetError('SF_NOT_PROVED', 'the manifest is not this blob’s', { expected: blob });
}

export const noSuchBlob = (blob: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_FOUND', `there is no blob ${blob}`, { expected: 'a blob this store holds' });

/** Bytes that are not those of the manifest, with their place. */
export const blobFault = (blob: string, index: number): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `blob ${blob}: chunk ${index} is damaged`, {
    expected: 'bytes with the digest that the manifest gives',
    got: `other bytes from offset ${index * blobChunkBytes}`,
    hint: 'fetch the blob again from a machine that holds it',
  });

/** A transfer is finished when every chunk came. */
export const unfinished = (blob: string, missing: number): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', `blob ${blob} is not complete`, {
    expected: 'every chunk of its manifest',
    got: `${missing} missing`,
  });
