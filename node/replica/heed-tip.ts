import type { Checkpoint } from '../../ledger/lines/checkpoint.ts';
import type { LogTip } from '../../protocol/log-sync.ts';

export interface TipHearer {
  /** The end of the copy here; null: there is none yet. */
  own: Checkpoint | null;
  /** Lines of all handovers that the source knows of. */
  takeHandovers(lines: readonly string[]): Promise<void>;
  /** Two checkpoints that may prove an equivocation. */
  freeze(checkpoints: readonly [string, string]): Promise<void>;
  /** Why nothing is taken from the log any more; null: it is. */
  frozen(): Error | null;
}

/** What a replica does with the answer of a source before it follows: throws where it must not. */
export async function heedTip({ handovers, at, conflict }: LogTip, hearer: TipHearer): Promise<void> {
  await hearer.takeHandovers(handovers);
  if (conflict !== undefined) await hearer.freeze(conflict);
  // At the size of ours it has signed something: the same, or proof against itself.
  if (hearer.own !== null && at !== null) await hearer.freeze([hearer.own.text, at]);
  const error = hearer.frozen();
  if (error !== null) throw error;
}
