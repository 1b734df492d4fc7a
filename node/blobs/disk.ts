import { existsSync, lstatSync, renameSync } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import { blobChunkBytes, blobStoreBytesMax } from '../../protocol/limits.ts';
import { type BlobManifest, blobIdOf, chunkLength } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { OwnTurns } from '../turns.ts';
import { BlobDigester, manifestOfSmall, resultOf, sha256Of } from './digester.ts';
import { blobFault, noSuchBlob, requireBlobId, requireChunk, requireManifestOf } from './faults.ts';
import { FolderSync, StoreFile, syncFolder } from './files.ts';
import { Manifests } from './manifests.ts';
import { chargeOf, Quota, Reservation } from './quota.ts';
import { SmallBlobs } from './small.ts';
import { CLOSED, type SmallDatabase, type SmallRepair } from './small-database.ts';
import { Transfers } from './transfers.ts';
import type { BlobReceiver, BlobStore } from './types.ts';

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
  readonly #manifests: Manifests;
  readonly #transfers: Transfers;
  /** Work on one blob's name, one at a time. */
  readonly #turns = new OwnTurns();
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
    this.#manifests = new Manifests(join(folder, 'manifests'));
    this.#transfers = new Transfers({
      folder: join(folder, 'incoming'),
      quota: this.#quota,
      turns: this.#turns,
      publish: (...published) => this.#publish(...published),
    });
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
    if ([SMALL, SMALL + CLOSED].some((name) => existsSync(join(folder, name)))) await store.#openedSmall();
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
    await this.#turns.over(blob);
    return this.#heldBytes(blob) !== null || ((await this.#small?.has(blob)) ?? false);
  }

  async manifest(blob: string): Promise<BlobManifest | null> {
    requireBlobId(blob);
    const small = await this.#smallBytes(blob);
    if (small !== null) return manifestOfSmall(small);
    const file = await StoreFile.open(this.#file(blob));
    if (file === null) return null;
    try {
      return await this.#manifests.of(blob, file);
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
      return await this.#chunkOf(blob, await this.#manifests.of(blob, file), file, index);
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
      const manifest = await this.#manifests.of(blob, file);
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
    const temporary = this.#temporaryPath();
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
    return this.#turns.inTurn(blob, async () => {
      const held = this.#heldBytes(blob) !== null || (await this.#hasSound(blob));
      return held ? this.#alreadyHeld(blob, manifest) : this.#transfers.receive(blob, manifest);
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
    await Promise.all([small, this.#removeFile(blob)]);
  }

  #removeFile(blob: string): Promise<void> {
    return this.#turns.inTurn(blob, async () => {
      const bytes = this.#heldBytes(blob);
      if (bytes === null) return;
      await rm(this.#file(blob), { force: true });
      await this.#manifests.delete(blob);
      this.#quota.release(chargeOf(bytes));
    });
  }

  async list(): Promise<string[]> {
    const names = await readdir(join(this.#folder, 'blobs'));
    const files = names.filter((name) => blobId.safeParse(name).success);
    const small = (await this.#small?.list()) ?? [];
    return files.length === 0 ? small : [...new Set([...files, ...small])];
  }

  /** Gives synced content its name. The same content put twice replaces itself, which also heals a damaged copy. */
  #publish(blob: string, manifest: BlobManifest, from: string, reservation: Reservation): Promise<void> {
    return this.#turns.inTurn(blob, async () => {
      const heldBytes = this.#heldBytes(blob);
      if (manifest.chunks.length > 1) await this.#manifests.write(blob, manifest, this.#temporaryPath());
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
      remove: (blob) => this.#removeFile(blob),
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
    if (this.#small === null || this.#manifests.remembers(blob)) return null;
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

  /** A name in `incoming/` that is free. */
  #temporaryPath(): string {
    return join(this.#folder, 'incoming', `${this.#temporary++}.put`);
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
    await this.#manifests.sweep(held);
    await this.#transfers.sweep(held);
  }

  #fail(error: SuperfleetError): never {
    throw error;
  }
}

function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += writeBytes) yield bytes.subarray(at, at + writeBytes);
}
