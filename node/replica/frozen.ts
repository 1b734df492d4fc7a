import type { Connection } from '@libp2p/interface';
import type { Logger } from 'pino';
import { type Equivocation, equivocationError, provesEquivocation } from '../../ledger/proofs/witness.ts';
import { asSuperfleetError, type SuperfleetError } from '../../protocol/errors.ts';
import type { Membership } from '../daemon/membership.ts';
import { keepProof, keptProof, proofFile, setProofAside } from '../daemon/proof-file.ts';
import type { Host } from '../network/host.ts';
import type { Neighbours } from '../network/neighbours.ts';
import { askTip, tellConflict } from './follow.ts';

/** Neighbours that are told of an equivocation. */
const TOLD_MAX = 64;
const TELL_MS = 10_000;
/** The founder is told again and again until it has heard it. */
const AGAIN_MS = 5_000;

export interface FrozenOptions {
  /** The data folder. */
  root: string;
  membership: Membership;
  host: Host;
  logger: Logger;
  /** The log is frozen from now on: whoever uses the founder's word stops. */
  onFreeze(error: SuperfleetError): void;
  /** Lines of the handovers that the founder knows of. */
  onHandovers(lines: readonly string[]): void;
}

/**
 * What a member does that holds two checkpoints of one size, both signed by the founder's key, with different roots: it
 * keeps them as proof, takes nothing more from that founder, also after a restart, and tells its neighbours, who check
 * the proof themselves (promise 7). A new epoch, opened by the recovery key, ends it.
 */
export class Frozen {
  readonly #options: FrozenOptions;
  #proof: Equivocation | null;
  #again: NodeJS.Timeout | null = null;
  #closed = false;

  private constructor(options: FrozenOptions, proof: Equivocation | null) {
    this.#options = options;
    this.#proof = proof;
  }

  static async load(options: FrozenOptions): Promise<Frozen> {
    const proof = await keptProof(options.root);
    const frozen = new Frozen(options, proof);
    await frozen.thaw();
    return frozen;
  }

  /** Begins to tell the founder of what was frozen before a restart. */
  start(neighbours: Neighbours): void {
    if (this.#proof !== null) this.#tellFounder(neighbours, this.#proof.checkpoints);
  }

  close(): void {
    this.#closed = true;
    this.#quiet();
  }

  #quiet(): void {
    if (this.#again !== null) clearTimeout(this.#again);
    this.#again = null;
  }

  /** The proof that is held; null: nothing is frozen. */
  get proof(): Equivocation | null {
    return this.#proof;
  }

  /** Why nothing is taken from the founder; null: nothing is frozen. */
  get error(): SuperfleetError | null {
    return this.#proof === null ? null : equivocationError(this.#proof, proofFile(this.#options.root));
  }

  /** Heard from somebody or seen: counts only where it proves itself, and of this epoch: one that a new epoch ended is told in vain. */
  async take(checkpoints: readonly [string, string], neighbours: Neighbours): Promise<void> {
    const { root, membership, logger, onFreeze } = this.#options;
    const { mesh } = membership.genesis;
    const proof: Equivocation = { mesh, checkpoints: [checkpoints[0], checkpoints[1]] };
    if (this.#proof !== null || !provesNow(membership, proof)) return;
    this.#proof = proof;
    try {
      await keepProof(root, this.#proof);
    } catch (thrown) {
      logger.error({ code: asSuperfleetError(thrown).code }, 'the proof of two histories could not be kept');
    }
    const error = this.error!;
    logger.error({ code: error.code, hint: error.hint }, error.message);
    onFreeze(error);
    await this.#tell(neighbours, checkpoints);
  }

  /** The mesh has another founder or another key: what was signed before binds it no more. */
  async thaw(): Promise<void> {
    const { root, membership } = this.#options;
    if (this.#proof === null || provesNow(membership, this.#proof)) return;
    await setProofAside(root, membership.leadership.epoch);
    this.#proof = null;
    this.#quiet();
  }

  async #tell(neighbours: Neighbours, checkpoints: readonly [string, string]): Promise<void> {
    const { host, membership, logger } = this.#options;
    const others = neighbours.peers().filter((peer) => peer !== host.peer && peer !== membership.founder);
    const told = await Promise.allSettled(
      others.slice(0, TOLD_MAX).map((peer) => this.#tellOne(peer, neighbours, checkpoints)),
    );
    const heard = told.filter(({ status }) => status === 'fulfilled').length;
    logger.warn({ told: heard, of: told.length }, 'the other members were told of the two histories');
    this.#tellFounder(neighbours, checkpoints);
  }

  /** Until a new epoch ends it: the founder is shown the proof, and asked whether it has opened one. */
  #tellFounder(neighbours: Neighbours, checkpoints: readonly [string, string]): void {
    this.#tellOne(this.#options.membership.founder, neighbours, checkpoints)
      .then(async (connection) => {
        const { mesh } = this.#options.membership.genesis;
        const { handovers } = await askTip(connection, mesh, AbortSignal.timeout(TELL_MS));
        this.#options.onHandovers(handovers);
      })
      .catch(() => {})
      .finally(() => {
        if (this.#proof === null || this.#closed) return;
        this.#again = setTimeout(() => this.#tellFounder(neighbours, checkpoints), AGAIN_MS);
      });
  }

  async #tellOne(
    peer: string,
    neighbours: Neighbours,
    checkpoints: readonly [string, string],
  ): Promise<Connection> {
    const { host, membership } = this.#options;
    const signal = AbortSignal.timeout(TELL_MS);
    const known = peer === membership.founder ? membership.addresses : [];
    const connection = await host.dial(peer, [...neighbours.addresses(peer), ...known], signal);
    await tellConflict(connection, membership.genesis.mesh, checkpoints, signal);
    return connection;
  }
}

/** Whether the proof is of the newest epoch. */
function provesNow(membership: Membership, { checkpoints }: Equivocation): boolean {
  return provesEquivocation(membership.leadership, checkpoints, membership.leadership.epoch);
}
