import { type Checkpoint, verifyCheckpoint } from './checkpoint.ts';
import type { Entry } from './entry.ts';
import type { EventBody } from './events.ts';
import { type Line, LineFault, parseLine } from './line.ts';
import { Frontier, leafHash } from './merkle.ts';

/** What is known of a log up to some entry. Everything later is checked against it. */
export interface ChainState {
  /** Hex leaf hash of the genesis line; null before it. */
  meshId: string | null;
  genesis: EventBody<'mesh.created'> | null;
  /** Public key that signs from here on. */
  publicKey: string | null;
  epoch: number;
  time: number;
  frontier: Frontier;
  checkpoint: Checkpoint | null;
  /** Checkpoints so far. */
  checkpoints: number;
}

/**
 * Reads a log line by line and refuses the first one that does not continue it: index, epoch, time, root, and
 * the signature of every checkpoint (`all`) or of none (`deferred`: see `checkSignature`). The same
 * checks serve recovery, `ledger verify` and exported files.
 */
export class Chain {
  readonly #signatures: 'all' | 'deferred';
  #state = emptyState();
  /** The state as of the last checkpoint: where a torn tail is cut. */
  #settled = emptyState();

  constructor(signatures: 'all' | 'deferred') {
    this.#signatures = signatures;
  }

  /** Index of the next entry. */
  get next(): number {
    return this.#state.frontier.size;
  }

  /** The last checkpoint and all that stands under it. */
  get settled(): ChainState {
    return this.#settled;
  }

  /** Entries since the last checkpoint. */
  get pending(): number {
    return this.next - (this.#settled.checkpoint?.size ?? 0);
  }

  /** Takes one line, given without newline. Throws `LineFault`, and stays as it was, where the line cannot follow. */
  push(line: Uint8Array): Line {
    const parsed = parseLine(line);
    if (parsed.kind === 'entry') this.#pushEntry(parsed.entry, line);
    else this.#pushCheckpoint(parsed.checkpoint);
    return parsed;
  }

  /** A chain that goes on from the last checkpoint, as if what came after had not been read. */
  fromSettled(): Chain {
    const chain = new Chain(this.#signatures);
    chain.#settled = this.#settled;
    chain.#state = { ...this.#settled, frontier: this.#settled.frontier.clone() };
    return chain;
  }

  #pushEntry(entry: Entry, line: Uint8Array): void {
    const state = this.#state;
    if (entry.index !== this.next) throw new LineFault(`index ${entry.index} where ${this.next} must come`);
    if (entry.epoch < state.epoch) throw new LineFault(`epoch ${entry.epoch} after epoch ${state.epoch}`);
    if (entry.time < state.time)
      throw new LineFault(`time ${entry.time} before the time of the entry before it`);
    const isGenesis = entry.type === 'mesh.created';
    if (isGenesis !== (entry.index === 0)) throw new LineFault(`type ${entry.type} at index ${entry.index}`);
    const leaf = leafHash(line);
    if (isGenesis) {
      state.genesis = entry.body as EventBody<'mesh.created'>;
      state.meshId = leaf.toString('hex');
      state.publicKey = state.genesis.logKey;
    }
    state.epoch = entry.epoch;
    state.time = entry.time;
    state.frontier.append(leaf);
  }

  #pushCheckpoint(checkpoint: Checkpoint): void {
    if (this.pending === 0) throw new LineFault('a checkpoint with no entry before it');
    if (checkpoint.origin !== this.#state.meshId) throw new LineFault('a checkpoint of another mesh');
    if (checkpoint.size !== this.next) {
      throw new LineFault(`a checkpoint of size ${checkpoint.size} after ${this.next} entries`);
    }
    const root = this.#state.frontier.root().toString('hex');
    if (checkpoint.root !== root) {
      throw new LineFault(`a checkpoint whose root is ${checkpoint.root} where the entries give ${root}`);
    }
    if (this.#signatures === 'all') checkSignature({ ...this.#state, checkpoint });
    this.#state.checkpoint = checkpoint;
    this.#state.checkpoints += 1;
    this.#settled = { ...this.#state, frontier: this.#state.frontier.clone() };
  }
}

/** Throws `LineFault` where the checkpoint of this state is not signed by the key of this state. */
export function checkSignature({ meshId, publicKey, checkpoint }: ChainState): void {
  try {
    verifyCheckpoint(checkpoint!.text, { origin: meshId!, publicKey: publicKey! });
  } catch (error) {
    throw new LineFault((error as Error).message, { cause: error });
  }
}

function emptyState(): ChainState {
  return {
    meshId: null,
    genesis: null,
    publicKey: null,
    epoch: 1,
    time: 0,
    frontier: new Frontier(),
    checkpoint: null,
    checkpoints: 0,
  };
}
