import { SuperfleetError } from '../../protocol/errors.ts';
import type { Leadership } from '../../protocol/handover.ts';
import type { Checkpoint } from '../lines/checkpoint.ts';
import type { CommittedBatch, DurableLog } from '../log/durable-log.ts';
import { type Digest, leafHash } from './merkle.ts';
import type { TreeHead } from './merkle-proof.ts';
import type { TileStore } from './tile-store.ts';
import { TileTree } from './tile-tree.ts';

/** Leaf hashes held for tiles that are not made yet, about 2 MB; what is older is read from the log again. */
const heldLeavesMax = 16_384;
/** Leaf hashes read from the log at once while catching up. */
const readLeavesMax = 4096;

export interface LogProofsOptions {
  store: TileStore;
  /** Told once of each kind of trouble: proofs may be slow or missing then, the log goes on. */
  onWarning(message: string, error: unknown): void;
}

/** What both proofs rest on: a checkpoint of this log and who signed it. */
interface Signed {
  checkpoint: Checkpoint;
  leadership: Leadership;
}

/** That an entry is in the log. */
export interface EntryProof extends Signed {
  /** Without its newline. */
  line: string;
  path: Buffer[];
}

/** That the log grew out of an older size of it. */
export interface GrowthProof extends Signed {
  path: Buffer[];
}

/**
 * Proofs of a log that is being written, the founder's or a replica's copy: keeps its tiles in the order of the log behind
 * the disk's sync, apart from whoever appends. It begins at the first batch or proof, with a read that does not grow with
 * the log; whatever fails is a warning, and the next proof tries again.
 */
export class LogProofs {
  readonly #log: DurableLog;
  readonly #options: LogProofsOptions;
  readonly #unsubscribe: () => void;
  readonly #warned = new Set<string>();
  /** Batches whose leaves no tile has yet, in order. */
  #held: { first: number; leaves: readonly Digest[] }[] = [];
  #heldLeaves = 0;
  #tree: TileTree | null = null;
  #working: Promise<void> | null = null;
  #failure: unknown = null;
  #closed = false;

  constructor(log: DurableLog, options: LogProofsOptions) {
    this.#log = log;
    this.#options = options;
    this.#unsubscribe = log.subscribe((batch) => this.#take(batch));
  }

  /** Entries that the tiles cover: at most those that are durable. */
  get size(): number {
    return this.#tree?.size ?? 0;
  }

  /** The proof of one entry under the newest checkpoint. `SF_NOT_FOUND` where it is not durable, or not there. */
  async inclusion(index: number): Promise<EntryProof> {
    const { checkpoint, leadership } = this.#log;
    if (index >= checkpoint.size) {
      throw new SuperfleetError('SF_NOT_FOUND', `the log has no entry ${index}`, {
        expected: `an index below ${checkpoint.size}`,
        got: `${index}`,
      });
    }
    const tree = await this.#grown(checkpoint.size);
    const { leaf, path } = await tree.inclusion(index, headOf(checkpoint));
    const line = await this.#log.line(index);
    if (!leafHash(line).equals(leaf)) {
      throw new SuperfleetError('SF_LOG_DAMAGED', `entry ${index} is not the one that was signed`, {
        expected: leaf.toString('hex'),
        got: leafHash(line).toString('hex'),
        hint: '`mesh-hub ledger verify` shows how far the log is sound',
      });
    }
    return { line, path, checkpoint, leadership };
  }

  /** The proof that the log grew out of its first `size` entries. `SF_BEHIND` where it has not so many. */
  async consistency(size: number): Promise<GrowthProof> {
    const { checkpoint, leadership } = this.#log;
    if (size > checkpoint.size) {
      throw new SuperfleetError('SF_BEHIND', `the log has ${checkpoint.size} entries, fewer than ${size}`, {
        expected: `a size of at most ${checkpoint.size}`,
        got: `${size}`,
        hint: 'whoever holds a signed checkpoint of that size holds the proof that entries are gone: keep it',
      });
    }
    const tree = await this.#grown(checkpoint.size);
    const { path } = await tree.consistency(size, headOf(checkpoint));
    return { path, checkpoint, leadership };
  }

  /** Ends what is under way; nothing is lost that cannot be made again. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#unsubscribe();
    await this.#working;
  }

  /** Only notes the batch: whoever appends waits for nothing here. */
  #take({ first, leaves }: CommittedBatch): void {
    if (this.#failure !== null) return;
    if (this.#heldLeaves + leaves.length > heldLeavesMax) this.#letGo();
    this.#held.push({ first, leaves });
    this.#heldLeaves += leaves.length;
    this.#working ??= this.#work();
  }

  /** The tree, once it covers so many durable entries. Rejects with what stands in the way. */
  async #grown(size: number): Promise<TileTree> {
    this.#failure = null;
    for (;;) {
      if (this.#closed) throw closing();
      if (this.#tree !== null && this.#tree.size >= size) return this.#tree;
      this.#working ??= this.#work();
      await this.#working;
      if (this.#failure !== null) throw this.#failure;
    }
  }

  /** Brings the tiles to where the log is. Never rejects. */
  async #work(): Promise<void> {
    // Not in the turn of whoever appended.
    await new Promise((resolve) => setImmediate(resolve));
    try {
      while (!this.#closed && this.size < this.#log.size) {
        this.#tree ??= await this.#open();
        const leaves = await this.#next(this.#tree.size);
        await this.#tree.append(leaves);
      }
    } catch (error) {
      this.#failure = error;
      this.#tree = null;
      this.#letGo();
      this.#warn('no proofs can be made of the log for now', error);
    } finally {
      this.#working = null;
    }
  }

  #open(): Promise<TileTree> {
    const { store } = this.#options;
    return TileTree.open(
      {
        store,
        leaves: (begin, end) => this.#leaves(begin, end),
        onWriteError: (error) => this.#warn('a tile of the log could not be kept; proofs take longer', error),
      },
      headOf(this.#log.checkpoint),
    );
  }

  /** What comes behind `size` leaves: from memory, else from the log. */
  async #next(size: number): Promise<readonly Uint8Array[]> {
    for (let head = this.#held[0]; head !== undefined; head = this.#held[0]) {
      if (head.first > size) break;
      this.#held.shift();
      this.#heldLeaves -= head.leaves.length;
      if (head.first + head.leaves.length > size) {
        return head.leaves.slice(size - head.first).map((leaf) => Buffer.from(leaf, 'latin1'));
      }
    }
    const end = Math.min(this.#held[0]?.first ?? this.#log.size, size + readLeavesMax);
    const leaves: Uint8Array[] = [];
    for await (const leaf of this.#leaves(size, end)) leaves.push(leaf);
    // An empty answer would be asked for again without end.
    if (leaves.length === end - size) return leaves;
    throw new SuperfleetError('SF_LOG_DAMAGED', `the log has no entries ${size} to ${end - 1}`);
  }

  /** Leaf hashes from the lines. Making all tiles again may take long: a close does not wait for it. */
  async *#leaves(begin: number, end: number): AsyncGenerator<Uint8Array> {
    for await (const leaf of this.#log.leaves(begin, end)) {
      if (this.#closed) throw closing();
      yield leaf;
    }
  }

  #letGo(): void {
    this.#held = [];
    this.#heldLeaves = 0;
  }

  #warn(message: string, error: unknown): void {
    if (this.#closed || this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#options.onWarning(message, error);
  }
}

const closing = (): SuperfleetError => new SuperfleetError('SF_LOG_FAILED', 'the log is being closed');
const headOf = ({ size, root }: Checkpoint): TreeHead => ({ size, root: Buffer.from(root, 'hex') });
