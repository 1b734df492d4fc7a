import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { acceptReceipt, acceptVerification, type Expected, mismatch } from '../../protocol/acceptance.ts';
import { buildReceipt, parseReceipt, type Receipt, readExpected } from '../../protocol/receipt.ts';
import type { AttemptResult } from '../../protocol/session.ts';
import { encodeSigned, signBatch, signStatement } from '../../protocol/statement.ts';
import { buildVerification, type Verification } from '../../protocol/verification.ts';
import { commandOf, digestOf, keys, mesh, messageOf, receipt, spec, verification } from './samples.ts';

const blob = digestOf('a manifest');
const signed = (facts: Receipt, key = keys.executor) => encodeSigned(signStatement(buildReceipt(facts), key));

const result: AttemptResult = {
  task: receipt.task,
  attempt: receipt.attempt,
  epoch: receipt.epoch,
  role: 'execute',
  correlation: 'c1',
  outcome: receipt.outcome,
  reason: receipt.reason,
  fault: null,
  detail: null,
  exitCode: receipt.exitCode,
  commit: receipt.commit,
  bundle: { blob, ...receipt.bundle! },
  log: { blob, ...receipt.log! },
  artifacts: receipt.artifacts.map((file) => ({ blob, ...file })),
  envelope: signed(receipt),
};
const { task, attempt, epoch, nonce } = receipt;
const expected: Expected = {
  mesh,
  member: keys.executor.peer,
  assignment: { task, attempt, epoch, nonce, spec },
  result,
};
const refusal = (change: Partial<Expected>) => messageOf(() => acceptReceipt({ ...expected, ...change }));
const withResult = (change: Partial<AttemptResult>) => refusal({ result: { ...result, ...change } });
const withReceipt = (change: Partial<Receipt>) => withResult({ envelope: signed({ ...receipt, ...change }) });
const withAssignment = (change: Partial<Expected['assignment']>) =>
  refusal({ assignment: { ...expected.assignment, ...change } });

test('a receipt that matches in everything is accepted and called by its digest', () => {
  const accepted = acceptReceipt(expected);
  assert.equal(accepted.facts, receipt);
  assert.is(accepted.digest, verification.receipt);
});

test('the short way takes the plain end of a command, and says of everything else nothing or what the long way says', () => {
  const { limits, startedAt, finishedAt, work, checks, checksChanged, ...known } = receipt;
  assert.equal(readExpected(buildReceipt(receipt), known), receipt);
  const changes: Partial<Receipt>[] = [
    { limits: { ...limits, memory: 'none' } },
    { startedAt: 0, finishedAt: 253_402_300_799_999 },
    { checksFlaky: [1] },
    { checksChanged: ['package.json'] },
    { outcome: 'failed', reason: 'check', checks: [{ line: 'npm test', exitCode: 1 }] },
    { exitCode: null, outcome: 'failed', reason: 'environment', checks: [], commit: null, bundle: null },
    { log: null, artifacts: [] },
    { artifacts: [...receipt.artifacts, { path: 'a', bytes: 1, sha256: digestOf('a') }] },
    { spec: { ...commandOf(receipt.spec), argv: ['echo', 'é'] } },
    { spec: { ...commandOf(receipt.spec), repository: null }, commit: null, bundle: null },
  ];
  let short = 0;
  for (const change of changes) {
    const facts = { ...receipt, ...change };
    const bytes = buildReceipt(facts);
    for (const { checksFlaky, ...expectation } of [facts, receipt]) {
      const read = readExpected(bytes, expectation);
      if (read === null) continue;
      short += 1;
      assert.equal(read, parseReceipt(bytes));
      assert.equal(read, facts);
    }
  }
  assert.ok(short >= 6, `${short}`);
});

test('the short way takes no byte that the long way refuses', () => {
  const text = Buffer.from(buildReceipt(receipt)).toString();
  const refused = (from: string | RegExp, to: string) => {
    const changed = text.replace(from, to);
    assert.is.not(changed, text);
    assert.is(readExpected(Buffer.from(changed), receipt), null, to);
  };
  refused('"exitCode":0', '"exitCode":-0');
  refused('"exitCode":0', '"exitCode": 0');
  refused('"memory":"cgroup"', '"memory":"more"');
  refused('"memory":"cgroup"', '"memory":"none","memory":"cgroup"');
  refused('"attempt":1', '"attempt":1.0');
  refused('"checkExitCodes":[0,0]', '"checkExitCodes":[0,0,0]');
  refused('"checkExitCodes":[0,0]', '"checkExitCodes":[0,1e400]');
  refused('"checkExitCodes":[0,0]', '"checkExitCodes":{}');
  refused(/"startedOn":"[^"]*"/, '"startedOn":"yesterday"');
  refused(/"startedOn":"[^"]*"/, '"startedOn":"2025-10-09T08:55:00Z"');
  refused('"predicate":', '"other":1,"predicate":');
  refused(/^/, '[');
  const twice = { ...receipt, artifacts: [receipt.artifacts[0]!, receipt.artifacts[0]!] };
  assert.is(readExpected(buildReceipt(twice), twice), null);
});

test('an artifact whose digest is none is refused, though result and receipt say the same of it', () => {
  for (const sha256 of ['z'.repeat(64), 'A'.repeat(64)]) {
    const artifacts = [{ path: 'out.txt', bytes: 1, sha256 }];
    const bytes = buildReceipt({ ...receipt, artifacts });
    assert.throws(() => parseReceipt(bytes));
    assert.is(readExpected(bytes, { ...receipt, artifacts }), null);
    const envelope = signed({ ...receipt, artifacts });
    assert.match(withResult({ envelope, artifacts: [{ blob, ...artifacts[0]! }] }), /not of the form agreed/);
  }
});

