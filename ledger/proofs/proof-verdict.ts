import type { ReceiptFacts } from '../../protocol/receipt-verdict.ts';
import type { Entry } from '../lines/entry.ts';

/** What a proof file says once everything in it holds. */
export interface ProofFacts {
  mesh: string;
  meshName: string;
  /** Entries under the checkpoint, its root in hex, and the epoch whose key signed it. */
  size: number;
  root: string;
  epoch: number;
  /** Who cosigned the checkpoint (peer ids) and when, Unix seconds by their clocks. Whether they count is for the reader to know. */
  witnesses: { id: string; time: number }[];
  /** The entry that is proved; null in a consistency file. */
  entry: Entry | null;
  /** The receipt that the entry names. */
  receipt: ReceiptFacts | null;
  /** The kept checkpoint that the log grew out of; null in a proof of an entry. */
  since: { size: number; root: string } | null;
}

export interface ProofVerdict {
  proved: boolean;
  standing: 'proved' | 'signer-unknown' | 'not-proved';
  /** 0 proved, 5 otherwise (outside contract). */
  exitCode: 0 | 5;
  /** Why it is not proved. */
  why: string | null;
  facts: ProofFacts | null;
  /** For a person, one line each, terminal controls escaped; the last is the line of the outside contract. */
  sentences: string[];
}
