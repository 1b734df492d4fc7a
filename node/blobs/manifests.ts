import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobChunkBytes } from '../../protocol/limits.ts';
import {
  type BlobManifest,
  blobIdOf,
  decodeManifest,
  encodeManifest,
  manifestBytesMax,
} from '../../protocol/manifest.ts';
import { BlobDigester, sha256Of } from './digester.ts';
import { blobFault } from './faults.ts';
import { StoreFile } from './files.ts';

/** Manifests of large blobs kept in memory; one is at most 400 KB. */
const manifestsKept = 8;

/**
 * Manifests of the blobs of a store on disk. Those of several chunks are in files, which are not synced: each is
 * checked by its digest whenever it is read, and made again from the content where it is not right.
 */
export class Manifests {
  readonly #folder: string;
  readonly #kept = new Map<string, BlobManifest>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Whether it is in memory; then the blob has several chunks. */
  remembers(blob: string): boolean {
    return this.#kept.has(blob);
  }

  /** The manifest of a blob with this content. `SF_NOT_PROVED` where neither gives the blob's id. */
  async of(blob: string, file: StoreFile): Promise<BlobManifest> {
    const kept = this.#kept.get(blob);
    if (kept !== undefined) return kept;
    if (file.size <= blobChunkBytes) {
      const chunks = file.size === 0 ? [] : [sha256Of(await file.read(0, file.size))];
      const manifest = { bytes: file.size, chunks };
      if (blobIdOf(manifest) === blob) return manifest;
      // Cut off to less than a chunk, or changed: the manifest, where there is one, knows.
      const stored = await this.#stored(blob);
      if (stored === null) throw blobFault(blob, 0);
      return stored;
    }
    const manifest = (await this.#stored(blob)) ?? (await rebuild(blob, file));
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size < manifestsKept) break;
      this.#kept.delete(oldest);
    }
    this.#kept.set(blob, manifest);
    return manifest;
  }

  /** Written by way of a file of its own, of a name that is free. */
  async write(blob: string, manifest: BlobManifest, temporary: string): Promise<void> {
    const file = await StoreFile.create(temporary);
    try {
      await file.write(encodeManifest(manifest), 0);
    } finally {
      file.close();
    }
    await rename(temporary, this.#path(blob));
  }

  async delete(blob: string): Promise<void> {
    await rm(this.#path(blob), { force: true });
    this.#kept.delete(blob);
  }

  /** Removes those of blobs that are not held. */
  async sweep(held: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      if (!held.has(name)) await rm(join(this.#folder, name), { force: true, recursive: true });
    }
  }

  async #stored(blob: string): Promise<BlobManifest | null> {
    const file = await StoreFile.open(this.#path(blob));
    if (file === null) return null;
    try {
      const encoded = await file.read(0, Math.min(file.size, manifestBytesMax));
      return sha256Of(encoded) === blob ? decodeManifest(encoded) : null;
    } finally {
      file.close();
    }
  }

  #path(blob: string): string {
    return join(this.#folder, blob);
  }
}

/** The manifest from the content, for a blob whose manifest file is gone or damaged. */
async function rebuild(blob: string, file: StoreFile): Promise<BlobManifest> {
  const digester = new BlobDigester();
  for (let at = 0; at < file.size; at += blobChunkBytes) digester.update(await file.read(at, blobChunkBytes));
  const { manifest, result } = digester.finish();
  if (result.blob === blob) return manifest;
  throw new SuperfleetError('SF_NOT_PROVED', `blob ${blob} is damaged, and so is its manifest`, {
    expected: `content and manifest with the digest ${blob}`,
    got: `content of ${file.size} bytes with the id ${result.blob}`,
    hint: 'fetch the blob again from a machine that holds it',
  });
}
