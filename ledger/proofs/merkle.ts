import { hash } from 'node:crypto';

/**
 * The Merkle tree of RFC 6962 §2.1 over SHA-256, grown leaf by leaf. A leaf is the hash of one log line without
 * its newline; what joins two hashes has another prefix, so that no node can be passed off as a leaf.
 */
const HASH_BYTES = 32;
/** Sizes stay below 2^53, so a frontier has at most this many hashes. */
const FRONTIER_HASHES_MAX = 53;

// Digests are made as text of one character a byte: a buffer made by `hash` costs four times as much as the hash of a
// node. The space that is hashed is the same every time; nothing waits between filling and hashing.
const leafSpace = Buffer.alloc(8192);
/** By length: the space up to there. */
const leafSpaces: (Buffer | undefined)[] = new Array(leafSpace.length + 1).fill(undefined);
const LEAF_PREFIX = Buffer.of(0x00);
const nodeSpace = Buffer.alloc(1 + 2 * HASH_BYTES);
nodeSpace[0] = 0x01;

/** SHA-256(0x00 ‖ line). `line` is the line's bytes without newline; text counts as UTF-8. */
export function leafHash(line: Uint8Array | string): Buffer {
  return Buffer.from(leafDigest(line), 'latin1');
}

/** A hash as text of one character a byte, `latin1` to buffers. */
export type Digest = string;

const digestSpace = Buffer.alloc(HASH_BYTES);

export function digestToHex(digest: Digest): string {
  digestSpace.write(digest, 'latin1');
  return digestSpace.toString('hex');
}

/** `leafHash` as a digest. */
export function leafDigest(line: Uint8Array | string): Digest {
  // Three bytes a character is the most that UTF-8 takes.
  if ((typeof line === 'string' ? 3 * line.length : line.length) >= leafSpace.length) {
    const bytes = typeof line === 'string' ? Buffer.from(line) : line;
    return hash('sha256', Buffer.concat([LEAF_PREFIX, bytes]), 'binary');
  }
  let length = 1;
  if (typeof line === 'string') length += leafSpace.write(line, 1);
  else {
    leafSpace.set(line, 1);
    length += line.length;
  }
  const space = leafSpaces[length] ?? leafSpace.subarray(0, length);
  leafSpaces[length] = space;
  return hash('sha256', space, 'binary');
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  nodeSpace.set(left, 1);
  nodeSpace.set(right, 1 + HASH_BYTES);
  return Buffer.from(hash('sha256', nodeSpace, 'binary'), 'latin1');
}

/** `nodeHash` of two digests, as a digest. */
function nodeDigest(left: Digest, right: Digest): Digest {
  nodeSpace.write(left, 1, 'latin1');
  nodeSpace.write(right, 1 + HASH_BYTES, 'latin1');
  return hash('sha256', nodeSpace, 'binary');
}

/** By place in a frontier: a space of its own for each, and what stands on the left in it. */
const edgeSpaces = Array.from({ length: FRONTIER_HASHES_MAX }, () => ({
  left: '' as Digest,
  space: Buffer.from(nodeSpace),
}));

/** `nodeDigest` where the left one is that of a frontier at this place, which is mostly the one that was there before. */
function edgeDigest(at: number, left: Digest, right: Digest): Digest {
  const edge = edgeSpaces[at]!;
  if (edge.left !== left) {
    edge.space.write(left, 1, 'latin1');
    edge.left = left;
  }
  edge.space.write(right, 1 + HASH_BYTES, 'latin1');
  return hash('sha256', edge.space, 'binary');
}

/** The part of the tree that every later root is made from, in a form that JSON carries. */
export interface FrontierState {
  size: number;
  /** Roots of the perfect subtrees, largest first, in hex: one for each bit set in `size`. */
  hashes: string[];
}

/**
 * The right edge of the tree: enough to append leaves and to compute the root, in O(log size) memory. Invariant:
 * `hashes` holds one root for each bit set in `size`, largest subtree first.
 */
export class Frontier {
  #size = 0;
  #hashes: Digest[] = [];

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array | Digest): void {
    let carried = typeof leaf === 'string' ? leaf : Buffer.from(leaf).toString('latin1');
    // Every trailing one bit of the size is a finished subtree that the new leaf completes into a larger one.
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      carried = nodeDigest(this.#hashes.pop()!, carried);
    }
    this.#hashes.push(carried);
    this.#size += 1;
  }

  /** Merkle tree hash of the leaves so far; of none, the hash of nothing. */
  root(): Buffer {
    return Buffer.from(this.rootDigest(), 'latin1');
  }

  /** `root` in hex. */
  rootHex(): string {
    return digestToHex(this.rootDigest());
  }

  /** `root` as a digest. */
  rootDigest(): Digest {
    const last = this.#hashes.at(-1);
    if (last === undefined) return hash('sha256', Buffer.alloc(0), 'binary');
    let root = last;
    for (let at = this.#hashes.length - 2; at >= 0; at -= 1) root = edgeDigest(at, this.#hashes[at]!, root);
    return root;
  }

  clone(): Frontier {
    const copy = new Frontier();
    copy.#size = this.#size;
    copy.#hashes = [...this.#hashes];
    return copy;
  }

  toJSON(): FrontierState {
    return { size: this.#size, hashes: this.#hashes.map(digestToHex) };
  }

  /** Throws a RangeError where the hashes cannot belong to a tree of that size. */
  static from(state: FrontierState): Frontier {
    const bits = Number.isSafeInteger(state.size) && state.size >= 0 ? onesIn(state.size) : -1;
    const wellFormed = state.hashes.every((hash) => /^[0-9a-f]{64}$/.test(hash));
    if (bits !== state.hashes.length || bits > FRONTIER_HASHES_MAX || !wellFormed) {
      throw new RangeError(
        `a frontier of size ${state.size} has ${bits} hashes of 64 hex digits, not ${state.hashes.length}`,
      );
    }
    const frontier = new Frontier();
    frontier.#size = state.size;
    frontier.#hashes = state.hashes.map((hash) => Buffer.from(hash, 'hex').toString('latin1'));
    return frontier;
  }
}

const onesIn = (size: number): number => size.toString(2).replaceAll('0', '').length;
