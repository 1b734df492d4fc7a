import { SuperfleetError } from '../../protocol/errors.ts';
import { Frontier } from './merkle.ts';
import {
  consistencyPlan,
  inclusionPlan,
  type ProofPlan,
  pathOf,
  rootPlan,
  type TreeHead,
  verifyConsistency,
  verifyInclusion,
} from './merkle-proof.ts';
import type { TileStore } from './tile-store.ts';
import {
  leavesOf,
  leavesPerHash,
  placeOf,
  subtreeHash,
  TILE_HASHES,
  type Tile,
  TileEdge,
  type TileId,
  tileKey,
  tileRoot,
  tilesOf,
} from './tiles.ts';

/** A leaf, its place and what shows that it is there. */
export interface InclusionProof {
  leaf: Buffer;
  index: number;
  path: Buffer[];
}

/** The root at an older size, and the path from there to a newer tree. */
export interface ConsistencyProof {
  root: Buffer;
  path: Buffer[];
}

export interface TileTreeOptions {
  store: TileStore;
  /** Leaf hashes of the entries from `begin` to before `end`, read from the log's lines: the truth. */
  leaves: (begin: number, end: number) => AsyncIterable<Uint8Array>;
  /** Told of a tile that could not be written; the proofs don't need it to be. @default passed over */
  onWriteError?: (error: unknown) => void;
}

/**
 * The log's tree for making proofs: full tiles in a store, the right edge in memory (at most 8 KiB a level). Every proof is
 * checked before it is given out. Where it doesn't hold, the tiles it came from are made again from the log's lines, so
 * a lost or damaged tile costs time and never gives a wrong proof.
 */
export class TileTree {
  readonly #options: TileTreeOptions;
  #edge: TileEdge;
  /** Full tiles on their way to the store. Bounded by what one append fills. */
  readonly #writing = new Map<string, Tile>();

  private constructor(options: TileTreeOptions, edge: TileEdge) {
    this.#options = options;
    this.#edge = edge;
  }

