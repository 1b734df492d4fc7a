import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { leafHash, nodeHash } from '../../../ledger/proofs/merkle.ts';
import {
  consistencyPlan,
  inclusionPlan,
  pathOf,
  type Subtree,
  verifyConsistency,
  verifyInclusion,
} from '../../../ledger/proofs/merkle-proof.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const refusal = (error: { code?: string }): boolean => error.code === 'SF_NOT_PROVED';
const EMPTY = createHash('sha256').digest();

/** The tree of RFC 6962 §2.1 over leaf hashes, word by word; `end` is exclusive. */
class Recursive {
  readonly #leaves: readonly Buffer[];
  /** Hashes of the ranges that were asked for before. */
  readonly #known = new Map<number, Buffer>();

  constructor(leaves: readonly Buffer[]) {
    this.#leaves = leaves;
  }

  root(begin: number, end: number): Buffer {
    if (end === begin) return EMPTY;
    if (end - begin === 1) return this.#leaves[begin]!;
    const key = begin * 2 ** 21 + end;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const split = begin + splitOf(end - begin);
    const root = createHash('sha256')
      .update(Buffer.concat([Buffer.of(1), this.root(begin, split), this.root(split, end)]))
      .digest();
    this.#known.set(key, root);
    return root;
  }

  /** PATH(m, D[n]) of §2.1.1. */
  path(index: number, begin: number, end: number): Buffer[] {
    if (end - begin === 1) return [];
    const split = begin + splitOf(end - begin);
    return index < split
      ? [...this.path(index, begin, split), this.root(split, end)]
      : [...this.path(index, split, end), this.root(begin, split)];
  }

  /** PROOF(m, D[n]) of §2.1.2. */
  proof(size1: number, begin: number, end: number, whole = true): Buffer[] {
    if (size1 === end) return whole ? [] : [this.root(begin, end)];
    const split = begin + splitOf(end - begin);
    return size1 <= split
      ? [...this.proof(size1, begin, split, whole), this.root(split, end)]
      : [...this.proof(size1, split, end, false), this.root(begin, split)];
  }
}

/** The largest power of two below n. */
function splitOf(n: number): number {
  let split = 1;
  while (split * 2 < n) split *= 2;
  return split;
}

/** Far beyond what is tried exhaustively; what larger sizes add is in the plans alone, which the last test takes up to 2^53. */
const LEAVES_MAX = 2 ** 16;
const leaves: Buffer[] = [];
const leavesTo = (size: number): Buffer[] => {
  while (leaves.length < size) leaves.push(leafHash(`${leaves.length}`));
  return leaves;
};
const hashesFrom =
  (tree: Recursive) =>
  ({ level, index }: Subtree): Buffer =>
    tree.root(index * 2 ** level, (index + 1) * 2 ** level);

const included = (tree: Recursive, index: number, size: number, path: readonly Uint8Array[]): void =>
  verifyInclusion(tree.root(index, index + 1), index, { size, root: tree.root(0, size) }, path);
const consistent = (tree: Recursive, size1: number, size2: number, path: readonly Uint8Array[]): void =>
  verifyConsistency(
    { size: size1, root: tree.root(0, size1) },
    { size: size2, root: tree.root(0, size2) },
    path,
  );

test('the published proofs of the certificate-transparency reference tests hold and come out', () => {
  // Leaves, roots and proofs of github.com/transparency-dev/merkle, log_verifier_test.go and testdata/ (there leaves
  // of inclusion proofs are counted from 1).
  const inputs = [
    '',
    '00',
    '10',
    '2021',
    '3031',
    '40414243',
    '5051525354555657',
    '606162636465666768696a6b6c6d6e6f',
  ];
  const roots: Record<number, string> = {
    1: '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    2: 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    3: 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    5: '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    6: '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    7: 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    8: '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  };
  const A = '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7';
  const B = '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e';
  const C = '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4';
  const D = 'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b';
  const E = 'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0';
  const F = 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7';
  const G = '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a';
  const H = 'b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f';
  const inclusions: [index: number, size: number, path: string[]][] = [
    [0, 1, []],
    [0, 8, [A, B, C]],
    [5, 8, [D, E, F]],
    [2, 3, [roots[2]!]],
    [1, 5, [roots[1]!, B, D]],
  ];
  const consistencies: [size1: number, size2: number, path: string[]][] = [
    [1, 1, []],
    [1, 8, [A, B, C]],
    [6, 8, [G, E, F]],
    [2, 5, [B, D]],
    [6, 7, [G, H, F]],
  ];
  const published = inputs.map((input) => leafHash(bytes(input)));
  const tree = new Recursive(published);
  for (const [index, size, path] of inclusions) {
    verifyInclusion(published[index]!, index, { size, root: bytes(roots[size]!) }, path.map(bytes));
    assert.equal(pathOf(inclusionPlan(index, size), hashesFrom(tree)), path.map(bytes));
  }
  for (const [size1, size2, path] of consistencies) {
    const [older, newer] = [size1, size2].map((size) => ({ size, root: bytes(roots[size]!) }));
    verifyConsistency(older!, newer!, path.map(bytes));
    assert.equal(pathOf(consistencyPlan(size1, size2), hashesFrom(tree)), path.map(bytes));
  }
});

