import { generateKeyPairFromSeed, publicKeyFromRaw } from '@libp2p/crypto/keys';
import { peerIdFromPublicKey as libp2pPeerId, peerIdFromString } from '@libp2p/peer-id';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  newSigningKey,
  peerIdFromPublicKey,
  publicKeyFromBase64,
  publicKeyFromPeerId,
  publicKeyObject,
  publicKeyToBase64,
  rawPublicKey,
  signingKeyFromSeed,
} from '../../protocol/keys.ts';
import { codeOf, keys } from './samples.ts';

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });

test('a peer id is what libp2p makes of the same key, and gives the key back', () => {
  fc.assert(
    fc.property(bytes32, (raw) => {
      const peer = peerIdFromPublicKey(raw);
      assert.is(peer, libp2pPeerId(publicKeyFromRaw(raw)).toString());
      assert.equal(publicKeyFromPeerId(peer), raw);
      assert.equal(publicKeyFromPeerId(peer), peerIdFromString(peer).publicKey?.raw);
    }),
  );
});

test('a seed gives the key pair that libp2p makes of it', async () => {
  for (let n = 0; n < 10; n += 1) {
    const key = newSigningKey((length) => new Uint8Array(length).fill(n));
    const theirs = await generateKeyPairFromSeed('Ed25519', key.seed);
    assert.equal(key.publicKey, theirs.publicKey.raw);
  }
});

test('a public key passes through KeyObject and base64 unchanged', () => {
  fc.assert(
    fc.property(bytes32, (seed) => {
      const { publicKey, privateKey, peer } = signingKeyFromSeed(seed);
      assert.equal(rawPublicKey(publicKeyObject(publicKey)), publicKey);
      assert.equal(rawPublicKey(privateKey), publicKey);
      assert.equal(publicKeyFromBase64(publicKeyToBase64(publicKey)), publicKey);
      assert.is(peerIdFromPublicKey(publicKey), peer);
    }),
    { numRuns: 30 },
  );
});

test('text that is no Ed25519 peer id is refused and named', () => {
  const rsa = 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N';
  for (const text of [
    '',
    '12D3KooW',
    `${keys.log.peer}1`,
    keys.log.peer.replace(/.$/, '0'),
    rsa,
    '1'.repeat(52),
  ]) {
    assert.is(
      codeOf(() => publicKeyFromPeerId(text)),
      'SF_USAGE',
      text,
    );
  }
  assert.is(
    codeOf(() => publicKeyFromBase64(`${publicKeyToBase64(keys.log.publicKey)}\n`)),
    'SF_NOT_PROVED',
  );
});

test('a key of small order, under which anyone can sign, is refused', () => {
  const zero = new Uint8Array(32);
  const one = Uint8Array.from([1, ...new Uint8Array(31)]);
  const signBit = Uint8Array.from([1, ...new Uint8Array(30), 0x80]);
  for (const raw of [zero, one, signBit])
    assert.is(
      codeOf(() => publicKeyObject(raw)),
      'SF_NOT_PROVED',
    );
});

test.run();
