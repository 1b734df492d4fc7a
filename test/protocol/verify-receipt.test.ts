import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseReceiptFile, type ReceiptFile } from '../../protocol/bundle.ts';
import { issueCertificate } from '../../protocol/certificate.ts';
import { buildReceipt } from '../../protocol/receipt.ts';
import { signBatch, signStatement } from '../../protocol/statement.ts';
import { buildVerification } from '../../protocol/verification.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import { certificateOf, digestOf, fileBytes, keys, mesh, receipt, verification } from './samples.ts';

const good = fileBytes();
const verdictOf = (change: Partial<ReceiptFile>) => verifyReceiptFile(fileBytes(change), { mesh });
const why = (change: Partial<ReceiptFile>): string => {
  const verdict = verdictOf(change);
  assert.not.ok(verdict.proved);
  assert.is(verdict.exitCode, 5);
  assert.is(verdict.facts, null);
  assert.match(verdict.sentences.at(-1)!, /^not proved: ./);
  return verdict.why ?? '';
};
const receiptWith = (change: Partial<typeof receipt>, key = keys.executor) =>
  signStatement(buildReceipt({ ...receipt, ...change }), key);
const verificationWith = (change: Partial<typeof verification>, key = keys.verifier) =>
  signStatement(buildVerification({ ...verification, ...change }), key);
const certificates = (...change: Parameters<typeof certificateOf>[1][]) => [
  issueCertificate(certificateOf('executor', change[0]), keys.log),
  issueCertificate(certificateOf('verifier', change[1]), keys.log),
];

test('with the right mesh it is proved, and the sentences say who ran what, what came out and who verified it', () => {
  const verdict = verifyReceiptFile(good, { mesh });
  assert.ok(verdict.proved);
  assert.is(verdict.exitCode, 0);
  assert.is(verdict.sentences.at(-1), 'proved: laptop ran task abcdefghijkl, and desktop verified it');
  const text = verdict.sentences.join('\n');
  for (const part of [
    `laptop (${keys.executor.peer}, owner “Anna”) ran task abcdefghijkl (attempt 1, epoch 1) on commit ${'b'.repeat(40)}`,
    "The command was: sh -c 'npm run build > out.txt'",
    'It succeeded, with exit code 0.',
    `It gave commit ${'c'.repeat(40)}`,
    'Check 1 of 2 on the verifier, “npm test”: green',
    `desktop (${keys.verifier.peer}, owner “Bert”) ran the checks again`,
    'different owners',
    'What this does not prove:',
    'when it was',
  ]) {
    assert.ok(text.includes(part), part);
  }
  assert.equal(verdict.facts?.receipt, receipt);
  assert.equal(verdict.facts?.verification, verification);
});

test('without a mesh the signature is good and the signer unknown', () => {
  const verdict = verifyReceiptFile(good, { mesh: null });
  assert.not.ok(verdict.proved);
  assert.is(verdict.exitCode, 5);
  assert.is(verdict.sentences.at(-1), 'signature good, signer unknown');
  const broken = fileBytes({ receipt: receiptWith({}, keys.stranger) });
  assert.match(verifyReceiptFile(broken, { mesh: null }).sentences.at(-1)!, /^not proved: /);
});

test('with another mesh it is not proved', () => {
  const verdict = verifyReceiptFile(good, { mesh: '0'.repeat(64) });
  assert.not.ok(verdict.proved);
  assert.match(verdict.sentences.at(-1)!, /^not proved: it is of mesh /);
});

test('every changed, missing or added byte of a receipt file ends not proved', () => {
  for (let at = 0; at < good.length; at += 1) {
    const changed = Buffer.from(good);
    changed[at] = changed[at]! ^ (1 << (at % 8));
    assert.not.ok(verifyReceiptFile(changed, { mesh }).proved, `bit ${at % 8} of byte ${at}`);
  }
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(2), (at, byte, kind) => {
      if (kind === 0 && good[at] === byte) return;
      const middle = kind === 2 ? [] : [byte];
      const rest = good.subarray(kind === 1 ? at : at + 1);
      const changed = Buffer.concat([good.subarray(0, at), Uint8Array.from(middle), rest]);
      assert.not.ok(verifyReceiptFile(changed, { mesh }).proved);
    }),
    { numRuns: 2000 },
  );
});

test('whatever the bytes are, the answer is a verdict and never an exception', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        const verdict = verifyReceiptFile(bytes, { mesh });
        assert.match(verdict.sentences.at(-1)!, /^not proved: /);
      },
    ),
  );
});

test('without a verification it is proved as the executor’s own word', () => {
  const verdict = verdictOf({ verification: null, certificates: certificates().slice(0, 1) });
  assert.is(verdict.sentences.at(-1), 'proved: laptop ran task abcdefghijkl; nobody else has verified it');
  assert.ok(verdict.sentences.includes('Nobody else has verified it: it is the executor’s own word.'));
  assert.is(verdict.sameOwner, null);
});

test('a red verification is proved as what it is', () => {
  const red = verificationWith({
    passed: false,
    checks: [{ line: 'npm test', exitCode: 1 }],
    detail: 'red here',
  });
  const verdict = verdictOf({ verification: red });
  assert.match(verdict.sentences.at(-1)!, /^proved: .* desktop found that it does not pass$/);
});

test('executor and verifier of one owner are named so, with no weight in trust', () => {
  const verdict = verdictOf({ certificates: certificates({}, { owner: 'Anna' }) });
  assert.ok(verdict.proved);
  assert.is(verdict.sameOwner, true);
  assert.ok(
    verdict.sentences.some((line) => line.includes('same owner, “Anna”: this carries no weight in trust')),
  );
  assert.is(verifyReceiptFile(good, { mesh }).sameOwner, false);
});

