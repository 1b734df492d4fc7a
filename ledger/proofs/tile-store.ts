import { TILE_BYTES, type Tile, type TileId, tileKey } from './tiles.ts';

/**
 * Where full tiles lie: in files (`tile-store-file.ts`) or in memory. They are made from the log's lines and can be made
 * again: a store may lose one, and need not notice that its bytes have changed.
 */
export interface TileStore {
  /** The 8,192 bytes of a full tile; null where it is not there or has another length. */
  read(id: TileId): Promise<Buffer | null>;
  /** Keeps a full tile, in place of what was there. Rejects with the system's error. */
  write(tile: Tile): Promise<void>;
}

/** Tiles in memory, for tests and for short logs. */
export class MemoryTileStore implements TileStore {
  readonly #tiles = new Map<string, Buffer>();

  async read(id: TileId): Promise<Buffer | null> {
    const bytes = this.#tiles.get(tileKey(id));
    return bytes?.length === TILE_BYTES ? Buffer.from(bytes) : null;
  }

  async write(tile: Tile): Promise<void> {
    this.#tiles.set(tileKey(tile), Buffer.from(tile.bytes));
  }
}
