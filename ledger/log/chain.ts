import {
  followHandover,
  HANDOVER_TYPE,
  type Leadership,
  leadershipOf,
  signerAt,
} from '../../protocol/handover.ts';
import { publicKeyToBase64 } from '../../protocol/keys.ts';
import { type Checkpoint, verifyCheckpoint, verifyCheckpointAside } from '../lines/checkpoint.ts';
import { CheckpointLines } from '../lines/checkpoint-line.ts';
import type { Entry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import { type Line, LineFault, mayBeCheckpoint, parseLine } from '../lines/line.ts';
import { type Digest, digestToHex, Frontier, leafDigest } from '../proofs/merkle.ts';

/** What is known of a log up to some entry. Everything later is checked against it. */
export interface ChainState {
  /** Hex leaf hash of the genesis line; null before it. */
  meshId: string | null;
  genesis: EventBody<'mesh.created'> | null;
  /** Who writes from here on, and by which key; null before the genesis. */
  leadership: Leadership | null;
  /** Raw public key that signed `checkpoint`; null before the first. */
  signedBy: Uint8Array | null;
  time: number;
  frontier: Frontier;
  checkpoint: Checkpoint | null;
  /** Checkpoints so far. */
  checkpoints: number;
}

/**
 * Reads a log line by line and refuses the first one that does not continue it: index, epoch, time, root, who may
 * sign, and the signature of every checkpoint (`all`) or of none (`deferred`: see `checkSignature`). The same
 * checks serve recovery, replicas, `ledger verify` and exported files.
 */
export class Chain {
  readonly signatures: 'all' | 'deferred';
  /** This chain's own: every line changes it. */
  #state: ChainState;
  /** Null before the mesh id is known. */
  #checkpoints: CheckpointLines | null = null;
  #rooted = { size: -1, root: '', hex: '' };
  /** Of the entry that came last. */
  #leaf: Digest = '';
  /** The state as of the last checkpoint: where a torn tail is cut. It was given out and stays as it is. */
  #settled: ChainState;

  /** `from`: what was verified before; the chain goes on from its checkpoint. @default the beginning */
  constructor(signatures: 'all' | 'deferred', from: ChainState = emptyState()) {
    this.signatures = signatures;
    this.#settled = from;
    this.#state = { ...from, frontier: from.frontier.clone() };
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

  /** RFC 6962 leaf hash of the entry that was taken last. */
  get leaf(): Digest {
    return this.#leaf;
  }

  /** Takes one line, given without newline. Throws `LineFault`, and stays as it was, where the line cannot follow. */
  push(line: Uint8Array): Line {
    const expected = this.#expectedCheckpoint(line);
    const parsed: Line = expected === null ? parseLine(line) : { kind: 'checkpoint', checkpoint: expected };
    if (parsed.kind === 'entry') this.#pushEntry(parsed.entry, line);
    else this.#pushCheckpoint(parsed.checkpoint);
    return parsed;
  }

  /** The checkpoint that must come here if one does, where the line is that one; a line that is not is read in full. */
  #expectedCheckpoint(line: Uint8Array): Checkpoint | null {
    const { meshId: origin } = this.#state;
    if (origin === null || !mayBeCheckpoint(line)) return null;
    this.#checkpoints ??= new CheckpointLines(origin);
    const { size, root, hex } = this.#root();
    const bytes = Buffer.isBuffer(line) ? line : Buffer.from(line.buffer, line.byteOffset, line.length);
    return this.#checkpoints.read(bytes, size, root, hex);
  }

  /** Root over the entries so far. */
  #root(): { size: number; root: Digest; hex: string } {
    if (this.#rooted.size !== this.next) {
      const root = this.#state.frontier.rootDigest();
      this.#rooted = { size: this.next, root, hex: digestToHex(root) };
    }
    return this.#rooted;
  }

  /** A chain that goes on from the last checkpoint, as if what came after had not been read. */
  fromSettled(): Chain {
    return new Chain(this.signatures, this.#settled);
  }

  #pushEntry(entry: Entry, line: Uint8Array): void {
    const state = this.#state;
    if (entry.index !== this.next) throw new LineFault(`index ${entry.index} where ${this.next} must come`);
    const handsOver = entry.type === HANDOVER_TYPE;
    const epoch = (state.leadership?.epoch ?? 1) + (handsOver ? 1 : 0);
    if (entry.epoch !== epoch) throw new LineFault(`epoch ${entry.epoch} where epoch ${epoch} must come`);
    if (entry.time < state.time)
      throw new LineFault(`time ${entry.time} before the time of the entry before it`);
    const isGenesis = entry.type === 'mesh.created';
    if (isGenesis !== (entry.index === 0)) throw new LineFault(`type ${entry.type} at index ${entry.index}`);
    const handedOver = this.#settled.leadership !== null && state.leadership !== this.#settled.leadership;
    if (handedOver || (handsOver && this.pending > 0)) {
      throw new LineFault('a handover that shares its batch');
    }
    const leaf = leafDigest(line);
    if (isGenesis) {
      state.genesis = entry.body as EventBody<'mesh.created'>;
      state.meshId = digestToHex(leaf);
      state.leadership = proved(() => leadershipOf(Buffer.from(line).toString()));
    }
    if (handsOver) state.leadership = this.#handedOver(entry, Buffer.from(line).toString());
    state.time = entry.time;
    state.frontier.append(leaf);
    this.#leaf = leaf;
  }

  #handedOver(entry: Entry, line: string): Leadership {
    const { leadership } = this.#state;
    const { root } = entry.body as EventBody<'epoch.handover'>;
    if (root !== this.#root().hex) {
      throw new LineFault('a handover that names another root than the entries before it give');
    }
    return proved(() => followHandover(leadership!, line));
  }

  #pushCheckpoint(checkpoint: Checkpoint): void {
    if (this.pending === 0) throw new LineFault('a checkpoint with no entry before it');
    if (checkpoint.origin !== this.#state.meshId) throw new LineFault('a checkpoint of another mesh');
    if (checkpoint.size !== this.next) {
      throw new LineFault(`a checkpoint of size ${checkpoint.size} after ${this.next} entries`);
    }
    const { hex } = this.#root();
    if (checkpoint.root !== hex) {
      throw new LineFault(`a checkpoint whose root is ${checkpoint.root} where the entries give ${hex}`);
    }
    const state = this.#state;
    const signedBy = signerAt(state.leadership!, checkpoint.size);
    if (this.signatures === 'all') checkSignature({ meshId: state.meshId, signedBy, checkpoint });
    state.signedBy = signedBy;
    state.checkpoint = checkpoint;
    state.checkpoints += 1;
    this.#settled = { ...state, frontier: state.frontier.clone() };
  }
}

/** Throws `LineFault` where the checkpoint of this state is not signed by the key that had to sign it. */
export function checkSignature({
  meshId,
  signedBy,
  checkpoint,
}: Pick<ChainState, 'meshId' | 'signedBy' | 'checkpoint'>): void {
  const publicKey = publicKeyToBase64(signedBy!);
  proved(() => verifyCheckpoint(checkpoint!.text, { origin: meshId!, publicKey }));
}

/** The same in the thread pool. */
export async function checkSignatureAside({
  meshId,
  signedBy,
  checkpoint,
}: Pick<ChainState, 'meshId' | 'signedBy' | 'checkpoint'>): Promise<void> {
  try {
    await verifyCheckpointAside(checkpoint!.text, {
      origin: meshId!,
      publicKey: publicKeyToBase64(signedBy!),
    });
  } catch (error) {
    throw new LineFault((error as Error).message, { cause: error });
  }
}

/** What does not hold is a fault of the line. */
function proved<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw new LineFault((error as Error).message, { cause: error });
  }
}

function emptyState(): ChainState {
  return {
    meshId: null,
    genesis: null,
    leadership: null,
    signedBy: null,
    time: 0,
    frontier: new Frontier(),
    checkpoint: null,
    checkpoints: 0,
  };
}
