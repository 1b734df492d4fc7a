import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RandomPool } from '../../../node/daemon/random-pool.ts';
import { newNonce, newTaskId, nonce, taskId } from '../../../protocol/ids.ts';

test('no byte of a pool is given out twice, and what is asked for has its length', () => {
  const pool = new RandomPool();
  const taken = Array.from({ length: 4_000 }, (_, n) => pool.take([12, 16, 64, 1, 100][n % 5]!));
  const places = new Map<ArrayBufferLike, Set<number>>();
  for (const [n, bytes] of taken.entries()) {
    assert.is(bytes.byteLength, [12, 16, 64, 1, 100][n % 5]);
    const seen = places.get(bytes.buffer) ?? new Set();
    places.set(bytes.buffer, seen);
    for (let at = bytes.byteOffset; at < bytes.byteOffset + bytes.byteLength; at += 1) {
      assert.not(seen.has(at), `byte ${at} twice`);
      seen.add(at);
    }
  }
  assert.ok(places.size > 10);
});

test('what was taken is never changed by what is taken later', () => {
  const pool = new RandomPool();
  const taken = Array.from({ length: 2_000 }, () => pool.take(16));
  const said = taken.map((bytes) => Buffer.from(bytes).toString('hex'));
  for (let n = 0; n < 2_000; n += 1) pool.take(16).fill(0);
  assert.equal(
    taken.map((bytes) => Buffer.from(bytes).toString('hex')),
    said,
  );
});

test('ids and nonces made of it are of their form, and none comes again', () => {
  const pool = new RandomPool();
  const random = (length: number): Uint8Array => pool.take(length);
  const ids = Array.from({ length: 5_000 }, () => taskId.parse(newTaskId(random)));
  const nonces = Array.from({ length: 5_000 }, () => nonce.parse(newNonce(random)));
  assert.is(new Set(ids).size, ids.length);
  assert.is(new Set(nonces).size, nonces.length);
});

test.run();
