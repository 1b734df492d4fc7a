import { SuperfleetError } from '../../protocol/errors.ts';
import { Frontier, nodeHash } from './merkle.ts';

/**
 * Inclusion and consistency proofs of RFC 6962 §2.1.1 and §2.1.2 (RFC 9162 §2.1.3 and §2.1.4), pure. A proof is made in
 * two steps, so that whoever stores hashes can fetch them in between: which subtrees it is made of, then their hashes.
 */
const HASH_BYTES = 32;
/** Sizes stay below 2^53. */
const LEVEL_MAX = 53;

/** The subtree over the 2^level leaves that begin at `index` · 2^level. All of them are there. */
export interface Subtree {
  level: number;
  index: number;
}

/** What a proof is made of: for each hash of its path the whole subtrees under it, from left to right. */
export type ProofPlan = Subtree[][];

/** Size of a tree and its root, 32 bytes. */
export interface TreeHead {
  size: number;
  root: Uint8Array;
}

/** Plan of the path from a leaf to the root. Throws a RangeError unless 0 ≤ index < size. */
export function inclusionPlan(index: number, size: number): ProofPlan {
  checkSizes(index, size);
  if (index === size) throw new RangeError(`no leaf ${index} in a tree of ${size}`);
  return siblings(0, index, size).map((sibling) => wholeSubtrees(sibling, size));
}

/** Plan of the proof that the first `size1` of `size2` leaves are a tree of their own. Throws a RangeError unless 0 ≤ size1 ≤ size2. */
export function consistencyPlan(size1: number, size2: number): ProofPlan {
  checkSizes(size1, size2);
  if (size1 === 0 || size1 === size2) return [];
  const last = lastSubtree(size1);
  const rest = siblings(last.level, last.index, size2).map((sibling) => wholeSubtrees(sibling, size2));
  // Where the old tree is one whole subtree the verifier has its hash already: it is the old root.
  return last.index === 0 ? rest : [[last], ...rest];
}

/** Plan of the root itself: one hash, or none for the empty tree. Throws a RangeError where `size` is not one. */
export function rootPlan(size: number): ProofPlan {
  checkSizes(0, size);
  return size === 0 ? [] : [wholeSubtrees({ level: LEVEL_MAX, index: 0 }, size)];
}

/** The path of a plan. `hashOf` gives the hash of a whole subtree. */
export function pathOf(plan: ProofPlan, hashOf: (subtree: Subtree) => Uint8Array): Buffer[] {
  return plan.map((parts) => {
    let hash = hashOf(parts.at(-1)!);
    for (let at = parts.length - 2; at >= 0; at -= 1) hash = nodeHash(hashOf(parts[at]!), hash);
    return Buffer.from(hash);
  });
}

/**
 * Returns where `leaf` (a leaf hash) is at `index` under `head`, as `path` shows. Throws `SF_NOT_PROVED` otherwise,
 * also for a path of another length than this index and size have.
 */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  head: TreeHead,
  path: readonly Uint8Array[],
): void {
  checkForm(index, head.size, [leaf, head.root, ...path]);
  if (index === head.size) {
    throw notProved('the entry lies behind the tree', `an index below ${head.size}`, `${index}`);
  }
  const steps = siblings(0, index, head.size);
  checkLength(steps.length, path);
  let hash = leaf;
  for (const [at, { side }] of steps.entries()) {
    hash = side === 'left' ? nodeHash(path[at]!, hash) : nodeHash(hash, path[at]!);
  }
  checkRoot('the path of the entry', hash, head.root);
}

/**
 * Returns where the tree `newer` begins with the leaves of the tree `older`, as `path` shows. The path is empty where the
 * sizes are equal (then the roots must be) or `older` is empty (then its root must be the hash of nothing). Throws
 * `SF_NOT_PROVED` otherwise.
 */