  /**
   * The tree of a log of `head.size` entries. Reads at most 255 lines and 255 tiles a level; where they don't lead to
   * `head.root`, all lines, and writes all tiles anew. Throws `SF_LOG_DAMAGED` where the lines don't lead there either.
   */
  static async open(options: TileTreeOptions, head: TreeHead): Promise<TileTree> {
    const tree = new TileTree(options, new TileEdge());
    tree.#edge = await tree.#readEdge(head.size);
    if (tree.#leadsTo(head)) return tree;
    tree.#edge = new TileEdge();
    for await (const leaf of options.leaves(0, head.size)) await tree.append([leaf]);
    if (tree.size !== head.size || !tree.#leadsTo(head)) throw otherRoot(head);
    return tree;
  }

  get size(): number {
    return this.#edge.size;
  }

  /** Takes the next leaf hashes at once; resolves when the tiles they filled are written, or could not be. */
  async append(leaves: readonly Uint8Array[]): Promise<void> {
    const filled = leaves.flatMap((leaf) => this.#edge.append(leaf));
    for (const tile of filled) this.#writing.set(tileKey(tile), tile);
    for (const tile of filled) {
      await this.#write(tile);
      this.#writing.delete(tileKey(tile));
    }
  }

  /**
   * The proof that entry `index` is under `head`, a checkpoint of this log of any size up to `size`. Throws `SF_USAGE` for an
   * entry that is not under it, `SF_LOG_DAMAGED` where the log's lines don't lead to its root.
   */
  async inclusion(index: number, head: TreeHead): Promise<InclusionProof> {
    const plan = this.#plan(() => inclusionPlan(index, head.size), head);
    const leaf = { level: 0, index };
    return this.#proved([...plan, [leaf]], head, (hashes) => {
      const proof = { leaf: hashes.at(-1)!, index, path: hashes.slice(0, -1) };
      verifyInclusion(proof.leaf, index, head, proof.path);
      return proof;
    });
  }

  /**
   * The proof that the tree of `size` entries is where `newer`, a checkpoint of this log, began. The root at `size` comes with
   * it: a peer that holds another for that size has seen another history. Throws as `inclusion` does.
   */
  async consistency(size: number, newer: TreeHead): Promise<ConsistencyProof> {
    const plan = this.#plan(() => [...consistencyPlan(size, newer.size), ...rootPlan(size)], newer);
    return this.#proved(plan, newer, (hashes) => {
      const root = size === 0 ? new Frontier().root() : hashes.at(-1)!;
      const path = size === 0 ? [] : hashes.slice(0, -1);
      verifyConsistency({ size, root }, newer, path);
      return { root, path };
    });
  }

  #plan(make: () => ProofPlan, head: TreeHead): ProofPlan {
    try {
      if (head.size > this.size)
        throw new RangeError(`a tree of ${this.size} has no proofs for ${head.size}`);
      return make();
    } catch (error) {
      throw new SuperfleetError('SF_USAGE', 'there is no such proof', {
        expected: `an entry or a size below that of the checkpoint, ${head.size}, and no more than ${this.size} entries`,
        got: (error as Error).message,
        cause: error,
      });
    }
  }

  /** The path of a plan, checked; when the check refuses it, once more from tiles made anew. */
  async #proved<T>(plan: ProofPlan, head: TreeHead, check: (path: Buffer[]) => T): Promise<T> {
    try {
      return check(await this.#path(plan, (id) => this.#read(id)));
    } catch (error) {
      if ((error as SuperfleetError).code !== 'SF_NOT_PROVED') throw error;
    }
    const path = await this.#path(plan, async (id) => this.#edge.tile(id) ?? this.#remake(id));
    try {
      return check(path);
    } catch (error) {
      throw otherRoot(head, error);
    }
  }

  async #path(plan: ProofPlan, read: (id: TileId) => Promise<Buffer>): Promise<Buffer[]> {
    const ids = tilesOf(plan);
    const tiles = new Map(await Promise.all(ids.map(async (id) => [tileKey(id), await read(id)] as const)));
    return pathOf(plan, (subtree) => subtreeHash(subtree, tiles.get(tileKey(placeOf(subtree).tile))!));
  }

  async #read(id: TileId): Promise<Buffer> {
    const held = this.#edge.tile(id) ?? this.#writing.get(tileKey(id))?.bytes;
    return held ?? (await this.#options.store.read(id)) ?? this.#remake(id);
  }

  /** A full tile from the log's lines, written anew. */
  async #remake(id: TileId): Promise<Buffer> {
    const { begin, end } = leavesOf(id);
    // An edge of its own: the leaves under a tile fill one tile of each level below it, in the same places.
    const edge = new TileEdge();
    for await (const leaf of this.#options.leaves(begin, end)) {
      const top = edge.append(leaf).find(({ level }) => level === id.level);
      if (top === undefined) continue;
      await this.#write({ ...id, bytes: top.bytes });
      return top.bytes;
    }
    throw new SuperfleetError('SF_LOG_DAMAGED', `the log has no entries ${begin} to ${end - 1}`, {
      expected: `${end - begin} entries`,
      got: `${edge.size}`,
      hint: '`mesh-hub ledger verify` shows how far the log is sound',
    });
  }

  async #write(tile: Tile): Promise<void> {
    try {
      await this.#options.store.write(tile);
    } catch (error) {
      this.#options.onWriteError?.(error);
    }
  }

  async #readEdge(size: number): Promise<TileEdge> {
    const levels: Uint8Array[][] = [];
    for (let level = 0; leavesPerHash(level) <= size; level += 1) {
      const hashes: Uint8Array[] = [];
      const end = Math.floor(size / leavesPerHash(level));
      const begin = end - (end % TILE_HASHES);
      if (level === 0)
        for await (const leaf of this.#options.leaves(begin, end)) hashes.push(Buffer.from(leaf));
      else
        for (let index = begin; index < end; index += 1)
          hashes.push(tileRoot(await this.#read({ level: level - 1, index })));
      levels.push(hashes);
    }
    return new TileEdge(size, levels);
  }

  /** Whether the edge leads to this root. All that its root is made of lies in the edge: no tile is read. */
  #leadsTo(head: TreeHead): boolean {
    const [root] = pathOf(rootPlan(head.size), (subtree) =>
      subtreeHash(subtree, this.#edge.tile(placeOf(subtree).tile)!),
    );
    return Buffer.compare(root ?? new Frontier().root(), head.root) === 0;
  }
}

function otherRoot(head: TreeHead, cause?: unknown): SuperfleetError {
  const root = Buffer.from(head.root).toString('hex');
  return new SuperfleetError(
    'SF_LOG_DAMAGED',
    `the entries of the log do not lead to the root at ${head.size}`,
    {
      expected: root,
      got: 'another root, also from the lines themselves',
      hint: '`mesh-hub ledger verify` shows how far the log is sound',
      cause,
    },
  );
}
