import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { entryLineBytesMax, envelopeBytesMax } from '../../protocol/limits.ts';
import { buildReceipt, parseReceipt, type Receipt } from '../../protocol/receipt.ts';
import { encodeSigned, signStatement } from '../../protocol/statement.ts';
import { buildVerification } from '../../protocol/verification.ts';
import { codeOf, commandOf, digestOf, keys, messageOf, receipt, spec, verification } from './samples.ts';

type Json = { [key: string]: Json } & Json[];
const parsed = (): Json => JSON.parse(Buffer.from(buildReceipt(receipt)).toString());
const after = (change: (statement: Json) => void): string => {
  const statement = parsed();
  change(statement);
  return messageOf(() => parseReceipt(Buffer.from(JSON.stringify(statement))));
};

test('a receipt is an in-toto statement v1 with SLSA provenance v1 that names what it is about', () => {
  const statement = parsed();
  assert.is(statement._type as unknown, 'https://in-toto.io/Statement/v1');
  assert.is(statement.predicateType as unknown, 'https://slsa.dev/provenance/v1');
  assert.equal(statement.subject![0], { name: 'mesh/abcdefghijkl', digest: { gitCommit: 'c'.repeat(40) } });
  const { buildDefinition, runDetails } = statement.predicate!;
  assert.equal(Object.keys(buildDefinition!), [
    'buildType',
    'externalParameters',
    'internalParameters',
    'resolvedDependencies',
  ]);
  assert.equal(runDetails!.builder, { id: `superfleet:peer:${receipt.executor}` });
  assert.is(runDetails!.metadata!.invocationId as unknown, 'abcdefghijkl.1.1');
  assert.equal(buildDefinition!.resolvedDependencies, [
    { uri: `superfleet:repository:${'a'.repeat(40)}`, digest: { gitCommit: 'b'.repeat(40) } },
  ]);
});

test('the values of secrets have no place in a receipt, and what schedules a task is left out of it', () => {
  const text = Buffer.from(buildReceipt({ ...receipt, spec })).toString();
  assert.equal(buildReceipt({ ...receipt, spec }), buildReceipt(receipt));
  assert.match(text, /"secrets":\["TOKEN"\]/);
  assert.not.match(text, /requireVerified|retries|labels/);
});

test('what is built is read back, whatever the facts', () => {
  const file = fc.record(
    { bytes: fc.integer({ min: 1, max: 2 ** 40 }), sha256: fc.string().map(digestOf) },
    { noNullPrototype: true },
  );
  const commit = fc.constantFrom('d'.repeat(40), 'e'.repeat(64));
  const facts = fc
    .record({
      attempt: fc.integer({ min: 1, max: 99 }),
      epoch: fc.integer({ min: 1, max: 9 }),
      startedAt: fc.integer({ min: 0, max: 4e12 }),
      finishedAt: fc.integer({ min: 0, max: 4e12 }),
      exitCode: fc.option(fc.integer({ min: 0, max: 255 })),
      checks: fc.array(fc.option(fc.integer({ min: 0, max: 255 })), { maxLength: 2 }),
      output: fc.option(fc.record({ commit, bundle: fc.option(file) })),
      log: fc.option(file),
      artifacts: fc.uniqueArray(
        fc.record(
          { path: fc.string({ minLength: 1 }), bytes: fc.nat(), sha256: fc.string().map(digestOf) },
          { noNullPrototype: true },
        ),
        {
          selector: (one) => one.path,
          maxLength: 4,
        },
      ),
      checksChanged: fc.array(fc.string(), { maxLength: 3 }),
      argv: fc.array(fc.string({ unit: 'binary' }), { minLength: 1, maxLength: 4 }),
      repository: fc.boolean(),
    })
    .map((one): Receipt => {
      const checks = one.checks.map((exitCode, index) => ({ line: receipt.spec.checks[index]!, exitCode }));
      const green =
        one.exitCode === 0 && checks.length === 2 && checks.every((check) => check.exitCode === 0);
      const { output, repository, argv, ...rest } = one;
      return {
        ...receipt,
        ...rest,
        spec: { ...commandOf(receipt.spec), argv, repository: repository ? receipt.spec.repository : null },
        checks,
        outcome: green ? 'succeeded' : 'failed',
        reason: green ? null : 'check',
        commit: output?.commit ?? null,
        bundle: output?.bundle ?? null,
      };
    });
  fc.assert(
    fc.property(facts, (one) => assert.equal(parseReceipt(buildReceipt(one)), one)),
    { numRuns: 300 },
  );
});

