import { mkdtemp, readdir, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Frontier, leafHash } from '../../../ledger/proofs/merkle.ts';
import { type TreeHead, verifyConsistency, verifyInclusion } from '../../../ledger/proofs/merkle-proof.ts';
import { MemoryTileStore, type TileStore } from '../../../ledger/proofs/tile-store.ts';
import { FileTileStore } from '../../../ledger/proofs/tile-store-file.ts';
import { TileTree, type TileTreeOptions } from '../../../ledger/proofs/tile-tree.ts';
import { TILE_BYTES, type Tile, tilePath } from '../../../ledger/proofs/tiles.ts';

/** Two level-1 tiles full, a third begun: what a log of some size has. */
const SIZE = 2 * 65_536 + 3 * 256 + 77;
const LEAVES = Array.from({ length: SIZE }, (_, n) => leafHash(`entry ${n}`));
const HEADS = new Map<number, TreeHead>();
{
  const wanted = new Set([0, 1, 256, 300, 65_536, 70_000, 131_072, SIZE - 1, SIZE]);
  const frontier = new Frontier();
  for (let size = 0; size <= SIZE; size += 1) {
    if (wanted.has(size)) HEADS.set(size, { size, root: frontier.root() });
    if (size < SIZE) frontier.append(LEAVES[size]!);
  }
}
const HEAD = HEADS.get(SIZE)!;

/** Reads leaves as a log would and counts them. */
class Lines {
  read = 0;
  of = LEAVES;
  readonly leaves = async function* (this: Lines, begin: number, end: number): AsyncIterable<Uint8Array> {
    for (const leaf of this.of.slice(begin, end)) {
      this.read += 1;
      yield leaf;
    }
  }.bind(this);
}

async function grown(store: TileStore): Promise<TileTree> {
  const tree = await TileTree.open({ store, leaves: new Lines().leaves }, HEADS.get(0)!);
  for (let begin = 0; begin < SIZE; begin += 1000) await tree.append(LEAVES.slice(begin, begin + 1000));
  return tree;
}

/** The tiles of `grown`, hashed once. */
let tiles: Promise<Tile[]> | null = null;
async function tilesOf(): Promise<Tile[]> {
  const store = new MemoryTileStore();
  await grown(store);
  const ids = [0, 1].flatMap((level) =>
    Array.from({ length: Math.floor(SIZE / 256 ** (level + 1)) }, (_, index) => ({ level, index })),
  );
  return Promise.all(ids.map(async (id) => ({ ...id, bytes: (await store.read(id))! })));
}

/** Leaves in the store what `grown` does. */
async function filled(store: TileStore): Promise<void> {
  tiles ??= tilesOf();
  for (const tile of await tiles) await store.write(tile);
}

const INDEXES = [0, 1, 255, 256, 299, 65_535, 65_536, 69_999, 131_071, 131_072, SIZE - 78, SIZE - 1];

async function provesAll(tree: TileTree): Promise<void> {
  for (const head of HEADS.values()) {
    for (const index of INDEXES.filter((at) => at < head.size)) {
      const proof = await tree.inclusion(index, head);
      assert.equal(proof.leaf, LEAVES[index]);
      verifyInclusion(LEAVES[index]!, index, head, proof.path);
    }
    for (const older of HEADS.values()) {
      if (older.size > head.size) continue;
      const { root, path } = await tree.consistency(older.size, head);
      assert.equal(root, older.root);
      verifyConsistency(older, head, path);
    }
  }
}

const BACKENDS: { name: string; make(): Promise<{ store: TileStore; remove(): Promise<void> }> }[] = [
  { name: 'memory', make: async () => ({ store: new MemoryTileStore(), remove: async () => undefined }) },
  {
    name: 'files',
    make: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'superfleet-tiles-'));
      return { store: new FileTileStore(folder), remove: () => rm(folder, { recursive: true }) };
    },
  },
];

