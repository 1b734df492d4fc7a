import { createHash } from 'node:crypto';
import type { EnvelopeChecks, ReceiptFacts } from '../../hub/core/results/checks.ts';
import { canonicalJson } from '../../ledger/lines/canonical-json.ts';
import { type Expected, mismatch } from '../../protocol/acceptance.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Assignment, AttemptResult } from '../../protocol/session.ts';

/**
 * A STAND-IN for receipts and their signatures, for speed: an envelope is JSON with a keyed hash. It binds the same
 * facts as the real ones (mesh, signer, lease, nonce, task, outputs), so the core under test decides on the same
 * grounds; `test/hub/core/signed.test.ts` drives the same core with the real ones.
 */
export type Outcome = Pick<AttemptResult, 'outcome' | 'exitCode' | 'commit' | 'bundle' | 'log' | 'artifacts'>;

const hash = (text: string): string => createHash('sha256').update(text).digest('hex');
const keyed = (peer: string, text: string): string => hash(`key of ${peer}|${text}`);

const receiptFacts = (mesh: string, member: string, of: Expected['assignment'], out: Outcome): object => ({
  mesh,
  member,
  lease: [of.task, of.attempt, of.epoch],
  nonce: of.nonce,
  work: of.spec.kind === 'command' ? of.spec.argv : canonicalJson(of.spec.code),
  checks: of.spec.checks,
  out: [out.outcome, out.exitCode, out.commit, out.bundle, out.log, out.artifacts],
});

export function standInReceipt(
  mesh: string,
  member: string,
  of: Assignment,
  out: Outcome,
  checksChanged: string[] = [],
  work: ReceiptFacts['work'] = null,
  checksFlaky: number[] = [],
): string {
  const said = { checksChanged, work, ...(checksFlaky.length === 0 ? {} : { checksFlaky }) };
  const text = JSON.stringify({ facts: receiptFacts(mesh, member, of, out), ...said });
  return JSON.stringify({ text, sig: keyed(member, text) });
}

export function standInVerification(
  mesh: string,
  member: string,
  of: Assignment,
  passed: boolean,
  detail: string | null,
  checksFlaky: number[] = [],
): string {
  const { task, epoch, attempt: verifierAttempt, nonce } = of;
  const { attempt, receipt, commit } = of.verify!;
  const checks = of.spec.checks.map((line) => ({ line, exitCode: passed ? 0 : 1 }));
  // Of flaky ones only those are red.
  if (checksFlaky.length > 0)
    for (const [at, check] of checks.entries()) check.exitCode = checksFlaky.includes(at) ? 1 : 0;
  const facts = {
    mesh,
    verifier: member,
    task,
    attempt,
    verifierAttempt,
    epoch,
    nonce,
    receipt,
    commit,
    passed,
    detail,
    checks,
    checksChanged: [],
    ...(checksFlaky.length === 0 ? {} : { checksFlaky }),
    ...(of.verify!.replica === undefined ? {} : { replica: true }),
    startedAt: 0,
    finishedAt: 0,
  };
  const text = JSON.stringify(facts);
  return JSON.stringify({ text, sig: keyed(member, text) });
}

export const standInDigest = (envelope: string): string =>
  hash((JSON.parse(envelope) as { text: string }).text);

function opened({ member, result }: Expected): string {
  const refuse = (why: string): never => {
    throw new SuperfleetError('SF_NOT_PROVED', why);
  };
  if (member === null) return refuse('the signer is no member');
  let parsed: { text?: unknown; sig?: unknown } = {};
  try {
    parsed = JSON.parse(result.envelope ?? '') as typeof parsed;
  } catch {
    return refuse('no envelope');
  }
  const { text, sig } = parsed;
  if (typeof text !== 'string' || sig !== keyed(member, text)) return refuse('the signature does not hold');
  return text;
}

/** The checks of the stand-in, in the place of those in `protocol/acceptance.ts`. */
export const standInChecks: EnvelopeChecks = {
  receipt(expected) {
    const text = opened(expected);
    const { facts, ...said } = JSON.parse(text) as { facts: object } & ReceiptFacts;
    const wanted = receiptFacts(expected.mesh, expected.member!, expected.assignment, expected.result);
    if (JSON.stringify(facts) !== JSON.stringify(wanted)) {
      throw new SuperfleetError('SF_NOT_PROVED', 'the receipt is not about this lease and these bytes');
    }
    return { digest: hash(text), facts: said };
  },
  verification(expected, about) {
    const text = opened(expected);
    const facts = JSON.parse(text) as Parameters<typeof mismatch>[0];
    const { assignment, member } = expected;
    const own =
      facts.verifier === member && facts.nonce === assignment.nonce && facts.epoch === assignment.epoch;
    const fault = mismatch(facts, about);
    if (!own || facts.verifierAttempt !== assignment.attempt || fault !== null) {
      throw new SuperfleetError(
        'SF_NOT_PROVED',
        `the verification does not count: ${fault ?? 'another lease'}`,
      );
    }
    return { digest: hash(text), facts };
  },
};
