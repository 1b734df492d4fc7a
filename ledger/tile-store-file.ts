import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { TileStore } from './tile-store.ts';
import { TILE_BYTES, type Tile, type TileId, tilePath } from './tiles.ts';

/** A tile that cannot be read counts as lost: it is made again. What says that nothing can be opened does not. */
const LOST = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EIO']);

/**
 * Full tiles as files under `folder`, each at its tlog-tiles path, mode 0600. One process at a time. After a crash a file
 * is whole or not there; which names a folder holds is not synced, for a lost tile is made again.
 */
export class FileTileStore implements TileStore {
  readonly #folder: string;
  /** Numbers of the part files in use. A crash leaves at most as many as were written at once; they are written over. */
  readonly #writing = new Set<number>();

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

  async write(tile: Tile): Promise<void> {
    let number = 0;
    while (this.#writing.has(number)) number += 1;
    this.#writing.add(number);
    const part = join(this.#folder, `part-${number}`);
    const path = join(this.#folder, tilePath(tile));
    const put = async (): Promise<void> => {
      await withFile(await open(part, 'w', 0o600), async (file) => {
        await file.writeFile(tile.bytes);
        await file.datasync();
      });
      await rename(part, path);
    };
    try {
      await put().catch(async (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
        // The first one of its folder.
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        await put();
      });
    } catch (error) {
      await rm(part, { force: true }).catch(() => undefined);
      throw error;
    } finally {
      this.#writing.delete(number);
    }
  }
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
