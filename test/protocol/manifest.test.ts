import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blobBytesMax, blobChunkBytes } from '../../protocol/limits.ts';
import { blobIdOf, decodeManifest, encodeManifest, manifestBytesMax } from '../../protocol/manifest.ts';
import { codeOf, digestOf } from './samples.ts';

test('a manifest comes back from its bytes, and the blob id is their SHA-256', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 20 * blobChunkBytes }), (bytes) => {
      const chunks = Array.from({ length: Math.ceil(bytes / blobChunkBytes) }, (_, index) =>
        digestOf(`${index}`),
      );
      const encoded = encodeManifest({ bytes, chunks });
      assert.equal(decodeManifest(encoded), { bytes, chunks });
      assert.is(blobIdOf({ bytes, chunks }), createHash('sha256').update(encoded).digest('hex'));
    }),
  );
});

test('bytes that are no manifest are refused, and the largest blob’s manifest fits its bound', () => {
  const good = encodeManifest({ bytes: 10, chunks: [digestOf('x')] });
  const large = Buffer.from(good);
  large.writeBigUInt64BE(2n ** 63n, 4);
  for (const bytes of [
    new Uint8Array(0),
    good.subarray(1),
    good.subarray(0, -1),
    Buffer.concat([good, good]),
    large,
  ]) {
    assert.is(
      codeOf(() => decodeManifest(bytes)),
      'SF_NOT_PROVED',
    );
  }
  const chunks = Array.from({ length: blobBytesMax / blobChunkBytes }, () => digestOf('x'));
  assert.is(encodeManifest({ bytes: blobBytesMax, chunks }).length, manifestBytesMax);
});

test.run();
