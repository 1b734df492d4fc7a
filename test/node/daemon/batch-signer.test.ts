import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BatchSigner } from '../../../node/daemon/batch-signer.ts';
import { signingKeyFromSeed } from '../../../protocol/keys.ts';
import { openStatement, statementBytesMax } from '../../../protocol/statement.ts';

const key = signingKeyFromSeed(Buffer.alloc(32, 5));
const statement = (n: number): Uint8Array => Buffer.from(`{"n":${n}}`);

test('statements of one turn share a signature, and each can be verified by itself', async () => {
  const signer = new BatchSigner(key);
  const signed = await Promise.all([0, 1, 2].map((n) => signer.sign(statement(n))));
  assert.is(new Set(signed.map(({ envelope }) => envelope.signatures[0]!.sig)).size, 1);
  for (const [n, one] of signed.entries()) {
    assert.equal(Buffer.from(openStatement(one, key.publicKey)), statement(n));
    const other = {
      ...one,
      batch: { ...one.batch, statement: Buffer.from(statement(7)).toString('base64') },
    };
    assert.throws(() => openStatement(other, key.publicKey), /not in the batch/);
  }
  const again = await signer.sign(statement(3));
  assert.equal(again.batch, { path: [], statement: null }, 'one that comes alone is signed alone');
});

test('a signature that held for one key is not taken for another’s', async () => {
  const signer = new BatchSigner(key);
  const [one] = await Promise.all([0, 1].map((n) => signer.sign(statement(n))));
  openStatement(one!, key.publicKey);
  const other = signingKeyFromSeed(Buffer.alloc(32, 6));
  assert.throws(() => openStatement(one!, other.publicKey), /does not hold/);
  const { envelope } = one!;
  const sig = Buffer.from(envelope.signatures[0]!.sig, 'base64');
  sig[3]! ^= 1;
  const changed = { keyid: key.peer, sig: sig.toString('base64') };
  const forged = { ...one!, envelope: { ...envelope, signatures: [changed] } };
  assert.throws(() => openStatement(forged, key.publicKey), /does not hold/);
});

test('a statement that is too large is refused, and the others of its turn are signed', async () => {
  const signer = new BatchSigner(key);
  const large = signer.sign(new Uint8Array(statementBytesMax + 1));
  const small = signer.sign(statement(1));
  let code = '';
  await large.catch((error) => (code = error.code));
  assert.is(code, 'SF_FULL');
  assert.equal(Buffer.from(openStatement(await small, key.publicKey)), statement(1));
});

test.run();
