import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildVerification, parseVerification, type Verification } from '../../protocol/verification.ts';
import { codeOf, messageOf, verification } from './samples.ts';

type Json = { [key: string]: Json } & Json[];
const parsed = (): Json => JSON.parse(Buffer.from(buildVerification(verification)).toString());

test('a verification is an in-toto test result that binds receipt, commit, lease and nonce', () => {
  const statement = parsed();
  assert.is(statement.predicateType as unknown, 'https://in-toto.io/attestation/test-result/v0.1');
  assert.equal(statement.subject, [
    { name: 'receipt/abcdefghijkl', digest: { sha256: verification.receipt } },
    { name: 'mesh/abcdefghijkl', digest: { gitCommit: verification.commit } },
  ]);
  const predicate = statement.predicate!;
  assert.is(predicate.result as unknown, 'PASSED');
  assert.equal(predicate.passedTests, ['check 1: npm test', 'check 2: test -s out.txt']);
  assert.equal(predicate.failedTests, []);
});

test('what is built is read back: passed, failed, cut short, without a commit, with a line twice', () => {
  const cases: Partial<Verification>[] = [
    {},
    { passed: false, detail: 'the second check is red' },
    {
      passed: false,
      checks: [
        { line: 'npm test', exitCode: 1 },
        { line: 'npm test', exitCode: 0 },
      ],
    },
    { passed: false, checks: [{ line: 'a\n: b', exitCode: null }] },
    { passed: false, checks: [], commit: null, checksChanged: ['test/x'] },
    { checks: [], replica: true },
    { passed: false, replica: true, detail: 'it makes another tree' },
  ];
  for (const one of cases) {
    assert.equal(parseVerification(buildVerification({ ...verification, ...one })), {
      ...verification,
      ...one,
    });
  }
});

test('passed with a red check, without any check, or as the executor’s own attempt is never said', () => {
  for (const change of [
    { checks: [{ line: 'npm test', exitCode: 1 }] },
    { checks: [] },
    { verifierAttempt: verification.attempt },
  ]) {
    assert.is(
      codeOf(() => buildVerification({ ...verification, ...change })),
      'SF_INTERNAL',
    );
  }
});

test('a verification whose in-toto fields say something else than its own is refused', () => {
  const after = (change: (predicate: Json) => void): string => {
    const statement = parsed();
    change(statement.predicate!);
    return messageOf(() => parseVerification(Buffer.from(JSON.stringify(statement))));
  };
  assert.is(
    after(() => undefined),
    '',
  );
  assert.match(
    after((p) => Object.assign(p, { failedTests: p.passedTests, passedTests: [] })),
    /contradicts/,
  );
  assert.match(
    after((p) => Object.assign(p.superfleet!, { checkExitCodes: [0, 1] })),
    /contradicts/,
  );
  assert.match(
    after((p) => Object.assign(p.superfleet!, { receipt: '0'.repeat(64) })),
    /the subjects/,
  );
  assert.match(
    after((p) => Object.assign(p.configuration![0]!, { name: 'else' })),
    /the configuration/,
  );
  assert.match(
    after((p) => Object.assign(p.superfleet!, { more: 1 })),
    /form agreed/,
  );
});

test.run();
