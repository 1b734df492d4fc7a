import { existsSync, lstatSync, renameSync } from 'node:fs';
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import { blobChunkBytes, blobStoreBytesMax } from '../../protocol/limits.ts';
import {
  type BlobManifest,
  blobIdOf,
  chunkLength,
  decodeManifest,
  encodeManifest,
  manifestBytesMax,
} from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { BlobDigester, manifestOfSmall, resultOf, sha256Of } from './digester.ts';
import { blobFault, noSuchBlob, requireBlobId, requireChunk, requireManifestOf } from './faults.ts';
import { FolderSync, StoreFile, syncFolder } from './files.ts';
import { chargeOf, Quota, Reservation } from './quota.ts';
import { SmallBlobs } from './small.ts';
import type { SmallDatabase, SmallRepair } from './small-database.ts';
import { Transfer } from './transfer.ts';
import type { BlobReceiver, BlobStore } from './types.ts';

/** Transfers begun and not ended, in one store. */
const transfersMax = 256;
/** Manifests of large blobs kept in memory; one is at most 400 KB. */
const manifestsKept = 8;
/** A half-received blob that nobody came back for is dropped when the store is next opened. */
const partKeptMs = 24 * 3_600_000;
/** Of a blob that goes into the database where it is put as one piece: every receipt is so small. */
const smallBytesMax = 32 * 1024;
/** Bytes a write to the disk takes at once. */
const writeBytes = 256 * 1024;
const SMALL = 'small';

export interface DiskBlobStoreOptions {
  /** Quota in bytes, half-received blobs included. @default blobStoreBytesMax */
  bytesMax?: number;
  /** Opens the database of small blobs. @default openSmallDatabase */
  openSmall?: (folder: string) => Promise<SmallDatabase>;
}

/**
 * The blob store on disk. `blobs/ID` is the content itself, whole and synced before it has that name;
 * `manifests/ID` is there for blobs of several chunks and can be made again from the content; `incoming/` holds what
 * is not yet a blob. What is small and put as one piece is in `small/`, a database. One process at a time (the data
 * folder's lock).
 */
export class DiskBlobStore implements BlobStore {
  readonly #folder: string;
  readonly #quota: Quota;
  readonly #blobsSync: FolderSync;
  readonly #transfers = new Map<string, Transfer>();
  /** Half-received blobs on the disk that no transfer has taken up yet, with what they count. */
  readonly #parts = new Map<string, number>();
  readonly #manifests = new Map<string, BlobManifest>();
  /** Work on one blob's name, one at a time. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #openSmall: DiskBlobStoreOptions['openSmall'];
  /** Null where no small blob was put yet. */
  #small: SmallBlobs | null = null;
  #opening: Promise<SmallBlobs> | null = null;
  #temporary = 0;

  private constructor(folder: string, { bytesMax = blobStoreBytesMax, openSmall }: DiskBlobStoreOptions) {
    this.#folder = folder;
    this.#quota = new Quota(bytesMax);
    this.#openSmall = openSmall;
    this.#blobsSync = new FolderSync(join(folder, 'blobs'));
  }

  /** Opens or makes the store in a folder; clears what a crash left. `SF_FOLDER` where a part of it is no folder. */
  static async open(folder: string, options: DiskBlobStoreOptions = {}): Promise<DiskBlobStore> {
    const store = new DiskBlobStore(folder, options);
    for (const part of ['', 'blobs', 'manifests', 'incoming', SMALL]) {
      if (part !== SMALL) await mkdir(join(folder, part), { recursive: true, mode: 0o700 });
      const found = lstatSync(join(folder, part), { throwIfNoEntry: false });
      if (found === undefined ? part === SMALL : found.isDirectory()) continue;
      throw new SuperfleetError('SF_FOLDER', 'the blob store is not a folder of its own', {
        expected: 'a folder',
        got: join(folder, part),
        hint: 'move it away; a symbolic link is not followed here',
      });
    }
    await store.#sweep();
    // A process that died between rename and sync left names that are visible but not yet durable.
    await syncFolder(folder);
    await syncFolder(join(folder, 'blobs'));
    if (existsSync(join(folder, SMALL))) await store.#openedSmall();
    return store;
  }

