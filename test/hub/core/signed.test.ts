import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { signedChecks } from '../../../hub/core/checks.ts';
import { buildReceipt, type Receipt } from '../../../protocol/receipt.ts';
import type { Assignment, AttemptResult } from '../../../protocol/session.ts';
import { encodeSigned, signStatement } from '../../../protocol/statement.ts';
import { CONFIDENCE } from '../../../protocol/task.ts';
import { buildVerification } from '../../../protocol/verification.ts';
import { keyOf } from '../../protocol/samples.ts';
import { Fleet, MESH, resultOf } from './fleet.ts';

/** The same core with the signatures of the product. */
const keys = { ada: keyOf('ada'), bob: keyOf('bob') };

function signedReceipt(
  assignment: Assignment,
  result: AttemptResult,
  change: Partial<Receipt> = {},
): AttemptResult {
  const { task, attempt, epoch, nonce, spec } = assignment;
  const { labels, on, retries, requireVerified, ...runSpec } = spec;
  void [labels, on, retries, requireVerified];
  const { bundle, log } = result;
  const facts: Receipt = {
    mesh: MESH,
    task,
    attempt,
    epoch,
    nonce,
    executor: keys.ada.peer,
    spec: runSpec,
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
  };
  return { ...result, envelope: encodeSigned(signStatement(buildReceipt(facts), keys.ada)) };
}

function signedVerification(assignment: Assignment, result: AttemptResult): AttemptResult {
  const { task, attempt: verifierAttempt, epoch, nonce, spec } = assignment;
  const { attempt, receipt, commit } = assignment.verify!;
  const facts = {
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
  };
  return { ...result, envelope: encodeSigned(signStatement(buildVerification(facts), keys.bob)) };
}

function fleetOfTwo(onlyAda = false) {
  const fleet = new Fleet({ checks: signedChecks });
  const ada = fleet.join('ada', { peer: keys.ada.peer });
  const bob = onlyAda ? null : fleet.join('bob', { peer: keys.bob.peer });
  const id = fleet.submit({ on: 'ada' });
  const assignment = fleet.running(ada);
  ada.running.clear();
  return { fleet, ada, bob, id, assignment };
}

test('receipt and verification with their true signatures bring a task to delivered (promise 12)', () => {
  const { fleet, ada, bob, id, assignment } = fleetOfTwo();
  const result = signedReceipt(assignment, resultOf(ada.peer, assignment));
  fleet.member(ada, { type: 'finished', result });
  const verify = fleet.running(bob!, 'verify');
  fleet.member(bob!, { type: 'finished', result: signedVerification(verify, resultOf(bob!.peer, verify)) });
  assert.is(fleet.task(id).converged?.confidence, CONFIDENCE.verified);
});

const forgeries: [string, Partial<Receipt>][] = [
  ['another nonce', { nonce: 'f'.repeat(32) }],
  ['another attempt', { attempt: 2 }],
  ['another epoch', { epoch: 2 }],
  ['another executor', { executor: keys.bob.peer }],
  ['another mesh', { mesh: 'cd'.repeat(32) }],
  ['another commit', { commit: 'e'.repeat(40) }],
];
for (const [what, change] of forgeries) {
  test(`a receipt that signs ${what} is refused (promise 12)`, () => {
    const { fleet, ada, id, assignment } = fleetOfTwo(true);
    const result = signedReceipt(assignment, resultOf(ada.peer, assignment), change);
    fleet.member(ada, { type: 'finished', result });
    assert.is(fleet.task(id).accepted, null);
    assert.is(fleet.task(id).lastEnd?.reason, 'refused');
  });
}

test.run();
