import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Frontier, leafHash } from '../../../ledger/proofs/merkle.ts';
import { consistencyPlan, inclusionPlan, pathOf, rootPlan } from '../../../ledger/proofs/merkle-proof.ts';
import {
  leavesOf,
  placeOf,
  subtreeHash,
  TILE_BYTES,
  TileEdge,
  tileKey,
  tilePath,
  tileRoot,
  tilesOf,
  tileWidth,
} from '../../../ledger/proofs/tiles.ts';

const leaf = (n: number): Buffer => leafHash(`leaf ${n}`);

function rootOf(begin: number, end: number): Buffer {
  const frontier = new Frontier();
  for (let n = begin; n < end; n += 1) frontier.append(leaf(n));
  return frontier.root();
}

test('paths are those of tlog-tiles', () => {
  // The first is the specification's own example of an index.
  assert.is(tilePath({ level: 0, index: 1_234_067 }), 'tile/0/x001/x234/067');
  assert.is(tilePath({ level: 2, index: 0 }), 'tile/2/000');
  assert.is(tilePath({ level: 1, index: 1000 }), 'tile/1/x001/000');
  assert.is(tilePath({ level: 0, index: 273 }, 112), 'tile/0/273.p/112');
});

test('a tree of 70,000 leaves has the tiles that tlog-tiles gives it', () => {
  const width = (level: number, index: number): number => tileWidth({ level, index }, 70_000);
  assert.equal([width(0, 272), width(0, 273), width(0, 274)], [256, 112, 0]);
  assert.equal([width(1, 0), width(1, 1), width(2, 0), width(3, 0)], [256, 17, 1, 0]);
  assert.equal([tileWidth({ level: 0, index: 0 }, 256), tileWidth({ level: 1, index: 0 }, 256)], [256, 1]);
  assert.equal(leavesOf({ level: 1, index: 3 }), { begin: 3 * 65_536, end: 4 * 65_536 });
});

test('appending fills each tile once, and each holds the hashes the specification says', () => {
  const edge = new TileEdge();
  const full = new Map<string, Buffer>();
  for (let n = 0; n < 66_000; n += 1) {
    for (const tile of edge.append(leaf(n))) {
      assert.not.ok(full.has(tileKey(tile)));
      assert.is(tile.bytes.length, TILE_BYTES);
      full.set(tileKey(tile), Buffer.from(tile.bytes));
    }
  }
  assert.is(full.size, 257 + 1);
  assert.equal(full.get('0/3')!.subarray(7 * 32, 8 * 32), leaf(3 * 256 + 7));
  assert.equal(full.get('1/0')!.subarray(9 * 32, 10 * 32), rootOf(9 * 256, 10 * 256));
  assert.equal(tileRoot(full.get('1/0')!), rootOf(0, 65_536));
  assert.equal(edge.tile({ level: 2, index: 0 }), rootOf(0, 65_536));
  for (let level = 0; level < 3; level += 1) {
    for (const index of [0, 1, 256, 257, 258]) {
      const held = edge.tile({ level, index });
      const width = tileWidth({ level, index }, edge.size);
      assert.is(held === null ? 0 : held.length / 32, width === 256 ? 0 : width, `${level}/${index}`);
      assert.is(full.has(`${level}/${index}`), width === 256);
    }
  }
});

test('a later tile never changes one that was full before', () => {
  const edge = new TileEdge();
  const [first] = Array.from({ length: 256 }, (_, n) => edge.append(leaf(n))).flat();
  const before = Buffer.from(first!.bytes);
  for (let n = 256; n < 1024; n += 1) edge.append(leaf(n));
  assert.equal(first!.bytes, before);
});

test('proofs for any size that was ever signed come from the tiles of a larger tree', () => {
  const edge = new TileEdge();
  const full = new Map<string, Buffer>();
  const SIZE = 3000;
  const frontier = new Frontier();
  const roots = [frontier.root()];
  for (let n = 0; n < SIZE; n += 1) {
    for (const tile of edge.append(leaf(n))) full.set(tileKey(tile), tile.bytes);
    frontier.append(leaf(n));
    roots.push(frontier.root());
  }
  const sizes = fc
    .integer({ min: 1, max: SIZE })
    .chain((size) => fc.tuple(fc.integer({ min: 0, max: size - 1 }), fc.constant(size)));
  const hashOf = (subtree: Parameters<typeof placeOf>[0]): Buffer => {
    const { tile } = placeOf(subtree);
    return subtreeHash(subtree, full.get(tileKey(tile)) ?? edge.tile(tile)!);
  };
  fc.assert(
    fc.property(sizes, ([index, size]) => {
      for (const plan of [inclusionPlan(index, size), consistencyPlan(index + 1, size)]) {
        const tiles = new Set(tilesOf(plan).map(tileKey));
        assert.ok(tiles.size <= 4);
        for (const subtree of plan.flat()) {
          assert.ok(tiles.has(tileKey(placeOf(subtree).tile)));
          const { level, index: at } = subtree;
          assert.equal(hashOf(subtree), rootOf(at * 2 ** level, (at + 1) * 2 ** level));
        }
      }
      assert.equal(pathOf(rootPlan(size), hashOf), [roots[size]]);
    }),
    { numRuns: 40 },
  );
});

test('what a plan over 2^53 - 1 leaves needs is a few tiles, all of them within the tree', () => {
  const size = Number.MAX_SAFE_INTEGER;
  for (const index of [0, 255, 256, Math.floor(size / 7), size - 1]) {
    const tiles = tilesOf(inclusionPlan(index, size));
    assert.ok(tiles.length <= 14, `${tiles.length}`);
    for (const tile of tiles) assert.ok(tileWidth(tile, size) > 0);
  }
});

test('an edge of a size it cannot have, and a hash behind the end of a tile, are refused', () => {
  assert.throws(() => new TileEdge(3, [[leaf(0)]]), /level 0 of 3 leaves has 3 hashes, not 1/);
  assert.throws(() => new TileEdge(256, [[]]), /more than 1 levels/);
  assert.throws(() => new TileEdge(1, []), /more than 0 levels/);
  assert.throws(() => subtreeHash({ level: 1, index: 1 }, Buffer.alloc(3 * 32)), /has none at 3/);
});

test.run();
