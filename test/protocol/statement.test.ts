import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  encodeSigned,
  openStatement,
  parseSigned,
  type SignedStatement,
  signBatch,
  signStatement,
  statementBytesMax,
} from '../../protocol/statement.ts';
import { codeOf, keys } from './samples.ts';

const key = keys.executor;
const open = (signed: SignedStatement) => Buffer.from(openStatement(signed, key.publicKey)).toString();

test('every statement of a batch of any size opens to its own bytes by the batch’s one signature', () => {
  for (let size = 1; size <= 33; size += 1) {
    const texts = Array.from({ length: size }, (_, index) => `{"n":${index}}`);
    const batch = signBatch(
      texts.map((text) => Buffer.from(text)),
      key,
    );
    assert.equal(
      batch.map((one) => open(parseSigned(encodeSigned(one)))),
      texts,
    );
    assert.is(new Set(batch.map((one) => one.envelope.signatures[0]!.sig)).size, 1);
  }
});

test('statements of a batch that are equal are each opened, wherever they stand', () => {
  for (const texts of [
    ['a', 'a'],
    ['a', 'b', 'a', 'b'],
    ['a', 'a', 'a', 'a', 'a'],
    ['a', 'b', 'c', 'a', 'b', 'c'],
  ]) {
    const batch = signBatch(
      texts.map((text) => Buffer.from(text)),
      key,
    );
    assert.equal([...batch, ...batch].map(open), [...texts, ...texts]);
    const [first, last] = [batch[0]!, batch.at(-1)!];
    const longer = [...last.batch.path, ...first.batch.path];
    assert.is(
      codeOf(() => open({ ...last, batch: { ...last.batch, path: longer } })),
      'SF_NOT_PROVED',
    );
  }
});

test('every statement of a batch that is larger than what is kept of one opens, again and in any order', () => {
  const texts = Array.from({ length: 1100 }, (_, index) => `{"n":${index}}`);
  const batch = signBatch(
    texts.map((text) => Buffer.from(text)),
    key,
  );
  assert.equal([...batch, ...batch.toReversed()].map(open), [...texts, ...texts.toReversed()]);
});

test('the root that a batch signs is the one of RFC 6962', () => {
  const hash = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
  const [a, b, c] = ['a', 'b', 'c'].map((text) => hash(Uint8Array.of(0), Buffer.from(text)));
  const root = hash(Uint8Array.of(1), hash(Uint8Array.of(1), a!, b!), c!).toString('hex');
  const batch = signBatch(
    ['a', 'b', 'c'].map((text) => Buffer.from(text)),
    key,
  );
  assert.is(Buffer.from(batch[0]!.envelope.payload, 'base64').toString(), JSON.stringify({ root }));
});

test('a batch of one is a statement signed alone', () => {
  const bytes = Buffer.from('{}');
  assert.equal(signBatch([bytes], key), [signStatement(bytes, key)]);
  assert.equal(signBatch([], key), []);
});

test('a statement that is not in the batch, a changed path and a node passed off as a leaf are refused', () => {
  const texts = ['a', 'b', 'c', 'd', 'e'].map((text) => Buffer.from(text));
  const [first, second] = signBatch(texts, key) as [SignedStatement, SignedStatement];
  const refused = (batch: Partial<SignedStatement['batch']>) =>
    assert.is(
      codeOf(() => open({ ...first, batch: { ...first.batch, ...batch } })),
      'SF_NOT_PROVED',
    );
  refused({ statement: Buffer.from('x').toString('base64') });
  refused({ statement: null });
  refused({ statement: second.batch.statement });
  refused({ path: second.batch.path });
  refused({ path: first.batch.path.slice(1) });
  refused({ path: [] });
  fc.assert(
    fc.property(fc.nat(first.batch.path.length - 1), fc.nat(63), (step, at) => {
      const path = first.batch.path.map((one) => ({ ...one }));
      const { hash } = path[step]!;
      path[step]!.hash = hash.slice(0, at) + (hash[at] === '0' ? '1' : '0') + hash.slice(at + 1);
      refused({ path });
    }),
  );
});

test('an envelope over one statement cannot stand for a batch, nor the other way round', () => {
  const alone = signStatement(Buffer.from('{"root":"x"}'), key);
  const [inBatch] = signBatch([Buffer.from('a'), Buffer.from('b')], key) as [SignedStatement];
  assert.is(
    codeOf(() => open({ envelope: alone.envelope, batch: inBatch.batch })),
    'SF_NOT_PROVED',
  );
  assert.is(
    codeOf(() => open({ envelope: inBatch.envelope, batch: alone.batch })),
    'SF_NOT_PROVED',
  );
  assert.is(
    codeOf(() => open({ ...alone, batch: { path: [], statement: 'YQ==' } })),
    'SF_NOT_PROVED',
  );
});

test('a statement past its bound is refused with what to do, and one at the bound fits the wire in any batch', () => {
  const largest = Buffer.alloc(statementBytesMax, 'x');
  assert.is(
    codeOf(() => signStatement(Buffer.alloc(statementBytesMax + 1), key)),
    'SF_FULL',
  );
  assert.ok(parseSigned(encodeSigned(signStatement(largest, key))));
  const batch = signBatch([largest, ...Array.from({ length: 1000 }, () => Buffer.from('x'))], key);
  assert.ok(parseSigned(encodeSigned(batch[0]!)));
});

test.run();
