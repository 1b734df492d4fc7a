import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
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

  /**
   * On this thread, and not synced: few bytes go into the kernel's memory, which takes less than the ways to another thread and back;
   * a founder fills some hundred tiles a second.
   */
  async write(tile: Tile): Promise<void> {
    const part = join(this.#folder, 'part');
    const path = join(this.#folder, tilePath(tile));
    try {
      try {
        putFile(part, path, tile.bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        // The first one of its folder.
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        putFile(part, path, tile.bytes);
      }
    } catch (error) {
      try {
        rmSync(part, { force: true });
      } catch {
        // Why it was not written is what counts.
      }
      throw error;
    }
  }
}

function putFile(part: string, path: string, bytes: Uint8Array): void {
  writeFileSync(part, bytes, { mode: 0o600 });
  renameSync(part, path);
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
