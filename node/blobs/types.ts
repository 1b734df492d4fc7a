import type { BlobManifest } from '../../protocol/manifest.ts';
import type { ResultBlob } from '../../protocol/session.ts';

export type { BlobManifest };

/** Content-addressed files of one data folder. Same promises in memory and on disk; one suite runs on both. */
export interface BlobStore {
  has(blob: string): Promise<boolean>;
  manifest(blob: string): Promise<BlobManifest | null>;
  /** Bytes of one chunk, checked against the manifest; `SF_NOT_PROVED` where the disk changed them. */
  chunk(blob: string, index: number): Promise<Uint8Array>;
  /** Takes bytes to the end, syncs them and their name, and only then resolves; an array must not change before. `SF_FULL` past the quota. */
  put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob>;
  /** Opens a transfer that may have been begun before; complete only when every chunk came and was synced. */
  receive(blob: string, manifest: BlobManifest): Promise<BlobReceiver>;
  read(blob: string): AsyncIterable<Uint8Array>;
  /** A path other processes may read, of a file that is whole and immutable; null where the blob is no file of its own. */
  path(blob: string): string | null;
  delete(blob: string): Promise<void>;
  /** Every blob there is now, in no order. */
  list(): Promise<string[]>;
}

export interface BlobReceiver {
  /** Chunks still missing, in order. */
  missing(): number[];
  /** Refuses with `SF_NOT_PROVED` a chunk whose digest is not the manifest's. */
  write(index: number, bytes: Uint8Array): Promise<void>;
  /** Syncs and makes the blob visible; resolves with its SHA-256. */
  finish(): Promise<ResultBlob>;
  abandon(): Promise<void>;
}