export function verifyConsistency(older: TreeHead, newer: TreeHead, path: readonly Uint8Array[]): void {
  checkForm(older.size, newer.size, [older.root, newer.root, ...path]);
  for (const { size, root } of [older, newer]) {
    if (size === 0) checkRoot('a tree of no entries', new Frontier().root(), root);
  }
  if (older.size === 0 || older.size === newer.size) {
    checkLength(0, path);
    if (older.size !== 0) checkRoot('two trees of one size', older.root, newer.root);
    return;
  }
  const last = lastSubtree(older.size);
  const steps = siblings(last.level, last.index, newer.size);
  checkLength(steps.length + (last.index === 0 ? 0 : 1), path);
  const [seed, rest] = last.index === 0 ? [older.root, path] : [path[0]!, path.slice(1)];
  let oldHash = seed;
  let newHash = seed;
  for (const [at, { side }] of steps.entries()) {
    // What lies to the left was there already; what lies to the right is new.
    if (side === 'left') oldHash = nodeHash(rest[at]!, oldHash);
    newHash = side === 'left' ? nodeHash(rest[at]!, newHash) : nodeHash(newHash, rest[at]!);
  }
  checkRoot('the path from the older tree', oldHash, older.root);
  checkRoot('the path to the newer tree', newHash, newer.root);
}

interface Sibling extends Subtree {
  side: 'left' | 'right';
}

/**
 * What a node is joined with on its way to the root, lowest first. One on the right may be ragged: it then ends with the
 * tree. A node at the right edge with none beside it goes up a level as it is.
 */
function siblings(level: number, index: number, size: number): Sibling[] {
  const found: Sibling[] = [];
  let at = index;
  // No bit operations: they end at 2^31.
  let last = Math.floor((size - 1) / 2 ** level);
  for (let height = level; last > 0; height += 1) {
    if (at % 2 === 1) found.push({ side: 'left', level: height, index: at - 1 });
    else if (at < last) found.push({ side: 'right', level: height, index: at + 1 });
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  return found;
}

/** The whole subtrees that a node is made of in a tree of `size` leaves, from left to right. */
function wholeSubtrees({ level, index }: Subtree, size: number): Subtree[] {
  const parts: Subtree[] = [];
  const end = Math.min((index + 1) * 2 ** level, size);
  let begin = index * 2 ** level;
  for (let height = level; begin < end; height -= 1) {
    if (begin + 2 ** height > end) continue;
    parts.push({ level: height, index: begin / 2 ** height });
    begin += 2 ** height;
  }
  return parts;
}

/** The largest whole subtree at the right edge of a tree. */
function lastSubtree(size: number): Subtree {
  let level = 0;
  let count = size;
  for (; count % 2 === 0; count /= 2) level += 1;
  return { level, index: count - 1 };
}

function checkSizes(smaller: number, size: number): void {
  if (!Number.isSafeInteger(smaller) || !Number.isSafeInteger(size) || smaller < 0 || smaller > size) {
    throw new RangeError(`expected two integers, the first not above the second; got ${smaller} and ${size}`);
  }
}

function checkForm(smaller: number, size: number, hashes: readonly Uint8Array[]): void {
  try {
    checkSizes(smaller, size);
  } catch (error) {
    throw notProved('index or sizes of the proof are impossible', 'not negative, not falling', String(error));
  }
  const odd = hashes.find((hash) => hash.length !== HASH_BYTES);
  if (odd !== undefined) {
    throw notProved('a hash of the proof is of another length', `${HASH_BYTES} bytes`, `${odd.length} bytes`);
  }
}

function checkLength(expected: number, path: readonly Uint8Array[]): void {
  if (path.length !== expected) {
    throw notProved('the path is of another length', `${expected} hashes`, `${path.length}`);
  }
}

function checkRoot(what: string, got: Uint8Array, root: Uint8Array): void {
  if (Buffer.compare(got, root) === 0) return;
  const hex = (hash: Uint8Array): string => Buffer.from(hash).toString('hex');
  throw notProved(`${what} leads to another root`, hex(root), hex(got));
}

function notProved(message: string, expected: string, got: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', message, { expected, got });
}
