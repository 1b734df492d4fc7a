import { type FileHandle, mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { TileStore } from './tile-store.ts';
import { TILE_BYTES, type Tile, type TileId, tilePath } from './tiles.ts';

/** A tile that cannot be read counts as lost: it is made again. What says that nothing can be opened does not. */
const LOST = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EIO']);

/**
 * Full tiles as files under `folder`, each at its tlog-tiles path, mode 0600. One process at a time. Nothing is synced: a tile that a
 * crash lost or cut short is made again, as any that does not lead to its root.
 */
export class FileTileStore implements TileStore {
  readonly #folder: string;
  #written: Promise<unknown> = Promise.resolve();

  /** The folder is made (0700) when the first tile is. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async read(id: TileId): Promise<Buffer | null> {
    try {
      return await withFile(await open(join(this.#folder, tilePath(id)), 'r'), readTile);
    } catch (error) {
      if (LOST.has((error as NodeJS.ErrnoException).code ?? '')) return null;
      throw error;
    }
  }

  /** One after the other, never on the event loop: while the disk syncs a log, a file that is made may wait for it. */
  write(tile: Tile): Promise<void> {
    const written = this.#written.then(() => this.#put(tile));
    this.#written = written.catch(() => {});
    return written;
  }

  async #put(tile: Tile): Promise<void> {
    const part = join(this.#folder, 'part');
    const path = join(this.#folder, tilePath(tile));
    try {
      await putFile(part, path, tile.bytes).catch(async (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
        // The first one of its folder.
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        await putFile(part, path, tile.bytes);
      });
    } catch (error) {
      // Why it was not written is what counts.
      await rm(part, { force: true }).catch(() => {});
      throw error;
    }
  }
}

async function putFile(part: string, path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(part, bytes, { mode: 0o600 });
  await rename(part, path);
}

async function readTile(file: FileHandle): Promise<Buffer | null> {
  // One byte more than a tile has, so that a longer file shows.
  const bytes = Buffer.allocUnsafe(TILE_BYTES + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
    length += bytesRead;
    if (bytesRead === 0 || length === bytes.length) break;
  }
  return length === TILE_BYTES ? bytes.subarray(0, TILE_BYTES) : null;
}

async function withFile<T>(file: FileHandle, use: (file: FileHandle) => Promise<T>): Promise<T> {
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