test('a receipt counts only if signature, membership, task, attempt, epoch of its lease and every digest match (promise 12)', () => {
  assert.match(refusal({ member: null }), /not a member/);
  assert.match(refusal({ member: keys.stranger.peer }), /signature does not hold/);
  assert.match(withResult({ envelope: signed(receipt, keys.stranger) }), /signature does not hold/);
  assert.match(withResult({ envelope: signed({ ...receipt, executor: keys.stranger.peer }) }), /the signer/);
  assert.match(withResult({ envelope: null }), /without a signature/);
  assert.match(refusal({ mesh: '0'.repeat(64) }), /the mesh/);

  assert.match(withAssignment({ task: 'zzzzzzzzzzzz' }), /the task that/);
  assert.match(withAssignment({ attempt: 2 }), /the attempt/);
  assert.match(withAssignment({ epoch: 2 }), /the epoch/);
  assert.match(withAssignment({ nonce: '9'.repeat(32) }), /the nonce/);
  assert.match(withResult({ attempt: 2 }), /the attempt/);
  assert.match(withReceipt({ attempt: 2 }), /the attempt/);
  assert.match(withReceipt({ epoch: 2 }), /the epoch/);
  assert.match(withAssignment({ spec: { ...spec, checks: ['npm test', 'true'] } }), /the task as submitted/);
  assert.match(
    withReceipt({ spec: { ...commandOf(receipt.spec), argv: ['true'] } }),
    /the task as submitted/,
  );

  const other = { bytes: 1, sha256: digestOf('other') };
  assert.match(withReceipt({ commit: 'd'.repeat(40) }), /the commit/);
  assert.match(withReceipt({ bundle: { ...receipt.bundle!, sha256: other.sha256 } }), /the bundle/);
  assert.match(withReceipt({ bundle: { ...receipt.bundle!, bytes: 1 } }), /the bundle size/);
  assert.match(withReceipt({ log: { ...receipt.log!, sha256: other.sha256 } }), /the log/);
  assert.match(withReceipt({ log: null }), /the log size/);
  assert.match(withReceipt({ artifacts: [] }), /the artifacts/);
  assert.match(withReceipt({ artifacts: [{ path: 'out.txt', ...other }] }), /the artifacts/);
  assert.match(withReceipt({ outcome: 'failed', reason: 'check' }), /the outcome/);
  assert.match(withResult({ exitCode: 1 }), /the exit code/);
});

test('scheduling fields of a task and the order of its environment are not the executor’s to match', () => {
  assert.is(withAssignment({ spec: { ...spec, retries: 3, labels: { a: 'b' } } }), '');
  const two = { ...receipt, spec: { ...receipt.spec, env: { A: '1', B: '2' } } };
  const assignment = { ...expected.assignment, spec: { ...spec, env: { B: '2', A: '1' } } };
  assert.is(refusal({ assignment, result: { ...result, envelope: signed(two) } }), '');
});

test('a receipt signed in a batch is accepted as one signed alone, under the same digest', () => {
  const [inBatch] = signBatch([buildReceipt(receipt), Buffer.from('{}')], keys.executor);
  const accepted = acceptReceipt({ ...expected, result: { ...result, envelope: encodeSigned(inBatch!) } });
  assert.equal(accepted, acceptReceipt(expected));
});

test('a verification counts only for the receipt it binds, from its own lease and by somebody else (promise 12)', () => {
  const about = acceptReceipt(expected);
  const accept = (change: Partial<Verification>, key = keys.verifier, member = key.peer) => {
    const facts = { ...verification, ...change };
    const lease = { task, attempt: verification.verifierAttempt, epoch };
    return messageOf(() => {
      const envelope = encodeSigned(signStatement(buildVerification(facts), key));
      const assignment = { ...lease, nonce: verification.nonce, spec };
      acceptVerification(
        { mesh, member, assignment, result: { ...result, ...lease, role: 'verify', envelope } },
        about,
      );
    });
  };
  assert.is(accept({}), '');
  assert.match(accept({ receipt: digestOf('x') }), /another receipt/);
  assert.match(accept({ commit: 'd'.repeat(40) }), /another commit/);
  assert.match(accept({ attempt: 3 }), /another attempt/);
  assert.match(accept({ verifierAttempt: 3 }), /the attempt/);
  assert.match(accept({ nonce: '9'.repeat(32) }), /the nonce/);
  assert.match(accept({ mesh: '0'.repeat(64) }), /the mesh/);
  assert.match(accept({ verifier: keys.executor.peer }, keys.executor), /verified itself/);
  assert.match(accept({}, keys.stranger), /the signer/);
  assert.match(accept({}, keys.verifier, keys.stranger.peer), /signature does not hold/);
  assert.match(accept({ checks: verification.checks.slice(0, 1) }), /other checks/);
  assert.match(accept({ checks: [{ line: 'true', exitCode: 0 }, verification.checks[1]!] }), /other checks/);
  const later = { ...about, facts: { ...about.facts, epoch: 2 } };
  assert.match(String(mismatch(verification, later)), /epoch before the receipt/);
  assert.is(accept({ passed: false, checks: [{ line: 'npm test', exitCode: 1 }] }), '');
});

test.run();
