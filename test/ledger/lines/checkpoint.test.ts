import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  keyId,
  makeCheckpoint,
  parseCheckpoint,
  verifyCheckpoint,
} from '../../../ledger/lines/checkpoint.ts';
import { publicKeyToBase64 } from '../../../protocol/keys.ts';
import { KEY, OTHER_KEY } from '../kit.ts';

const MESH = 'ab'.repeat(32);
const ROOT = createHash('sha256').update('root').digest('hex');
const BY = { origin: MESH, publicKey: publicKeyToBase64(KEY.publicKey) };
const made = makeCheckpoint({ origin: MESH, size: 42, root: ROOT }, KEY);
const refusal = (code: string) => (error: { code?: string }) => error.code === code;

test('the text is a C2SP checkpoint: origin, size, base64 root, blank line, one signature', () => {
  const [origin, size, root, blank, signature, end] = made.text.split('\n');
  assert.equal(
    [origin, size, root, blank, end],
    [MESH, '42', Buffer.from(ROOT, 'hex').toString('base64'), '', ''],
  );
  assert.match(signature!, new RegExp(`^— ${MESH} [A-Za-z0-9+/]+=*$`));
});

test('the key id is that of the signed-note specification', () => {
  // The specification's own example key, and the one of the Go checksum database.
  const neumann = Buffer.from('ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW', 'base64').subarray(1);
  assert.is(keyId('PeterNeumann', neumann).toString('hex'), 'c74f20a3');
  const sum = Buffer.from('Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8', 'base64').subarray(1);
  assert.is(keyId('sum.golang.org', sum).toString('hex'), '033de0ae');
});

test('what was signed verifies and says what was said', () => {
  assert.equal(verifyCheckpoint(made.text, BY), { origin: MESH, size: 42, root: ROOT, text: made.text });
  assert.equal(parseCheckpoint(made.text), made);
});

test('sizes up to 2^53 - 1 go through, and none above', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (size) => {
      const checkpoint = makeCheckpoint({ origin: MESH, size, root: ROOT }, KEY);
      assert.is(verifyCheckpoint(checkpoint.text, BY).size, size);
    }),
    { numRuns: 50 },
  );
  assert.throws(
    () => parseCheckpoint(made.text.replace('\n42\n', '\n9007199254740992\n')),
    refusal('SF_NOT_PROVED'),
  );
  assert.throws(() => parseCheckpoint(made.text.replace('\n42\n', '\n042\n')), refusal('SF_NOT_PROVED'));
});

test('another key, another mesh, another size or root does not verify', () => {
  assert.throws(
    () => verifyCheckpoint(made.text, { ...BY, publicKey: publicKeyToBase64(OTHER_KEY.publicKey) }),
    refusal('SF_NOT_PROVED'),
  );
  assert.throws(
    () => verifyCheckpoint(made.text, { ...BY, origin: 'cd'.repeat(32) }),
    refusal('SF_NOT_PROVED'),
  );
  const other = makeCheckpoint({ origin: MESH, size: 42, root: MESH }, KEY).text.split('\n\n')[0];
  assert.throws(() => verifyCheckpoint(made.text.replace('\n42\n', '\n43\n'), BY), refusal('SF_NOT_PROVED'));
  assert.throws(
    () => verifyCheckpoint(`${other}\n\n${made.text.split('\n\n')[1]}`, BY),
    refusal('SF_NOT_PROVED'),
  );
});

test('every single flipped bit of a checkpoint is refused', () => {
  const bytes = Buffer.from(made.text);
  let refused = 0;
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    try {
      verifyCheckpoint(flipped.toString('utf8'), BY);
    } catch (error) {
      assert.is((error as { code: string }).code, 'SF_NOT_PROVED');
      refused += 1;
    }
  }
  assert.is(refused, bytes.length * 8);
});

test('signatures of witnesses beside the log key are passed over', () => {
  const witness = makeCheckpoint({ origin: MESH, size: 42, root: ROOT }, OTHER_KEY).text.split('\n\n')[1]!;
  const cosigned = `${made.text}${witness.replace(MESH, 'witness.example')}`;
  assert.is(verifyCheckpoint(cosigned, BY).size, 42);
});

test('what is no checkpoint is refused with what was expected', () => {
  const broken = [
    '',
    '\n\n',
    'a\nb\nc\n',
    made.text.slice(0, -1),
    `${made.text}\n`,
    made.text.replace('— ', '- '),
  ];
  for (const text of [...broken, made.text.replace('\n\n', '\n'), 'x'.repeat(5000)]) {
    assert.throws(() => parseCheckpoint(text), refusal('SF_NOT_PROVED'), JSON.stringify(text.slice(0, 40)));
  }
});

test.run();
