import { hash } from 'node:crypto';

/**
 * The Merkle tree of RFC 6962 §2.1 over SHA-256, grown leaf by leaf. A leaf is the hash of one log line without
 * its newline; what joins two hashes has another prefix, so that no node can be passed off as a leaf.
 */
const HASH_BYTES = 32;
/** Sizes stay below 2^53, so a frontier has at most this many hashes. */
const FRONTIER_HASHES_MAX = 53;

// Digests are made in hex and turned into bytes where bytes are asked for: a buffer made by `hash` costs four times as
// much as the hash of a node. The space that is hashed is the same every time; nothing waits between filling and hashing.
let leafSpace = Buffer.alloc(4096);
const nodeSpace = Buffer.alloc(1 + 2 * HASH_BYTES);
nodeSpace[0] = 0x01;

/** SHA-256(0x00 ‖ line). `line` is the line's bytes without newline; text counts as UTF-8. */
export function leafHash(line: Uint8Array | string): Buffer {
  return Buffer.from(leafHex(line), 'hex');
}

/** `leafHash` in hex. */
export function leafHex(line: Uint8Array | string): string {
  const bytes = typeof line === 'string' ? Buffer.from(line) : line;
  const length = bytes.length + 1;
  if (length > leafSpace.length) leafSpace = Buffer.alloc(2 * length);
  leafSpace.set(bytes, 1);
  return hash('sha256', leafSpace.subarray(0, length), 'hex');
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  nodeSpace.set(left, 1);
  nodeSpace.set(right, 1 + HASH_BYTES);
  return Buffer.from(hash('sha256', nodeSpace, 'hex'), 'hex');
}

/** `nodeHash` of two hashes in hex, in hex. */
function nodeHex(left: string, right: string): string {
  nodeSpace.write(left, 1, 'hex');
  nodeSpace.write(right, 1 + HASH_BYTES, 'hex');
  return hash('sha256', nodeSpace, 'hex');
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
  /** In hex. */
  #hashes: string[] = [];

  get size(): number {
    return this.#size;
  }

  /** Takes the next leaf's hash, as bytes or in hex. */
  append(leaf: Uint8Array | string): void {
    let carried = typeof leaf === 'string' ? leaf : Buffer.from(leaf).toString('hex');
    // Every trailing one bit of the size is a finished subtree that the new leaf completes into a larger one.
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      carried = nodeHex(this.#hashes.pop()!, carried);
    }
    this.#hashes.push(carried);
    this.#size += 1;
  }

  /** Merkle tree hash of the leaves so far; of none, the hash of nothing. */
  root(): Buffer {
    return Buffer.from(this.rootHex(), 'hex');
  }

  /** `root` in hex. */
  rootHex(): string {
    const last = this.#hashes.at(-1);
    if (last === undefined) return hash('sha256', Buffer.alloc(0), 'hex');
    let root = last;
    for (let at = this.#hashes.length - 2; at >= 0; at -= 1) root = nodeHex(this.#hashes[at]!, root);
    return root;
  }

  clone(): Frontier {
    const copy = new Frontier();
    copy.#size = this.#size;
    copy.#hashes = [...this.#hashes];
    return copy;
  }

  toJSON(): FrontierState {
    return { size: this.#size, hashes: [...this.#hashes] };
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
    frontier.#hashes = [...state.hashes];
    return frontier;
  }
}

const onesIn = (size: number): number => size.toString(2).replaceAll('0', '').length;
