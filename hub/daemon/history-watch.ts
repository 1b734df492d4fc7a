import type { Logger } from 'pino';
import type { Log } from '../../ledger/log/log.ts';
import {
  type Equivocation,
  equivocationError,
  provesEquivocation,
  type Testimony,
  testimonyOf,
} from '../../ledger/proofs/witness.ts';
import type { Lifetime } from '../../node/daemon/process.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { keepProofOrSay } from './sure-log.ts';

/** A founder at work that learns of another history, or of more of its own, ends: nothing more is signed (promises 5 and 7). */
export class HistoryWatch {
  readonly #log: Log;
  readonly #root: string;
  readonly #lifetime: Pick<Lifetime, 'end'>;
  readonly #logger: Logger;

  /** `root`: the data folder, where proof is kept. */
  constructor(
    log: Log,
    root: string,
    { lifetime, logger }: { lifetime: Pick<Lifetime, 'end'>; logger: Logger },
  ) {
    this.#log = log;
    this.#root = root;
    this.#lifetime = lifetime;
    this.#logger = logger;
  }

  /** What a member that said hello has seen. */
  async heed(checkpoint: string | null, peer: string): Promise<void> {
    const testimony = checkpoint === null ? null : await this.#testimony(checkpoint);
    if (testimony?.kind === 'fork') await this.#freeze(testimony.equivocation);
    if (testimony?.kind === 'ahead') {
      this.#lifetime.end(behindError(this.#log, testimony.checkpoint.size, peer));
    }
  }

  /** Two checkpoints that somebody shows: they count where they prove themselves, in the epoch of now. */
  async shown(checkpoints: [string, string]): Promise<void> {
    const { leadership, meshId: mesh } = this.#log;
    if (provesEquivocation(leadership, checkpoints, leadership.epoch))
      await this.#freeze({ mesh, checkpoints });
  }

  /** Null where the log could not be asked; the member's next hello asks again. */
  async #testimony(checkpoint: string): Promise<Testimony | null> {
    try {
      return await testimonyOf(this.#log, checkpoint);
    } catch (thrown) {
      const { code, message } = asSuperfleetError(thrown);
      this.#logger.error({ code }, `what a member saw could not be held against the log: ${message}`);
      return null;
    }
  }

  async #freeze(equivocation: Equivocation): Promise<void> {
    this.#lifetime.end(
      equivocationError(equivocation, await keepProofOrSay(this.#root, equivocation, this.#logger)),
    );
  }
}

const behindError = (log: Log, size: number, peer: string): SuperfleetError =>
  new SuperfleetError('SF_BEHIND', `${peer} has seen ${size} entries, and this log holds ${log.size}`, {
    expected: 'a log that holds whatever was acknowledged',
    got: 'an older state of it',
    hint: 'start the founder again: it then takes what it lacks from a replica; see docs/recovery.md',
  });
