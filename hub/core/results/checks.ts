import {
  type AboutReceipt,
  type Accepted,
  acceptReceipt,
  acceptVerification,
  type Expected,
} from '../../../protocol/acceptance.ts';
import type { WorkDone } from '../../../protocol/receipt.ts';

/** What the founder uses of a receipt that counts. */
export interface ReceiptFacts {
  checksChanged: string[];
  /** Places of checks that said both red and green of the same files. @default none */
  checksFlaky?: number[];
  /** What a model did; null where none was asked. */
  work: (Pick<WorkDone, 'lowConfidence' | 'signal' | 'lesson'> & Partial<Pick<WorkDone, 'model'>>) | null;
}
/** What the founder uses of a verification that counts. */
export interface VerificationFacts {
  passed: boolean;
  /** Check files that the result changes, as the verifier saw it. */
  checksChanged: string[];
  detail: string | null;
  /** Those run, in the task's order. */
  checks: { exitCode: number | null }[];
  /** As in a receipt. @default none */
  checksFlaky?: number[];
  /** It ran the command itself. @default it did not */
  replica?: true;
}

/**
 * Promise 12: throws `SF_NOT_PROVED` unless every fact of the envelope is the one expected. The founder's are those of
 * `protocol/acceptance.ts`; a simulation may put a cheaper signature in their place.
 */
export interface EnvelopeChecks {
  receipt(expected: Expected): Accepted<ReceiptFacts>;
  verification(expected: Expected, about: AboutReceipt): Accepted<VerificationFacts>;
}

export const signedChecks: EnvelopeChecks = { receipt: acceptReceipt, verification: acceptVerification };
