/** What reaches the disk before a blob is acknowledged: the store runs on Node's own fs, watched. */
import fs, { readlinkSync } from 'node:fs';
import fsp from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DiskBlobStore as Store } from '../../../node/blobs/disk.ts';
import { blobIdOf } from '../../../protocol/manifest.ts';
import { codeOf, content, fill, manifestOf } from './suite.ts';

type SyncCallback = (error: NodeJS.ErrnoException | null) => void;
const events: string[] = [];
/** What a sync of this file or folder answers; undefined: the disk's own answer. */
let onSync: (path: string) => Promise<NodeJS.ErrnoException | null> | undefined = () => undefined;

const { fsync, renameSync } = fs;
const { rename } = fsp;
Object.assign(fs, {
  fsync: (fd: number, callback: SyncCallback) => {
    const path = readlinkSync(`/proc/self/fd/${fd}`);
    const done: SyncCallback = (error) => {
      events.push(`synced ${nameOf(path)}`);
      callback(error);
    };
    const answer = onSync(path);
    if (answer === undefined) fsync(fd, done);
    else void answer.then((error) => (error === null ? fsync(fd, done) : callback(error)));
  },
  renameSync: (from: string, to: string) => {
    renameSync(from, to);
    events.push(`renamed ${nameOf(from)} to ${nameOf(to)}`);
  },
});
Object.assign(fsp, {
  rename: async (from: string, to: string) => {
    await rename(from, to);
    events.push(`renamed ${nameOf(from)} to ${nameOf(to)}`);
  },
});
syncBuiltinESMExports();
const { DiskBlobStore } = await import('../../../node/blobs/disk.ts');

const nameOf = (path: string): string =>
  path.endsWith('/blobs')
    ? 'blobs/'
    : `${basename(dirname(path))}/${path.endsWith('.put') ? 'x.put' : basename(path)}`;

async function withStore(run: (store: Store) => Promise<void>): Promise<void> {
  const folder = fs.mkdtempSync(join(tmpdir(), 'superfleet-blobs-'));
  try {
    const store = await DiskBlobStore.open(folder);
    events.length = 0;
    await run(store);
  } finally {
    onSync = () => undefined;
    fs.rmSync(folder, { recursive: true });
  }
}

test('a blob is acknowledged only after its bytes were synced, then named, then the name synced (promise 1)', () =>
  withStore(async (store) => {
    const { blob } = await store.put(content(40_000));
    assert.equal(events, [
      'synced incoming/x.put',
      `renamed incoming/x.put to blobs/${blob}`,
      'synced blobs/',
    ]);

    const bytes = content(2_000_000);
    const manifest = manifestOf(bytes);
    const large = blobIdOf(manifest);
    const receiver = await store.receive(large, manifest);
    await fill(receiver, bytes);
    events.length = 0;
    await receiver.finish();
    assert.equal(events, [
      `synced incoming/${large}.part`,
      `renamed incoming/x.put to manifests/${large}`,
      `renamed incoming/${large}.part to blobs/${large}`,
      'synced blobs/',
    ]);
  }));

test('many puts at once share syncs of the folder, each one begun after the rename it covers', () =>
  withStore(async (store) => {
    const after: boolean[] = [];
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const { blob } = await store.put(content(40_000, index));
        const named = events.findIndex((event) => event.endsWith(`blobs/${blob}`));
        after.push(named !== -1 && events.slice(named).includes('synced blobs/'));
      }),
    );
    assert.ok(after.every(Boolean));
    const syncs = events.filter((event) => event === 'synced blobs/').length;
    assert.ok(syncs < 40, `${syncs} syncs for 40 puts`);
  }));

test('a blob whose name is not yet synced is not said to be held', () =>
  withStore(async (store) => {
    const bytes = content(40_000);
    const blob = blobIdOf(manifestOf(bytes));
    const gate = Promise.withResolvers<null>();
    const reached = Promise.withResolvers<void>();
    onSync = (path) => {
      if (!path.endsWith('/blobs')) return undefined;
      reached.resolve();
      return gate.promise;
    };
    const putting = store.put(bytes);
    await reached.promise;
    let answered = false;
    const has = store.has(blob).then((held) => {
      answered = true;
      return held;
    });
    await new Promise(setImmediate);
    assert.ok(store.path(blob));
    assert.not.ok(answered);
    gate.resolve(null);
    await putting;
    assert.ok(await has);
  }));

test('a sync that fails is never acknowledged, of the bytes or of the name, and nothing of the blob is seen (promise 1)', () =>
  withStore(async (store) => {
    for (const failing of ['.put', '/blobs']) {
      const error = Object.assign(new Error('the disk failed'), { code: 'EIO' });
      onSync = (path) => (path.endsWith(failing) ? Promise.resolve(error) : undefined);
      assert.is(await codeOf(store.put(content(40_000))), 'EIO');
      onSync = () => undefined;
      assert.is(await store.has(blobIdOf(manifestOf(content(40_000)))), false);
      assert.is(store.usedBytes, 0);
    }
    await store.put(content(40_000));
  }));

test.run();