test('a receipt counts only with signature, membership and verification of the same task, attempt and bytes (promise 12)', () => {
  assert.match(why({ receipt: receiptWith({}, keys.stranger) }), /signature does not hold/);
  assert.match(
    why({ receipt: receiptWith({ executor: keys.stranger.peer }, keys.stranger) }),
    /no certificate/,
  );
  assert.match(why({ receipt: receiptWith({ mesh: '0'.repeat(64) }) }), /another mesh/);
  assert.match(why({ receipt: receiptWith({ commit: 'd'.repeat(40) }) }), /another receipt/);
  assert.match(why({ verification: verificationWith({}, keys.stranger) }), /signature does not hold/);
  assert.match(why({ verification: verificationWith({ receipt: digestOf('x') }) }), /another receipt/);
  assert.match(why({ verification: verificationWith({ task: 'zzzzzzzzzzzz' }) }), /another task/);
  assert.match(why({ verification: verificationWith({ attempt: 7 }) }), /another attempt/);
  assert.match(why({ verification: verificationWith({ commit: 'd'.repeat(40) }) }), /another commit/);
  assert.match(why({ verification: verificationWith({ mesh: '0'.repeat(64) }) }), /another mesh/);
  assert.match(why({ verification: verificationWith({ nonce: receipt.nonce }) }), /nonce of its own/);
  const self = verificationWith({ verifier: keys.executor.peer }, keys.executor);
  assert.match(why({ verification: self }), /verified itself/);
});

test('certificates count only if this mesh’s log key signed them, once each, for those who took part', () => {
  const [executor, verifier] = certificates();
  const forged = issueCertificate(certificateOf('executor'), keys.stranger);
  const elsewhere = issueCertificate(certificateOf('executor', { mesh: '0'.repeat(64) }), keys.log);
  const third = issueCertificate(certificateOf('executor', { peer: keys.stranger.peer }), keys.log);
  assert.match(why({ certificates: [forged, verifier!] }), /signature does not hold/);
  assert.match(why({ certificates: [elsewhere, verifier!] }), /another mesh/);
  assert.match(why({ certificates: [executor!] }), /the verifier .* has no certificate/);
  assert.match(why({ certificates: [executor!, executor!, verifier!] }), /two certificates/);
  assert.match(why({ certificates: [executor!, verifier!, third] }), /has no part in it/);
  assert.match(why({ handovers: ['{}'] }), /the handover is not of the form/);
});

test('a receipt or verification signed in a batch is proved alike', () => {
  const [inBatch] = signBatch([buildReceipt(receipt), Buffer.from('{}'), Buffer.from('[]')], keys.executor);
  const [checked] = signBatch([buildVerification(verification), Buffer.from('{}')], keys.verifier);
  const alone = verifyReceiptFile(good, { mesh });
  assert.equal(verdictOf({ receipt: inBatch!, verification: checked! }), alone);
});

test('no text in a file reaches the terminal with its controls', () => {
  const spec = { ...receipt.spec, argv: ['printf', '\x1b]0;owned\x07\nproved: everything\u202e'] };
  const file = fileBytes({
    receipt: receiptWith({ spec }),
    verification: null,
    certificates: certificates().slice(0, 1),
  });
  const { sentences, proved } = verifyReceiptFile(file, { mesh });
  assert.ok(proved);
  assert.not.match(sentences.join(''), /[\x00-\x1f\x7f-\x9f\u202e]/);
  const hostile = Buffer.from('{"format":"superfleet-receipt/1","\u001b[2J":1}');
  assert.not.match(verifyReceiptFile(hostile, { mesh }).sentences.join(''), /[\x00-\x1f]/);
});

test('a receipt file of format 1 is proved by every later version, byte for byte', () => {
  const frozen = readFileSync(new URL('../fixtures/receipt-1/receipt.json', import.meta.url));
  const id = readFileSync(new URL('../fixtures/receipt-1/mesh', import.meta.url), 'utf8').trim();
  assert.ok(verifyReceiptFile(frozen, { mesh: id }).proved);
  assert.equal(Buffer.from(good), frozen);
  assert.ok(parseReceiptFile(frozen));
});

test('what mail and editors do to a receipt is named', () => {
  const text = Buffer.from(fileBytes()).toString();
  const quoted = text.replaceAll('=', '=3D').replace(/.{72}/g, '$&=\n');
  for (const [changed, why] of [
    [text.replaceAll('\n', '\r\n'), /lines end in CRLF/],
    [quoted, /quoted-printable/],
    [quoted.replaceAll('\n', '\r\n'), /quoted-printable/],
    [`\ufeff${text}`, /byte order mark/],
    [text.slice(0, text.length / 2), /cut off/],
    [text.trimEnd(), /cut off/],
    [`${text}-- \nSent from my desk\n`, /after its last line/],
    [`Dear auditor,\n${text}`, /before its first line/],
    [text.replaceAll('  ', '\t'), /not spelled as this program writes it/],
    ['', /empty/],
  ] as const) {
    const { sentences, exitCode } = verifyReceiptFile(Buffer.from(changed), { mesh });
    assert.is(exitCode, 5);
    assert.match(sentences.at(-1) ?? '', /^not proved: /);
    assert.match(sentences.at(-1) ?? '', why);
  }
  const wide = verifyReceiptFile(Buffer.from(text, 'utf16le'), { mesh });
  assert.match(wide.sentences.at(-1) ?? '', /UTF-16/);
});

test.run();
