import { createHash } from 'node:crypto';
import { z } from 'zod';
import { parseDocument } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { commitId, count, meshId, nonce, peerId, sha256Hex, taskId } from './ids.ts';
import {
  gitCommitDigest,
  STATEMENT_TYPE,
  sha256Digest,
  statementBytesMax,
  timestamp,
  unixMs,
} from './statement.ts';

/**
 * A verification: what somebody else signs about a receipt after running its checks again, as an in-toto Statement
 * v1 with test-result v0.1. It binds the receipt's digest, its own lease and its own nonce.
 */
export const TEST_RESULT_TYPE = 'https://in-toto.io/attestation/test-result/v0.1';

/** Everything a verification says. `buildVerification` and `parseVerification` are inverse to each other. */
export interface Verification {
  mesh: string;
  task: string;
  /** Of the execution that was verified. */
  attempt: number;
  /** Digest of the executor's receipt. */
  receipt: string;
  /** The commit that was checked; null for a result without one. */
  commit: string | null;
  /** Peer id of the member that signs. */
  verifier: string;
  /** The verifier's own attempt, the epoch it was leased in, and its nonce from the founder. */
  verifierAttempt: number;
  epoch: number;
  nonce: string;
  /** True only if every check of the task was run and was green, and the bytes were those the receipt names. */
  passed: boolean;
  /** One to three sentences for a person where it did not pass. */
  detail: string | null;
  /** Those run, in the task's order. */
  checks: { line: string; exitCode: number | null }[];
  /** Check files that differ between base and result, as the verifier saw it. */
  checksChanged: string[];
  /** Places of those that said both red and green of the same files; such a verification has not passed. @default none */
  checksFlaky?: number[];
  /** It ran the task's command itself; passed: it came to the same. @default it ran the checks only */
  replica?: true;
  /** Unix ms on the verifier's clock. */
  startedAt: number;
  finishedAt: number;
}

const testNames = z.array(z.string().max(8192)).max(64);
const schema = z.object({
  _type: z.literal(STATEMENT_TYPE),
  subject: z
    .array(z.object({ name: z.string().max(256), digest: z.union([sha256Digest, gitCommitDigest]) }))
    .min(1)
    .max(2),
  predicateType: z.literal(TEST_RESULT_TYPE),
  predicate: z.object({
    result: z.enum(['PASSED', 'FAILED']),
    configuration: z.array(z.object({ name: z.string().max(64), digest: sha256Digest })).max(64),
    passedTests: testNames,
    failedTests: testNames,
    // The fields of ours: test-result has none for which lease, which verifier, which nonce.
    superfleet: z.strictObject({
      mesh: meshId,
      task: taskId,
      attempt: count.min(1),
      receipt: sha256Hex,
      commit: commitId.nullable(),
      verifier: peerId,
      verifierAttempt: count.min(1),
      epoch: count.min(1),
      nonce,
      detail: z.string().max(2048).nullable(),
      /** In the order of the lines; the lines themselves are the names of the tests. */
      checkExitCodes: z.array(z.int().nullable()).max(64),
      checksChanged: z.array(z.string().max(512)).max(64),
      checksFlaky: z.array(count.max(63)).min(1).max(64).optional(),
      replica: z.literal(true).optional(),
      startedOn: unixMs,
      finishedOn: unixMs,
    }),
  }),
});

/** The statement's bytes. `SF_INTERNAL` for facts that contradict each other. */
export function buildVerification(facts: Verification): Uint8Array {
  const contradiction = contradictionIn(facts);
  if (contradiction !== null) {
    throw new SuperfleetError('SF_INTERNAL', `a verification cannot say: ${contradiction}`);
  }
  return Buffer.from(JSON.stringify(statementOf(facts)));
}

/**
 * A verification from verified bytes. What in-toto's fields say must be what ours say; `SF_NOT_PROVED` names where
 * it is not.
 */
