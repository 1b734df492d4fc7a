import type { Receipt } from './receipt.ts';
import type { Verification } from './verification.ts';

/** A machine as its certificate names it. */
export interface Party {
  id: string;
  name: string;
  owner: string;
}

/** What a receipt file says once every signature in it holds. */
export interface ReceiptFacts {
  mesh: string;
  meshName: string;
  /** Digest of the receipt, as the log and `task.receipt` have it. */
  digest: string;
  receipt: Receipt;
  verification: Verification | null;
  executor: Party;
  verifier: Party | null;
  /** Null without a verification. True carries no weight in trust. */
  sameOwner: boolean | null;
}

export interface ReceiptVerdict {
  proved: boolean;
  standing: 'proved' | 'signer-unknown' | 'not-proved';
  /** 0 proved, 5 otherwise (outside contract). */
  exitCode: 0 | 5;
  /** Why it is not proved. */
  why: string | null;
  sameOwner: boolean | null;
  facts: ReceiptFacts | null;
  /** For a person, one line each, terminal controls escaped; the last is the line of the outside contract. */
  sentences: string[];
}