test('the example of RFC 6962 §2.1.3 comes out: the nodes it names for seven leaves', () => {
  const tree = new Recursive(leavesTo(7).slice(0, 7));
  const [b, c, d] = [1, 2, 3].map((at) => leaves[at]!);
  const [g, h, i, j] = [0, 2, 4, 6].map((at) => tree.root(at, Math.min(at + 2, 7)));
  const [k, l] = [tree.root(0, 4), tree.root(4, 7)];
  const path = (index: number): Buffer[] => pathOf(inclusionPlan(index, 7), hashesFrom(tree));
  const proof = (size1: number): Buffer[] => pathOf(consistencyPlan(size1, 7), hashesFrom(tree));
  assert.equal(path(0), [b, h, l]);
  assert.equal(path(3), [c, g, l]);
  assert.equal(path(4), [leaves[5], j, k]);
  assert.equal(path(6), [i, k]);
  assert.equal(proof(3), [c, d, g, l]);
  assert.equal(proof(4), [l]);
  assert.equal(proof(6), [i, j, k]);
});

test('every proof of every tree of up to 130 leaves is that of the recursive definition, and holds', () => {
  const tree = new Recursive(leavesTo(130));
  for (let size = 1; size <= 130; size += 1) {
    for (let index = 0; index < size; index += 1) {
      const path = pathOf(inclusionPlan(index, size), hashesFrom(tree));
      assert.equal(path, tree.path(index, 0, size));
      included(tree, index, size, path);
    }
    for (let size1 = 1; size1 <= size; size1 += 1) {
      const path = pathOf(consistencyPlan(size1, size), hashesFrom(tree));
      assert.equal(path, tree.proof(size1, 0, size));
      consistent(tree, size1, size, path);
    }
  }
});

test('so are proofs drawn from trees of up to 2^16 leaves', () => {
  const tree = new Recursive(leavesTo(LEAVES_MAX));
  const pair = fc
    .integer({ min: 1, max: LEAVES_MAX })
    .chain((size) => fc.tuple(fc.integer({ min: 0, max: size - 1 }), fc.constant(size)));
  fc.assert(
    fc.property(pair, ([index, size]) => {
      const path = pathOf(inclusionPlan(index, size), hashesFrom(tree));
      assert.equal(path, tree.path(index, 0, size));
      included(tree, index, size, path);
      const from = pathOf(consistencyPlan(index + 1, size), hashesFrom(tree));
      assert.equal(from, tree.proof(index + 1, 0, size));
      consistent(tree, index + 1, size, from);
    }),
    { numRuns: 300 },
  );
});

/** Every way to spoil a path by one step: a bit flipped, a hash dropped, added, or swapped with the next. */
function spoiled(path: readonly Buffer[], extra: readonly Buffer[]): Buffer[][] {
  const bad: Buffer[][] = [];
  for (let at = 0; at < path.length; at += 1) {
    for (let bit = 0; bit < 256; bit += 1) bad.push(path.with(at, flipped(path[at]!, bit)));
    bad.push(path.toSpliced(at, 1), path.with(at, path[at]!.subarray(1)));
    bad.push(path.with(at, Buffer.concat([path[at]!, Buffer.of(0)])));
    if (at > 0 && !path[at]!.equals(path[at - 1]!))
      bad.push(path.with(at, path[at - 1]!).with(at - 1, path[at]!));
  }
  for (let at = 0; at <= path.length; at += 1) {
    for (const hash of [...path, ...extra, Buffer.alloc(0)]) bad.push(path.toSpliced(at, 0, hash));
  }
  return bad;
}

function flipped(hash: Buffer, bit: number): Buffer {
  const copy = Buffer.from(hash);
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}

const SIZES = [1, 2, 3, 6, 8, 11];

