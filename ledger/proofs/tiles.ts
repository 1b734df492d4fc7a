import { nodeHash } from './merkle.ts';
import type { ProofPlan, Subtree } from './merkle-proof.ts';

/**
 * The stored hashes of the tree, in the layout of C2SP tlog-tiles: a tile is 256 hashes side by side. At level 0 they are
 * leaf hashes; at level l + 1 each is the root over a full tile of level l. A full tile never changes. Pure.
 */
export const TILE_HEIGHT = 8;
export const TILE_HASHES = 2 ** TILE_HEIGHT;
const HASH_BYTES = 32;
export const TILE_BYTES = TILE_HASHES * HASH_BYTES;

/** The `index`-th tile of a level. */
export interface TileId {
  level: number;
  index: number;
}

/** A full tile: its place and its 8,192 bytes. */
export interface Tile extends TileId {
  bytes: Buffer;
}

/** Leaves under one hash of a tile of this level. */
export const leavesPerHash = (level: number): number => TILE_HASHES ** level;

/** First leaf under a tile, and the one behind its last when it is full. */
export function leavesOf({ level, index }: TileId): { begin: number; end: number } {
  const leaves = leavesPerHash(level + 1);
  return { begin: index * leaves, end: (index + 1) * leaves };
}

/** Hashes in this tile when the tree has `size` leaves: 0 to 256. */
export function tileWidth({ level, index }: TileId, size: number): number {
  const hashes = Math.floor(size / leavesPerHash(level)) - index * TILE_HASHES;
  return Math.max(0, Math.min(TILE_HASHES, hashes));
}

/** The resource path of tlog-tiles: `tile/0/x001/x234/067`, with `.p/W` behind it for a tile of fewer than 256 hashes. */
export function tilePath({ level, index }: TileId, width = TILE_HASHES): string {
  const groups = [String(index % 1000).padStart(3, '0')];
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${String(rest % 1000).padStart(3, '0')}`);
  }
  return `tile/${level}/${groups.join('/')}${width === TILE_HASHES ? '' : `.p/${width}`}`;
}

/** The tile in which a whole subtree lies, and which of its hashes are under it. */
export function placeOf(subtree: Subtree): { tile: TileId; first: number; count: number } {
  const level = Math.floor(subtree.level / TILE_HEIGHT);
  const count = 2 ** (subtree.level % TILE_HEIGHT);
  const first = subtree.index * count;
  return { tile: { level, index: Math.floor(first / TILE_HASHES) }, first: first % TILE_HASHES, count };
}

/** The tiles that a plan needs, each once. */
export function tilesOf(plan: ProofPlan): TileId[] {
  const tiles = new Map<string, TileId>();
  for (const subtree of plan.flat()) {
    const { tile } = placeOf(subtree);
    tiles.set(tileKey(tile), tile);
  }
  return [...tiles.values()];
}

/** One text for one tile. */
export const tileKey = ({ level, index }: TileId): string => `${level}/${index}`;

/** The hash of a whole subtree, from the bytes of its tile. Throws a RangeError where the tile doesn't reach that far. */
export function subtreeHash(subtree: Subtree, tile: Uint8Array): Buffer {
  const { first, count } = placeOf(subtree);
  return rootOf(tile, first, count);
}

/** The hash that a full tile is in the tile above it. */
export const tileRoot = (tile: Uint8Array): Buffer => rootOf(tile, 0, TILE_HASHES);

/** Root over `count` hashes of a tile, a power of two. */
function rootOf(tile: Uint8Array, first: number, count: number): Buffer {
  if (tile.length < (first + count) * HASH_BYTES) {
    throw new RangeError(`a tile of ${tile.length / HASH_BYTES} hashes has none at ${first + count - 1}`);
  }
  let row = Array.from({ length: count }, (_, at) =>
    tile.subarray((first + at) * HASH_BYTES, (first + at + 1) * HASH_BYTES),
  );
  while (row.length > 1) {
    row = Array.from({ length: row.length / 2 }, (_, at) => nodeHash(row[2 * at]!, row[2 * at + 1]!));
  }
  return Buffer.from(row[0]!);
}

/**
 * The tiles at the right edge that are not full yet, at most one a level. Invariant: level l holds
 * floor(size / 256^l) mod 256 hashes.
 */
export class TileEdge {
  #size: number;
  readonly #levels: { bytes: Buffer; width: number }[];

  /** An edge for `size` leaves; `levels` are the hashes of its partial tiles, from level 0 up. */
  constructor(size = 0, levels: readonly Uint8Array[][] = []) {
    this.#size = size;
    this.#levels = levels.map((hashes) => {
      const bytes = Buffer.alloc(TILE_BYTES);
      for (const [at, hash] of hashes.entries()) bytes.set(hash, at * HASH_BYTES);
      return { bytes, width: hashes.length };
    });
    for (const [level, { width }] of this.#levels.entries()) {
      const expected = Math.floor(size / leavesPerHash(level)) % TILE_HASHES;
      if (width !== expected) {
        throw new RangeError(`level ${level} of ${size} leaves has ${expected} hashes, not ${width}`);
      }
    }
    if (leavesPerHash(levels.length) <= size) {
      throw new RangeError(`${size} leaves have more than ${levels.length} levels`);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Takes the next leaf hash and returns the tiles that it filled, lowest first. */
  append(leaf: Uint8Array): Tile[] {
    const filled: Tile[] = [];
    this.#size += 1;
    let hash = leaf;
    for (let level = 0; ; level += 1) {
      const partial = this.#levels[level] ?? { bytes: Buffer.alloc(TILE_BYTES), width: 0 };
      this.#levels[level] = partial;
      partial.bytes.set(hash, partial.width * HASH_BYTES);
      partial.width += 1;
      if (partial.width < TILE_HASHES) return filled;
      filled.push({ level, index: this.#size / leavesPerHash(level + 1) - 1, bytes: partial.bytes });
      hash = tileRoot(partial.bytes);
      this.#levels[level] = { bytes: Buffer.alloc(TILE_BYTES), width: 0 };
    }
  }

  /** The hashes there are of a partial tile; null for a tile that is full or not begun. */
  tile({ level, index }: TileId): Buffer | null {
    const partial = this.#levels[level];
    if (partial === undefined || partial.width === 0) return null;
    const here = Math.floor(this.#size / leavesPerHash(level + 1));
    return index === here ? partial.bytes.subarray(0, partial.width * HASH_BYTES) : null;
  }
}
