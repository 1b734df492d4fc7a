import { SuperfleetError } from './errors.ts';
import { publicKeyFromPeerId } from './keys.ts';
import { parseReceipt, type Receipt, readExpected } from './receipt.ts';
import type { Assignment, AttemptResult, Lease } from './session.ts';
import { openStatement, parseSigned, statementDigest } from './statement.ts';
import { parseVerification, type Verification } from './verification.ts';

/**
 * Promise 12, the pure part: a receipt counts only if signature, membership, task, attempt, epoch of its lease and
 * every digest match. The founder calls these before it logs a result; nothing of a result is believed before.
 */
export interface Expected {
  mesh: string;
  /** Peer id that holds the lease and sent the result; null where it is no member (any more). */
  member: string | null;
  /** What the founder assigned: lease, nonce and task. */
  assignment: Pick<Assignment, keyof Lease | 'nonce' | 'spec'>;
  /** What the member sent beside the envelope; every digest in it was checked against bytes on this disk. */
  result: AttemptResult;
}

export interface Accepted<T> {
  facts: T;
  /** SHA-256 of the statement: what the log calls it by. */
  digest: string;
}

/** What of an accepted receipt a verification is held against: the log keeps these, and not the whole receipt. */
export type AboutReceipt = Accepted<
  Pick<Receipt, 'task' | 'attempt' | 'epoch' | 'nonce' | 'executor' | 'commit'> & {
    spec: Pick<Receipt['spec'], 'checks'>;
  }
>;

/** A receipt of a task that is not quite the one that was sent: a release that knows other fields of a task signs such a one, and is no liar. */
export class OtherTask extends SuperfleetError {}

/** The receipt of `result.envelope`, or `SF_NOT_PROVED` with the first thing that does not match. */
export function acceptReceipt(expected: Expected): Accepted<Receipt> {
  const { assignment, result } = expected;
  const bytes = openedBy(expected);
  const plain = asExpected(expected, bytes);
  if (plain !== null) return { facts: plain, digest: statementDigest(bytes) };
  const facts = parseReceipt(bytes);
  same('mesh', facts.mesh, expected.mesh);
  same('signer', facts.executor, expected.member);
  sameLease(facts, result, assignment);
  same('nonce', facts.nonce, assignment.nonce);
  const { labels, on, retries, requireVerified, ...spec } = assignment.spec;
  // Mostly both were written by one program, in one order.
  if (JSON.stringify(facts.spec) !== JSON.stringify(spec))
    same('task as submitted', sorted(facts.spec), sorted(spec), OtherTask);
  same('outcome', facts.outcome, result.outcome);
  same('reason', facts.reason, result.reason);
  same('exit code', facts.exitCode, result.exitCode);
  same('commit', facts.commit, result.commit);
  same('bundle', facts.bundle?.sha256 ?? null, result.bundle?.sha256 ?? null);
  same('bundle size', facts.bundle?.bytes ?? 0, result.bundle?.bytes ?? 0);
  same('log size', facts.log?.bytes ?? 0, result.log?.bytes ?? 0);
  if (facts.log !== null) same('log', facts.log.sha256, result.log?.sha256);
  const files = (all: readonly { path: string; sha256: string; bytes: number }[]): string[] =>
    all.map((file) => `${file.sha256} ${file.bytes} ${file.path}`).sort();
  same('artifacts', files(facts.artifacts), files(result.artifacts));
  return { facts, digest: statementDigest(bytes) };
}

/** The facts of a receipt that says nothing but what was expected, as most do; null: look closer. */
function asExpected({ mesh, member, assignment, result }: Expected, bytes: Uint8Array): Receipt | null {
  const { task, attempt, epoch, nonce } = assignment;
  const { labels, on, retries, requireVerified, ...spec } = assignment.spec;
  if (member === null || result.task !== task || result.attempt !== attempt || result.epoch !== epoch)
    return null;
  const { outcome, reason, exitCode, commit, bundle, log, artifacts } = result;
  return readExpected(bytes, {
    mesh,
    task,
    attempt,
    epoch,
    nonce,
    executor: member,
    spec,
    sandbox: 'bubblewrap',
    outcome,
    reason,
    exitCode,
    commit,
    bundle,
    log,
    artifacts,
  });
}

/** The verification of `result.envelope` about this receipt, or `SF_NOT_PROVED` with the first thing that does not match. */
export function acceptVerification(expected: Expected, about: AboutReceipt): Accepted<Verification> {
  const { assignment, result } = expected;
  const bytes = openedBy(expected);
  const facts = parseVerification(bytes);
  same('mesh', facts.mesh, expected.mesh);
  same('signer', facts.verifier, expected.member);
  sameLease({ ...facts, attempt: facts.verifierAttempt }, result, assignment);
  same('nonce', facts.nonce, assignment.nonce);
  const fault = mismatch(facts, about);
  if (fault !== null) throw new SuperfleetError('SF_NOT_PROVED', `the verification does not count: ${fault}`);
  return { facts, digest: statementDigest(bytes) };
}

/** Why a verification is not one of this receipt, in words; null where it is. Both are of the same mesh and signed. */
export function mismatch(verification: Verification, receipt: AboutReceipt): string | null {
  const { facts, digest } = receipt;
  if (verification.receipt !== digest) return 'it is about another receipt';
  if (verification.task !== facts.task) return 'it is about another task';
  if (verification.attempt !== facts.attempt) return 'it is about another attempt';
  if (verification.commit !== facts.commit) return 'it is about another commit';
  if (verification.epoch < facts.epoch) return 'it is of an epoch before the receipt';
  if (verification.nonce === facts.nonce) return 'it has no nonce of its own';
  if (verification.verifier === facts.executor) return 'the executor verified itself';
  const lines = verification.checks.map((check) => check.line);
  const wanted = facts.spec.checks.slice(0, verification.passed ? undefined : lines.length);
  if (JSON.stringify(lines) !== JSON.stringify(wanted)) return 'it ran other checks than the task has';
  return null;
}

function openedBy({ member, result }: Expected): Uint8Array {
  if (member === null) throw new SuperfleetError('SF_NOT_PROVED', 'the signer is not a member');
  if (result.envelope === null)
    throw new SuperfleetError('SF_NOT_PROVED', 'the result comes without a signature');
  return openStatement(parseSigned(result.envelope), publicKeyFromPeerId(member));
}

function sameLease(signed: Lease, result: Lease, assigned: Lease): void {
  for (const field of ['task', 'attempt', 'epoch'] as const) {
    same(field, signed[field], assigned[field]);
    same(field, result[field], assigned[field]);
  }
}

function same(what: string, got: unknown, expected: unknown, Thrown = SuperfleetError): void {
  const [gotText, expectedText] = [JSON.stringify(got), JSON.stringify(expected)];
  if (gotText === expectedText) return;
  throw new Thrown('SF_NOT_PROVED', `the ${what} that was signed is not the one expected`, {
    expected: expectedText?.slice(0, 256) ?? null,
    got: gotText?.slice(0, 256) ?? null,
  });
}

/** The same facts in one order, for comparing what two programs wrote. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