test('any task whose submission fits a line of the log has a receipt and a verification that fit an envelope', () => {
  const checks = Array.from(
    { length: 64 },
    (_, index) => `${index} ${'x'.repeat(entryLineBytesMax / 64 - 20)}`,
  );
  const ran = checks.map((line) => ({ line, exitCode: 0 }));
  const large = buildReceipt({ ...receipt, spec: { ...receipt.spec, checks }, checks: ran });
  assert.ok(large.length > entryLineBytesMax * 0.95);
  for (const statement of [large, buildVerification({ ...verification, checks: ran })]) {
    assert.ok(encodeSigned(signStatement(statement, keys.executor)).length <= envelopeBytesMax);
  }
});

test('facts that contradict each other are never built into a receipt', () => {
  const refused = (change: Partial<Receipt>) =>
    assert.is(
      codeOf(() => buildReceipt({ ...receipt, ...change })),
      'SF_INTERNAL',
      JSON.stringify(change),
    );
  refused({ exitCode: 1 });
  refused({ reason: 'task' });
  refused({ outcome: 'failed' });
  refused({ checks: receipt.checks.slice(1) });
  refused({ checks: [receipt.checks[0]!] });
  refused({ checks: [receipt.checks[0]!, { ...receipt.checks[1]!, exitCode: 1 }] });
  refused({ checks: [...receipt.checks, { line: 'true', exitCode: 0 }] });
  refused({ commit: null });
});

test('a receipt whose parts say different things is refused and the part is named', () => {
  const external = (statement: Json) => statement.predicate!.buildDefinition!.externalParameters!;
  const set = (target: Json, key: string, value: unknown) => Object.assign(target, { [key]: value });
  assert.match(
    after((s) => set(external(s), 'task', 'abcdefghijkm')),
    /invocation is another attempt/,
  );
  assert.match(
    after((s) => set(s.subject![0]!, 'name', 'mesh/other')),
    /another branch/,
  );
  assert.match(
    after((s) => set(external(s), 'base', 'd'.repeat(40))),
    /dependency is another commit/,
  );
  assert.match(
    after((s) => set(s.predicate!.buildDefinition!, 'resolvedDependencies', [])),
    /base is not the one/,
  );
  assert.match(
    after((s) => set(external(s).repository!, 'id', 'f'.repeat(40))),
    /another repository/,
  );
  assert.match(
    after((s) => s.subject!.push(s.subject![1]!)),
    /named twice/,
  );
  assert.match(
    after((s) => set(s.subject![1]!, 'name', 'else')),
    /no known kind|without a commit/,
  );
  assert.match(
    after((s) => set(s.predicate!.runDetails!.builder!, 'id', 'https://example.com')),
    /no member/,
  );
  assert.match(
    after((s) => set(external(s), 'more', 1)),
    /form agreed/,
  );
  assert.match(
    after((s) => set(s, 'predicateType', 'https://slsa.dev/provenance/v0.2')),
    /form agreed/,
  );
});

test('fields that a later version may add outside the external parameters are skipped', () => {
  const statement = parsed();
  Object.assign(statement.predicate!.runDetails!.metadata!, { later: 1 });
  assert.equal(parseReceipt(Buffer.from(JSON.stringify(statement))), receipt);
});

test.run();