export function parseVerification(bytes: Uint8Array): Verification {
  const statement = parseDocument(bytes, schema, statementBytesMax, 'the verification');
  const { startedOn, finishedOn, checkExitCodes, checksFlaky, replica, ...ours } =
    statement.predicate.superfleet;
  const passed = statement.predicate.passedTests.values();
  const failed = statement.predicate.failedTests.values();
  const verification: Verification = {
    ...ours,
    ...(checksFlaky === undefined ? {} : { checksFlaky }),
    ...(replica === undefined ? {} : { replica }),
    checks: checkExitCodes.map((exitCode, index) => {
      const name = (exitCode === 0 ? passed : failed).next().value ?? '';
      return { line: name.slice(testName(index, '').length), exitCode };
    }),
    passed: statement.predicate.result === 'PASSED',
    startedAt: startedOn,
    finishedAt: finishedOn,
  };
  const expected = statementOf(verification);
  const fault =
    (JSON.stringify(statement.subject) !== JSON.stringify(expected.subject) && 'the subjects') ||
    (JSON.stringify(statement.predicate.configuration) !== JSON.stringify(expected.predicate.configuration) &&
      'the configuration') ||
    (JSON.stringify(statement.predicate.passedTests) !== JSON.stringify(expected.predicate.passedTests) &&
      'the passed tests') ||
    (JSON.stringify(statement.predicate.failedTests) !== JSON.stringify(expected.predicate.failedTests) &&
      'the failed tests') ||
    contradictionIn(verification);
  if (fault !== null)
    throw new SuperfleetError('SF_NOT_PROVED', `the verification contradicts itself: ${fault}`);
  return verification;
}

/** The name of check number `index` among the passed or failed tests. */
const testName = (index: number, line: string): string => `check ${index + 1}: ${line}`;

function statementOf(facts: Verification) {
  const tests = facts.checks.map(({ line, exitCode }, index) => ({ name: testName(index, line), exitCode }));
  return {
    _type: STATEMENT_TYPE,
    subject: [
      { name: `receipt/${facts.task}`, digest: { sha256: facts.receipt } },
      ...(facts.commit === null ? [] : [{ name: `mesh/${facts.task}`, digest: { gitCommit: facts.commit } }]),
    ],
    predicateType: TEST_RESULT_TYPE,
    predicate: {
      result: facts.passed ? 'PASSED' : 'FAILED',
      configuration: facts.checks.map(({ line }, index) => ({
        name: `check ${index + 1}`,
        digest: { sha256: createHash('sha256').update(line).digest('hex') },
      })),
      passedTests: tests.filter((test) => test.exitCode === 0).map((test) => test.name),
      failedTests: tests.filter((test) => test.exitCode !== 0).map((test) => test.name),
      superfleet: {
        mesh: facts.mesh,
        task: facts.task,
        attempt: facts.attempt,
        receipt: facts.receipt,
        commit: facts.commit,
        verifier: facts.verifier,
        verifierAttempt: facts.verifierAttempt,
        epoch: facts.epoch,
        nonce: facts.nonce,
        detail: facts.detail,
        checkExitCodes: facts.checks.map((check) => check.exitCode),
        checksChanged: facts.checksChanged,
        ...(facts.checksFlaky === undefined ? {} : { checksFlaky: facts.checksFlaky }),
        ...(facts.replica === undefined ? {} : { replica: facts.replica }),
        startedOn: timestamp(facts.startedAt),
        finishedOn: timestamp(facts.finishedAt),
      },
    },
  };
}

/** The invariants of a verification's facts, asserted when it is written and again when it is read. */
function contradictionIn(facts: Verification): string | null {
  if (facts.passed && facts.checksFlaky !== undefined) return 'passed with a flaky check';
  if (facts.checksFlaky?.some((index) => index >= facts.checks.length))
    return 'a flaky check that was not run';
  if (facts.passed && facts.checks.length === 0 && facts.replica === undefined)
    return 'passed without a check';
  if (facts.passed && facts.checks.some((check) => check.exitCode !== 0)) return 'passed with a red check';
  if (facts.attempt === facts.verifierAttempt) return 'the verification is an attempt of its own';
  return null;
}
