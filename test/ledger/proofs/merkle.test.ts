import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Frontier, leafHash, nodeHash } from '../../../ledger/proofs/merkle.ts';

/** The reference leaves and roots that the certificate-transparency implementations share. */
const LEAVES = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
];
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** RFC 6962 §2.1 word by word. */
function naiveRoot(lines: Uint8Array[]): Buffer {
  const sha = (...parts: Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
  if (lines.length === 0) return sha();
  if (lines.length === 1) return sha(Buffer.of(0), lines[0]!);
  let split = 1;
  while (split * 2 < lines.length) split *= 2;
  return sha(Buffer.of(1), naiveRoot(lines.slice(0, split)), naiveRoot(lines.slice(split)));
}

const frontierOf = (lines: Uint8Array[]): Frontier => {
  const frontier = new Frontier();
  for (const line of lines) frontier.append(leafHash(line));
  return frontier;
};

test('the roots of the published certificate-transparency leaves come out', () => {
  const frontier = new Frontier();
  assert.is(frontier.root().toString('hex'), EMPTY);
  for (const [at, leaf] of LEAVES.entries()) {
    frontier.append(leafHash(Buffer.from(leaf, 'hex')));
    assert.is(frontier.root().toString('hex'), ROOTS[at]);
    assert.is(frontier.size, at + 1);
  }
});

test('a leaf and a node have different prefixes', () => {
  assert.is(leafHash('').toString('hex'), ROOTS[0]);
  const left = leafHash('a');
  const right = leafHash('b');
  assert.is.not(
    nodeHash(left, right).toString('hex'),
    leafHash(Buffer.concat([left, right])).toString('hex'),
  );
  assert.equal(leafHash('é'), leafHash(Buffer.from('é')));
});

test('the frontier gives the root of the recursive definition at every size (promise 4)', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 70 }), (lines) => {
      assert.equal(frontierOf(lines).root(), naiveRoot(lines));
    }),
    { numRuns: 300 },
  );
});

test('a frontier goes through JSON and on from there as if nothing had been', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 40 }),
      fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 40 }),
      (before, after) => {
        const carried = Frontier.from(JSON.parse(JSON.stringify(frontierOf(before))));
        for (const line of after) carried.append(leafHash(line));
        assert.equal(carried.root(), naiveRoot([...before, ...after]));
      },
    ),
    { numRuns: 200 },
  );
});

test('a clone and its origin grow apart', () => {
  const origin = frontierOf([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]);
  const before = origin.root();
  const copy = origin.clone();
  copy.append(leafHash('d'));
  assert.equal(origin.root(), before);
  assert.is(origin.size, 3);
  assert.is(copy.size, 4);
});

test('a frontier of a size it cannot have is refused', () => {
  const { hashes } = frontierOf([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]).toJSON();
  for (const size of [0, 1, 2, 4, 7, -1, 1.5, 2 ** 53]) {
    assert.throws(() => Frontier.from({ size, hashes }), /a frontier of size/);
  }
  assert.throws(() => Frontier.from({ size: 3, hashes: [hashes[0]!, 'xyz'] }), /64 hex digits/);
});

test.run();
