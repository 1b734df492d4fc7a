import { buildReceipt, type Receipt } from '../../../protocol/receipt.ts';
import type { Assignment, AttemptResult } from '../../../protocol/session.ts';
import { encodeSigned, signStatement } from '../../../protocol/statement.ts';
import { buildVerification, type Verification } from '../../../protocol/verification.ts';
import { keyOf } from '../../protocol/samples.ts';
import { MESH } from './fleet.ts';

/** Of an executor and of its verifier, for a core with the signatures of the product. */
export const keys = { ada: keyOf('ada'), bob: keyOf('bob') };

/** The result with ada's receipt. */
export function signedReceipt(
  assignment: Assignment,
  result: AttemptResult,
  change: Partial<Receipt> = {},
): AttemptResult {
  const { task, attempt, epoch, nonce, spec } = assignment;
  const { labels: _, on: __, retries: ___, requireVerified: ____, ...asked } = spec;
  const { bundle, log } = result;
  const receipt = buildReceipt({
    mesh: MESH,
    task,
    attempt,
    epoch,
    nonce,
    executor: keys.ada.peer,
    spec: asked,
    sandbox: 'bubblewrap',
    limits: { memory: 'watched', processes: 'nproc', disk: 'watched' },
    startedAt: 1,
    finishedAt: 2,
    outcome: 'succeeded',
    reason: null,
    exitCode: 0,
    work: null,
    checks: spec.checks.map((line) => ({ line, exitCode: 0 })),
    checksChanged: [],
    commit: result.commit,
    bundle: bundle && { bytes: bundle.bytes, sha256: bundle.sha256 },
    log: log && { bytes: log.bytes, sha256: log.sha256 },
    artifacts: [],
    ...change,
  });
  return { ...result, envelope: encodeSigned(signStatement(receipt, keys.ada)) };
}

/** The result with bob's word that all checks have passed. */
export function signedVerification(
  assignment: Assignment,
  result: AttemptResult,
  change: Partial<Verification> = {},
): AttemptResult {
  const { task, attempt: verifierAttempt, epoch, nonce, spec } = assignment;
  const { attempt, receipt, commit } = assignment.verify!;
  const verification = buildVerification({
    mesh: MESH,
    task,
    attempt,
    receipt,
    commit,
    verifier: keys.bob.peer,
    verifierAttempt,
    epoch,
    nonce,
    passed: true,
    detail: null,
    checks: spec.checks.map((line) => ({ line, exitCode: 0 })),
    checksChanged: [],
    startedAt: 3,
    finishedAt: 4,
    ...change,
  });
  return { ...result, envelope: encodeSigned(signStatement(verification, keys.bob)) };
}
