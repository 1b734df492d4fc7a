import fc from 'fast-check';
import type { Test } from 'uvu';
import * as assert from 'uvu/assert';
import { sha256Of } from '../../../node/blobs/digester.ts';
import type { BlobReceiver, BlobStore } from '../../../node/blobs/types.ts';
import { blobChunkBytes } from '../../../protocol/limits.ts';
import { blobIdOf } from '../../../protocol/manifest.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

export interface OpenedStore {
  store: BlobStore & { readonly usedBytes: number };
  /** Changes one byte of a blob as a failing disk would. */
  damage(blob: string, at: number): Promise<void>;
  close(): Promise<void>;
}
export type OpenStore = (options?: { bytesMax?: number }) => Promise<OpenedStore>;

/** Bytes that differ by seed and place, the same each time. */
export function content(bytes: number, seed = 1): Uint8Array {
  const made = new Uint8Array(bytes);
  let state = (seed * 2654435761) >>> 0;
  for (let at = 0; at < bytes; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    made[at] = state >>> 24;
  }
  return made;
}

export async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function all(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Uint8Array.from(Buffer.concat(parts));
}

export async function codeOf(promise: Promise<unknown>): Promise<string | null> {
  try {
    await promise;
    return null;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

const chunkOf = (bytes: Uint8Array, index: number): Uint8Array =>
  bytes.subarray(index * blobChunkBytes, (index + 1) * blobChunkBytes);

export const manifestOf = (bytes: Uint8Array) => {
  const count = Math.ceil(bytes.length / blobChunkBytes);
  return {
    bytes: bytes.length,
    chunks: Array.from({ length: count }, (_, index) => sha256Of(chunkOf(bytes, index))),
  };
};

export async function fill(receiver: BlobReceiver, bytes: Uint8Array): Promise<void> {
  for (const index of receiver.missing()) await receiver.write(index, chunkOf(bytes, index));
}

/** What every blob store promises. */
export function blobStoreSuite(test: Test, open: OpenStore): void {
  const promise = (
    name: string,
    run: (opened: OpenedStore) => Promise<void>,
    options?: { bytesMax?: number },
  ) =>
    test(name, async () => {
      const opened = await open(options);
      try {
        await run(opened);
      } finally {
        await opened.close();
      }
    });

  promise(
    'what was put is read back whole and by chunk, named by the digest of its manifest',
    async ({ store }) => {
      for (const size of [0, 1, KiB, MiB - 1, MiB, MiB + 1, 3 * MiB + 7]) {
        const bytes = content(size, size);
        const result = await store.put(bytes);
        const manifest = manifestOf(bytes);
        assert.equal(result, { blob: blobIdOf(manifest), bytes: size, sha256: sha256Of(bytes) });
        assert.ok(await store.has(result.blob));
        assert.equal(await store.manifest(result.blob), manifest);
        assert.ok(Buffer.from(bytes).equals(await all(store.read(result.blob))), `${size} bytes`);
        for (const index of manifest.chunks.keys()) {
          assert.ok(Buffer.from(chunkOf(bytes, index)).equals(await store.chunk(result.blob, index)));
        }
      }
    },
  );

  promise('a stream gives the same blob as its bytes, however it is cut', async ({ store }) => {
    const bytes = content(2 * MiB + 300);
    const whole = await store.put(bytes);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 999, max: 3 * MiB }), async (size) => {
        assert.equal(await store.put(pieces(bytes, size)), whole);
      }),
      { numRuns: 8 },
    );
  });

  promise('the same content put many times at once is held, and counted, once', async ({ store }) => {
    const bytes = content(5000);
    const results = await Promise.all(Array.from({ length: 20 }, () => store.put(bytes)));
    assert.is(new Set(results.map((result) => result.blob)).size, 1);
    assert.is(store.usedBytes, 8192);
    await store.put(bytes);
    assert.is(store.usedBytes, 8192);
  });

  promise('what is not there is said to be so', async ({ store }) => {
    const blob = 'a'.repeat(64);
    assert.is(await store.has(blob), false);
    assert.is(await store.manifest(blob), null);
    assert.is(await codeOf(store.chunk(blob, 0)), 'SF_NOT_FOUND');
    assert.is(await codeOf(all(store.read(blob))), 'SF_NOT_FOUND');
    await store.delete(blob);
    const { blob: held } = await store.put(content(10));
    for (const index of [-1, 1, 0.5]) assert.is(await codeOf(store.chunk(held, index)), 'SF_NOT_FOUND');
  });

  promise('nothing but a digest is taken for a blob’s name', async ({ store }) => {
    for (const name of ['', '../../etc/passwd', 'A'.repeat(64), `${'a'.repeat(64)}\n`, 'a'.repeat(63)]) {
      assert.is(await codeOf(store.has(name)), 'SF_USAGE');
      assert.is(await codeOf(store.chunk(name, 0)), 'SF_USAGE');
      assert.is(await codeOf(store.delete(name)), 'SF_USAGE');
    }
  });

  promise('every blob is listed, until it is deleted', async ({ store }) => {
    const [one, two] = [await store.put(Buffer.from('one')), await store.put(Buffer.from('two'))];
    assert.equal((await store.list()).sort(), [one.blob, two.blob].sort());
    await store.delete(one.blob);
    assert.equal(await store.list(), [two.blob]);
  });

  promise('a deleted blob is gone and its room is free', async ({ store }) => {
    const { blob } = await store.put(content(2 * MiB));
    await store.put(content(10));
    await store.delete(blob);
    assert.is(await store.has(blob), false);
    assert.is(store.usedBytes, 4096);
    await store.delete(blob);
    assert.is(store.usedBytes, 4096);
  });

  promise(
    'past the quota a put is refused with SF_FULL, nothing of it stays, and the rest is served',
    async ({ store }) => {
      const { blob } = await store.put(content(MiB));
      assert.is(await codeOf(store.put(content(MiB + 1))), 'SF_FULL');
      assert.is(await codeOf(store.put(pieces(content(4 * MiB), 64 * KiB))), 'SF_FULL');
      assert.is(
        await codeOf(store.receive(blobIdOf(manifestOf(content(4 * MiB))), manifestOf(content(4 * MiB)))),
        'SF_FULL',
      );
      assert.is(store.usedBytes, MiB);
      assert.ok(await store.has(blob));
      await store.put(content(MiB - 1, 3));
      assert.is(store.usedBytes, 2 * MiB);
      assert.is(await codeOf(store.put(content(1, 4))), 'SF_FULL');
      await store.delete(blob);
      await store.put(content(1, 4));
    },
    { bytesMax: 2 * MiB },
  );

  promise('a source that fails leaves nothing', async ({ store }) => {
    const failing = async function* () {
      yield content(100_000);
      throw new Error('the wire broke');
    };
    assert.match(String(await codeOf(store.put(failing()))), /the wire broke/);
    assert.is(store.usedBytes, 0);
  });

  promise(
    'damaged bytes are never handed out: the blob, the chunk and the place are named',
    async ({ store, damage }) => {
      const bytes = content(3 * MiB);
      const { blob } = await store.put(bytes);
      await damage(blob, MiB + 5);
      assert.ok(Buffer.from(chunkOf(bytes, 0)).equals(await store.chunk(blob, 0)));
      assert.is(await codeOf(store.chunk(blob, 1)), 'SF_NOT_PROVED');
      const message = await all(store.read(blob)).catch((error: Error) => error.message);
      assert.is(message, `blob ${blob}: chunk 1 is damaged`);

      const small = await store.put(content(300));
      await damage(small.blob, 299);
      assert.is(await codeOf(store.chunk(small.blob, 0)), 'SF_NOT_PROVED');
      assert.is(await codeOf(all(store.read(small.blob))), 'SF_NOT_PROVED');
    },
  );

  promise('a blob is received in any order and visible only when it is whole', async ({ store }) => {
    const bytes = content(3 * MiB + 100);
    const manifest = manifestOf(bytes);
    const blob = blobIdOf(manifest);
    const receiver = await store.receive(blob, manifest);
    assert.equal(receiver.missing(), [0, 1, 2, 3]);
    for (const index of [2, 0, 3]) await receiver.write(index, chunkOf(bytes, index));
    assert.equal(receiver.missing(), [1]);
    assert.is(await codeOf(receiver.finish()), 'SF_CONFLICT');
    assert.is(await store.has(blob), false);
    await receiver.write(1, chunkOf(bytes, 1));
    assert.equal(await receiver.finish(), { blob, bytes: bytes.length, sha256: sha256Of(bytes) });
    assert.ok(Buffer.from(bytes).equals(await all(store.read(blob))));
    assert.equal(await receiver.finish(), { blob, bytes: bytes.length, sha256: sha256Of(bytes) });
    await receiver.abandon();
    assert.ok(await store.has(blob));
  });

  promise('empty and small blobs are received too', async ({ store }) => {
    for (const size of [0, 1, 700]) {
      const bytes = content(size);
      const blob = blobIdOf(manifestOf(bytes));
      const receiver = await store.receive(blob, manifestOf(bytes));
      await fill(receiver, bytes);
      assert.is((await receiver.finish()).sha256, sha256Of(bytes));
      assert.ok(Buffer.from(bytes).equals(await all(store.read(blob))));
    }
  });

  promise('a chunk that is not the manifest’s is refused, and the transfer goes on', async ({ store }) => {
    const bytes = content(MiB + 100);
    const manifest = manifestOf(bytes);
    const receiver = await store.receive(blobIdOf(manifest), manifest);
    for (const [index, chunk] of [
      [0, chunkOf(bytes, 1)],
      [1, chunkOf(bytes, 0)],
      [1, content(100, 9)],
      [1, chunkOf(bytes, 1).subarray(1)],
      [0, new Uint8Array(0)],
    ] as const) {
      assert.is(await codeOf(receiver.write(index, chunk)), 'SF_NOT_PROVED');
    }
    assert.is(await codeOf(receiver.write(2, chunkOf(bytes, 1))), 'SF_NOT_FOUND');
    assert.equal(receiver.missing(), [0, 1]);
    await fill(receiver, bytes);
    assert.is((await receiver.finish()).sha256, sha256Of(bytes));
  });

  promise('a manifest that is not the blob’s is refused before a byte is stored', async ({ store }) => {
    const manifest = manifestOf(content(100));
    assert.is(await codeOf(store.receive('a'.repeat(64), manifest)), 'SF_NOT_PROVED');
    const short = { bytes: 5 * MiB, chunks: manifest.chunks };
    assert.is(await codeOf(store.receive(blobIdOf(short), short)), 'SF_NOT_PROVED');
    assert.is(store.usedBytes, 0);
  });

  promise('a transfer begun again goes on where it was', async ({ store }) => {
    const bytes = content(3 * MiB);
    const manifest = manifestOf(bytes);
    const first = await store.receive(blobIdOf(manifest), manifest);
    await first.write(1, chunkOf(bytes, 1));
    const second = await store.receive(blobIdOf(manifest), manifest);
    assert.equal(second.missing(), [0, 2]);
    await fill(second, bytes);
    await second.finish();
    assert.is(store.usedBytes, 3 * MiB);
  });

  promise(
    'two that receive one blob at once share it, and one that gives up takes nothing from the other',
    async ({ store }) => {
      const bytes = content(2 * MiB);
      const manifest = manifestOf(bytes);
      const blob = blobIdOf(manifest);
      const [one, two] = await Promise.all([store.receive(blob, manifest), store.receive(blob, manifest)]);
      await one.write(0, chunkOf(bytes, 0));
      await one.abandon();
      await one.abandon();
      await Promise.all([two.write(1, chunkOf(bytes, 1)), two.write(1, chunkOf(bytes, 1))]);
      const results = await Promise.all([two.finish(), two.finish()]);
      assert.equal(results[0], results[1]);
      assert.is(store.usedBytes, 2 * MiB);
      assert.ok(await store.has(blob));
    },
  );

  promise('an abandoned transfer leaves nothing and its room is free', async ({ store }) => {
    const bytes = content(2 * MiB);
    const manifest = manifestOf(bytes);
    const receiver = await store.receive(blobIdOf(manifest), manifest);
    await receiver.write(0, chunkOf(bytes, 0));
    assert.is(store.usedBytes, 2 * MiB);
    await receiver.abandon();
    assert.is(store.usedBytes, 0);
    const again = await store.receive(blobIdOf(manifest), manifest);
    assert.equal(again.missing(), [0, 1]);
    await again.abandon();
  });

  promise('a transfer begun while another of the same blob is given up is whole', async ({ store }) => {
    const bytes = content(2 * MiB);
    const manifest = manifestOf(bytes);
    const blob = blobIdOf(manifest);
    for (let round = 0; round < 10; round += 1) {
      const first = await store.receive(blob, manifest);
      await first.write(0, chunkOf(bytes, 0));
      const [, second] = await Promise.all([first.abandon(), store.receive(blob, manifest)]);
      await fill(second, bytes);
      assert.is((await second.finish()).sha256, sha256Of(bytes));
      await store.delete(blob);
      assert.is(store.usedBytes, 0);
    }
  });

  promise('a blob that came by another way while it was received is held once', async ({ store }) => {
    const bytes = content(2 * MiB);
    const manifest = manifestOf(bytes);
    const receiver = await store.receive(blobIdOf(manifest), manifest);
    await fill(receiver, bytes);
    await Promise.all([store.put(bytes), receiver.finish()]);
    assert.is(store.usedBytes, 2 * MiB);
    const held = await store.receive(blobIdOf(manifest), manifest);
    assert.equal(held.missing(), []);
    assert.is((await held.finish()).sha256, sha256Of(bytes));
    await held.abandon();
    assert.ok(await store.has(blobIdOf(manifest)));
  });
}