for (const { name, make } of BACKENDS) {
  const on = (what: string, run: (store: TileStore) => Promise<void>): void =>
    test(`${name}: ${what}`, async () => {
      const { store, remove } = await make();
      await run(store).finally(remove);
    });

  on('a tile comes back as it was written, and the later of two writes counts', async (store) => {
    const id = { level: 3, index: 1_234_067 };
    assert.is(await store.read(id), null);
    await store.write({ ...id, bytes: Buffer.alloc(TILE_BYTES, 1) });
    await Promise.all([
      store.write({ level: 0, index: 0, bytes: Buffer.alloc(TILE_BYTES, 3) }),
      store.write({ ...id, bytes: Buffer.alloc(TILE_BYTES, 2) }),
    ]);
    assert.equal(await store.read(id), Buffer.alloc(TILE_BYTES, 2));
    assert.equal(await store.read({ level: 0, index: 0 }), Buffer.alloc(TILE_BYTES, 3));
    assert.is(await store.read({ level: 0, index: 1 }), null);
  });

  on('every proof of a log grown batch by batch holds, also for older checkpoints', async (store) => {
    await provesAll(await grown(store));
  });

  on('a tree opened on stored tiles reads few lines and proves the same', async (store) => {
    await filled(store);
    const lines = new Lines();
    const tree = await TileTree.open({ store, leaves: lines.leaves }, HEAD);
    assert.is(lines.read, 77);
    await provesAll(tree);
    assert.is(lines.read, 77);
    await tree.append([leafHash('one more')]);
    assert.is(tree.size, SIZE + 1);
  });

  on('a tree opened on nothing makes its tiles from the lines', async (store) => {
    const lines = new Lines();
    await provesAll(await TileTree.open({ store, leaves: lines.leaves }, HEAD));
    assert.ok(lines.read > SIZE - 1);
    const again = new Lines();
    await provesAll(await TileTree.open({ store, leaves: again.leaves }, HEAD));
    assert.is(again.read, 77);
  });

  on('a tile with one flipped bit never gives a wrong proof, and is made again', async (store) => {
    await filled(store);
    const lines = new Lines();
    const tree = await TileTree.open({ store, leaves: lines.leaves }, HEAD);
    for (const id of [
      { level: 0, index: 1 },
      { level: 1, index: 0 },
    ]) {
      const good = await store.read(id);
      const bad = Buffer.from(good!);
      bad[5 * 32]! ^= 1;
      await store.write({ ...id, bytes: bad });
      await provesAll(tree);
      assert.equal(await store.read(id), good);
    }
    assert.ok(lines.read > 65_536);
  });

  on('a flipped bit under the edge is seen when the tree is opened', async (store) => {
    await filled(store);
    const id = { level: 0, index: 513 };
    const good = await store.read(id);
    const bad = Buffer.from(good!);
    bad[0]! ^= 1;
    await store.write({ ...id, bytes: bad });
    const lines = new Lines();
    const tree = await TileTree.open({ store, leaves: lines.leaves }, HEAD);
    assert.ok(lines.read >= SIZE);
    assert.equal(await store.read(id), good);
    await provesAll(tree);
  });
}

test('files: a lost, cut, lengthened or replaced file is a lost tile', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-tiles-'));
  try {
    const store = new FileTileStore(folder);
    await filled(store);
    const tree = await TileTree.open({ store, leaves: new Lines().leaves }, HEAD);
    const id = { level: 0, index: 4 };
    const path = join(folder, tilePath(id));
    const good = await readFile(path);
    assert.is((await stat(path)).mode & 0o777, 0o600);
    for (const spoil of [
      () => unlink(path),
      () => truncate(path, 100),
      () => truncate(path, 0),
      () => writeFile(path, Buffer.concat([good, Buffer.of(0)])),
      () => writeFile(path, Buffer.alloc(TILE_BYTES)),
    ]) {
      await spoil();
      await tree.inclusion(4 * 256 + 9, HEAD);
      assert.equal(await readFile(path), good);
    }
    assert.equal(await readdir(folder), ['tile']);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a store that takes nothing is told of and costs only time', async () => {
  class Full extends MemoryTileStore {
    override async write(_tile: Tile): Promise<void> {
      throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
    }
  }
  const told: unknown[] = [];
  const options: TileTreeOptions = {
    store: new Full(),
    leaves: new Lines().leaves,
    onWriteError: (error) => told.push((error as { code: string }).code),
  };
  const tree = await TileTree.open(options, HEADS.get(0)!);
  await tree.append(LEAVES.slice(0, 300));
  assert.equal(told, ['ENOSPC']);
  await tree.inclusion(7, HEADS.get(300)!);
});

test('tiles on their way to the store serve proofs', async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  class Slow extends MemoryTileStore {
    override async write(tile: Tile): Promise<void> {
      await held;
      await super.write(tile);
    }
  }
  const lines = new Lines();
  const tree = await TileTree.open({ store: new Slow(), leaves: lines.leaves }, HEADS.get(0)!);
  const written = tree.append(LEAVES.slice(0, 300));
  await tree.inclusion(7, HEADS.get(300)!);
  release();
  await written;
  await tree.inclusion(7, HEADS.get(300)!);
  assert.is(lines.read, 0);
});

test('lines that do not lead to the signed root are damage, and no proof is made of them', async () => {
  const lines = new Lines();
  lines.of = LEAVES.with(12, leafHash('another'));
  const damaged = (error: { code?: string }): boolean => error.code === 'SF_LOG_DAMAGED';
  const rejects = (
    promise: Promise<unknown>,
    expected: (error: { code?: string }) => boolean,
  ): Promise<void> =>
    promise.then(
      () => assert.unreachable(),
      (error) => assert.ok(expected(error), String(error)),
    );
  await rejects(TileTree.open({ store: new MemoryTileStore(), leaves: lines.leaves }, HEAD), damaged);
  const tree = await grown(new MemoryTileStore());
  const wrong = { size: 300, root: leafHash('no root') };
  await rejects(tree.inclusion(5, wrong), damaged);
  await rejects(tree.consistency(256, wrong), damaged);
  const usage = (error: { code?: string }): boolean => error.code === 'SF_USAGE';
  await rejects(tree.inclusion(300, HEADS.get(300)!), usage);
  await rejects(tree.consistency(301, HEADS.get(300)!), usage);
  await rejects(tree.inclusion(0, { size: SIZE + 1, root: HEAD.root }), usage);
});

test.run();