  /** What was done to a damaged database of small blobs when it was opened; null: it was whole. */
  get repair(): SmallRepair | null {
    return this.#small?.repair ?? null;
  }

  /** Ends the writes that were begun; the store is not used after. */
  async close(): Promise<void> {
    await (await this.#opening?.catch(() => null))?.close();
  }

  /** What blobs and half-received blobs count against the quota. */
  get usedBytes(): number {
    return this.#quota.used;
  }

  async has(blob: string): Promise<boolean> {
    requireBlobId(blob);
    await this.#turns.get(blob)?.catch(() => undefined);
    return this.#heldBytes(blob) !== null || ((await this.#small?.has(blob)) ?? false);
  }

  async manifest(blob: string): Promise<BlobManifest | null> {
    requireBlobId(blob);
    const small = await this.#smallBytes(blob);
    if (small !== null) return manifestOfSmall(small);
    const file = await StoreFile.open(this.#file(blob));
    if (file === null) return null;
    try {
      return await this.#manifestOf(blob, file);
    } finally {
      file.close();
    }
  }

  async chunk(blob: string, index: number): Promise<Uint8Array> {
    const small = await this.#smallBytes(blob);
    if (small !== null) {
      requireChunk(blob, manifestOfSmall(small), index);
      return small;
    }
    const file = await this.#openHeld(blob);
    try {
      return await this.#chunkOf(blob, await this.#manifestOf(blob, file), file, index);
    } finally {
      file.close();
    }
  }

  async *read(blob: string): AsyncIterable<Uint8Array> {
    const small = await this.#smallBytes(blob);
    if (small !== null) {
      if (small.length > 0) yield small;
      return;
    }
    const file = await this.#openHeld(blob);
    try {
      const manifest = await this.#manifestOf(blob, file);
      for (const index of manifest.chunks.keys()) yield await this.#chunkOf(blob, manifest, file, index);
    } finally {
      file.close();
    }
  }

  put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    if (!(source instanceof Uint8Array) || source.length > smallBytesMax) return this.#putFile(source);
    if (this.#small === null) return this.#openedSmall().then((small) => small.put(resultOf(source), source));
    return this.#small.put(resultOf(source), source);
  }

  async #putFile(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob> {
    const reservation = new Reservation(this.#quota);
    const temporary = join(this.#folder, 'incoming', `${this.#temporary++}.put`);
    try {
      const digester = new BlobDigester();
      const file = await StoreFile.create(temporary);
      try {
        for await (const piece of source instanceof Uint8Array ? slices(source) : source) {
          reservation.grow(digester.bytes + piece.length);
          await file.write(piece, digester.bytes);
          digester.update(piece);
        }
        reservation.grow(digester.bytes);
        await file.sync();
      } finally {
        file.close();
      }
      const { manifest, result } = digester.finish();
      await this.#publish(result.blob, manifest, temporary, reservation);
      return result;
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    } finally {
      reservation.release();
    }
  }

  async receive(blob: string, manifest: BlobManifest): Promise<BlobReceiver> {
    requireManifestOf(blob, manifest);
    return this.#inTurn(blob, async () => {
      if (this.#heldBytes(blob) !== null || (await this.#hasSound(blob)))
        return this.#alreadyHeld(blob, manifest);
      const known = this.#transfers.get(blob);
      if (known !== undefined) return known.join();
      if (this.#transfers.size >= transfersMax) {
        throw new SuperfleetError('SF_FULL', 'too many transfers at once', { expected: `${transfersMax}` });
      }
      const reservation = new Reservation(this.#quota);
      this.#quota.release(this.#parts.get(blob) ?? 0);
      this.#parts.delete(blob);
      const part = join(this.#folder, 'incoming', `${blob}.part`);
      try {
        reservation.grow(manifest.bytes);
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
      const transfer = await Transfer.open(part, blob, manifest, {
        publish: (from) => this.#publish(blob, manifest, from, reservation),
        inTurn: (work) => this.#inTurn(blob, work),
        ended: () => {
          if (this.#transfers.get(blob) === transfer) this.#transfers.delete(blob);
          reservation.release();
        },
      }).catch((error: unknown) => {
        reservation.release();
        throw error;
      });
      this.#transfers.set(blob, transfer);
      return transfer.join();
    });
  }

  path(blob: string): string | null {
    requireBlobId(blob);
    return this.#heldBytes(blob) === null ? null : this.#file(blob);
  }

  async delete(blob: string): Promise<void> {
    requireBlobId(blob);
    // Asked for at once: what is put after this call stays.
    const small = this.#small?.delete(blob) ?? this.#opening?.then((opened) => opened.delete(blob));
    const file = this.#inTurn(blob, async () => {
      const bytes = this.#heldBytes(blob);
      if (bytes === null) return;
      await rm(this.#file(blob), { force: true });
      await rm(this.#manifestPath(blob), { force: true });
      this.#manifests.delete(blob);
      this.#quota.release(chargeOf(bytes));
    });
    await Promise.all([small, file]);
  }

  async list(): Promise<string[]> {
    const names = await readdir(join(this.#folder, 'blobs'));
    const files = names.filter((name) => blobId.safeParse(name).success);
    const small = (await this.#small?.list()) ?? [];
    return files.length === 0 ? small : [...new Set([...files, ...small])];
  }

  /** Gives synced content its name. The same content put twice replaces itself, which also heals a damaged copy. */
  #publish(blob: string, manifest: BlobManifest, from: string, reservation: Reservation): Promise<void> {
    return this.#inTurn(blob, async () => {
      const heldBytes = this.#heldBytes(blob);
      if (manifest.chunks.length > 1) await this.#writeManifest(blob, manifest);
      // On this thread, as looking for it is: what it does is small, and no receipt waits for another thread.
      renameSync(from, this.#file(blob));
      reservation.keep();
      if (heldBytes !== null) this.#quota.release(chargeOf(heldBytes));
      try {
        await this.#blobsSync.sync();
      } catch (error) {
        // A name that may not outlive a power cut must not be seen, or others would rest on it.
        if (heldBytes === null) {
          await rm(this.#file(blob), { force: true });
          this.#quota.release(chargeOf(manifest.bytes));
        }
        throw error;
      }
    });
  }

  /** Not synced: it is checked by its digest whenever it is read, and made again where it is not right. */
  async #writeManifest(blob: string, manifest: BlobManifest): Promise<void> {
    const temporary = join(this.#folder, 'incoming', `${this.#temporary++}.put`);
    const file = await StoreFile.create(temporary);
    try {
      await file.write(encodeManifest(manifest), 0);
    } finally {
      file.close();
    }
    await rename(temporary, this.#manifestPath(blob));
  }

  async #manifestOf(blob: string, file: StoreFile): Promise<BlobManifest> {
    const kept = this.#manifests.get(blob);
    if (kept !== undefined) return kept;
    if (file.size <= blobChunkBytes) {
      const chunks = file.size === 0 ? [] : [sha256Of(await file.read(0, file.size))];
      const manifest = { bytes: file.size, chunks };
      if (blobIdOf(manifest) === blob) return manifest;
      // Cut off to less than a chunk, or changed: the manifest, where there is one, knows.
      return (await this.#storedManifest(blob)) ?? this.#fail(blobFault(blob, 0));
    }
    const manifest = (await this.#storedManifest(blob)) ?? (await rebuild(blob, file));
    for (const oldest of this.#manifests.keys()) {
      if (this.#manifests.size < manifestsKept) break;
      this.#manifests.delete(oldest);
    }
    this.#manifests.set(blob, manifest);
    return manifest;
  }

  async #storedManifest(blob: string): Promise<BlobManifest | null> {
    const file = await StoreFile.open(this.#manifestPath(blob));
    if (file === null) return null;
    try {
      const encoded = await file.read(0, Math.min(file.size, manifestBytesMax));
      return sha256Of(encoded) === blob ? decodeManifest(encoded) : null;
    } finally {
      file.close();
    }
  }

  async #chunkOf(blob: string, manifest: BlobManifest, file: StoreFile, index: number): Promise<Uint8Array> {
    requireChunk(blob, manifest, index);
    const bytes = await file.read(index * blobChunkBytes, chunkLength(manifest.bytes, index));
    if (sha256Of(bytes) !== manifest.chunks[index]) throw blobFault(blob, index);
    return bytes;
  }

  async #openHeld(blob: string): Promise<StoreFile> {
    requireBlobId(blob);
    return (await StoreFile.open(this.#file(blob))) ?? this.#fail(noSuchBlob(blob));
  }

  /** Size of a blob by its directory entry; null where there is none, or something that is not a file. */
  #heldBytes(blob: string): number | null {
    const stat = lstatSync(this.#file(blob), { throwIfNoEntry: false });
    return stat?.isFile() === true ? stat.size : null;
  }

  #alreadyHeld(blob: string, manifest: BlobManifest): BlobReceiver {
    return {
      missing: () => [],
      write: async () => undefined,
      finish: async () => {
        const digester = new BlobDigester();
        for await (const bytes of this.read(blob)) digester.update(bytes);
        const { result } = digester.finish();
        return result.bytes === manifest.bytes ? result : this.#fail(blobFault(blob, 0));
      },
      abandon: async () => undefined,
    };
  }

  #openedSmall(): Promise<SmallBlobs> {
    this.#opening ??= SmallBlobs.open({
      folder: join(this.#folder, SMALL),
      quota: this.#quota,
      otherwise: (bytes) => this.#putFile(bytes),
      ...(this.#openSmall === undefined ? {} : { open: this.#openSmall }),
    }).then(
      (small) => {
        this.#small = small;
        return small;
      },
      (error: unknown) => {
        this.#opening = null;
        throw error;
      },
    );
    return this.#opening;
  }

  /** What the database has of it, checked; null: the database has none, or a damaged one beside a file. */
  async #smallBytes(blob: string): Promise<Uint8Array | null> {
    requireBlobId(blob);
    // Those have more than one chunk.
    if (this.#small === null || this.#manifests.has(blob)) return null;
    try {
      const bytes = await this.#small.get(blob);
      if (bytes === null || blobIdOf(manifestOfSmall(bytes)) === blob) return bytes;
      throw blobFault(blob, 0);
    } catch (error) {
      if (this.#heldBytes(blob) === null) throw error;
      return null;
    }
  }

  /** Whether the database has it as it was. One that is damaged is had again as a file, which is read instead. */
  async #hasSound(blob: string): Promise<boolean> {
    try {
      return (await this.#smallBytes(blob)) !== null;
    } catch (error) {
      if (error instanceof SuperfleetError && error.code === 'SF_NOT_PROVED') return false;
      throw error;
    }
  }

  #file(blob: string): string {
    return join(this.#folder, 'blobs', blob);
  }

  #manifestPath(blob: string): string {
    return join(this.#folder, 'manifests', blob);
  }

  /** Runs `work` when nothing else is done to this blob's name. */
  async #inTurn<T>(blob: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(blob) ?? Promise.resolve();
    const turn = before.catch(() => undefined).then(work);
    this.#turns.set(blob, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(blob) === turn) this.#turns.delete(blob);
    }
  }

  /** Counts what is there and removes what a crash left: unfinished puts, old parts, manifests without a blob. */
  async #sweep(): Promise<void> {
    const held = new Set<string>();
    for (const name of await readdir(join(this.#folder, 'blobs'))) {
      const path = join(this.#folder, 'blobs', name);
      const stat = await lstat(path);
      if (!stat.isFile() || !blobId.safeParse(name).success) continue;
      held.add(name);
      this.#quota.charge(chargeOf(stat.size));
    }
    for (const name of await readdir(join(this.#folder, 'manifests'))) {
      if (!held.has(name)) await rm(join(this.#folder, 'manifests', name), { force: true, recursive: true });
    }
    for (const name of await readdir(join(this.#folder, 'incoming'))) {
      const path = join(this.#folder, 'incoming', name);
      const stat = await lstat(path);
      const blob = name.endsWith('.part') ? name.slice(0, -'.part'.length) : '';
      const wanted = stat.isFile() && blobId.safeParse(blob).success && !held.has(blob);
      if (wanted && Date.now() - stat.mtimeMs < partKeptMs) {
        this.#parts.set(blob, chargeOf(stat.size));
        this.#quota.charge(chargeOf(stat.size));
      } else {
        await rm(path, { force: true, recursive: true });
      }
    }
  }

  #fail(error: SuperfleetError): never {
    throw error;
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

function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += writeBytes) yield bytes.subarray(at, at + writeBytes);
}