test('no inclusion proof holds after any one step of spoiling it', () => {
  const tree = new Recursive(leavesTo(64));
  for (const size of SIZES) {
    for (let index = 0; index < size; index += 1) {
      const leaf = leaves[index]!;
      const root = tree.root(0, size);
      const path = tree.path(index, 0, size);
      for (const bad of spoiled(path, [leaf, root])) {
        assert.throws(() => verifyInclusion(leaf, index, { size, root }, bad), refusal);
      }
      for (let bit = 0; bit < 256; bit += 1) {
        assert.throws(() => verifyInclusion(flipped(leaf, bit), index, { size, root }, path), refusal);
        assert.throws(() => verifyInclusion(leaf, index, { size, root: flipped(root, bit) }, path), refusal);
      }
      for (let other = -1; other <= size + 1; other += 1) {
        if (other !== index) assert.throws(() => verifyInclusion(leaf, other, { size, root }, path), refusal);
      }
    }
  }
});

test('no consistency proof holds after any one step of spoiling it', () => {
  const tree = new Recursive(leavesTo(64));
  for (const size2 of SIZES) {
    const root2 = tree.root(0, size2);
    for (let size1 = 1; size1 < size2; size1 += 1) {
      const root1 = tree.root(0, size1);
      const path = tree.proof(size1, 0, size2);
      const [older, newer] = [
        { size: size1, root: root1 },
        { size: size2, root: root2 },
      ];
      for (const bad of spoiled(path, [root1, root2])) {
        assert.throws(() => verifyConsistency(older, newer, bad), refusal);
      }
      for (let bit = 0; bit < 256; bit += 1) {
        assert.throws(() => verifyConsistency({ ...older, root: flipped(root1, bit) }, newer, path), refusal);
        assert.throws(() => verifyConsistency(older, { ...newer, root: flipped(root2, bit) }, path), refusal);
      }
      assert.throws(() => verifyConsistency(newer, older, path), refusal);
      assert.throws(
        () => verifyConsistency({ ...older, root: root2 }, { ...newer, root: root1 }, path),
        refusal,
      );
      for (let other = 0; other <= size2; other += 1) {
        if (other !== size1)
          assert.throws(() => verifyConsistency({ ...older, size: other }, newer, path), refusal);
      }
    }
  }
});

test('the trivial cases: no path between equal trees or from the empty tree, and only with the right roots', () => {
  const one = { size: 1, root: leafHash('a') };
  const none = { size: 0, root: EMPTY };
  verifyConsistency(none, none, []);
  verifyConsistency(none, one, []);
  verifyConsistency(one, one, []);
  verifyInclusion(one.root, 0, one, []);
  const other = leafHash('b');
  assert.throws(() => verifyConsistency({ size: 0, root: other }, one, []), refusal);
  assert.throws(() => verifyConsistency({ size: 0, root: other }, { size: 0, root: other }, []), refusal);
  assert.throws(() => verifyConsistency(one, { size: 1, root: other }, []), refusal);
  assert.throws(() => verifyConsistency(one, one, [other]), refusal);
  assert.throws(() => verifyConsistency(none, one, [other]), refusal);
  assert.throws(() => verifyConsistency(one, none, []), refusal);
  assert.throws(() => verifyConsistency(one, { size: 2, root: other }, []), refusal);
  assert.throws(() => verifyInclusion(one.root, 0, none, []), refusal);
  for (const index of [-1, 0.5, Number.NaN, 2 ** 53]) {
    assert.throws(() => verifyInclusion(one.root, index, one, []), refusal);
    assert.throws(() => inclusionPlan(index, 1), /expected two integers/);
  }
  assert.throws(() => inclusionPlan(1, 1), /no leaf 1 in a tree of 1/);
  assert.throws(() => consistencyPlan(2, 1), /expected two integers/);
});

test('sizes up to 2^53 - 1 have proofs of at most 53 hashes', () => {
  const hash = leafHash('any');
  for (const size of [2 ** 31, 2 ** 32 + 1, 2 ** 52 + 1, Number.MAX_SAFE_INTEGER]) {
    for (const index of [0, 1, Math.floor(size / 3), size - 1]) {
      const plan = inclusionPlan(index, size);
      const path = pathOf(plan, () => hash);
      assert.ok(path.length <= 53);
      const covered = plan.flat().reduce((sum, { level }) => sum + 2 ** level, 1);
      assert.is(covered, size);
      assert.throws(() => verifyInclusion(hash, index, { size, root: hash }, path), /leads to another root/);
      assert.ok(consistencyPlan(index + 1, size).length <= 54);
    }
  }
  assert.is(nodeHash(hash, hash).length, 32);
});

test.run();
