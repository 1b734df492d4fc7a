import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { findSnapshot } from '../../../ledger/snapshots/snapshot-find.ts';
import {
  MemorySnapshotStore,
  pruneSnapshots,
  type SnapshotStore,
  snapshotName,
  snapshotSize,
} from '../../../ledger/snapshots/snapshot-store.ts';
import { FileSnapshotStore } from '../../../ledger/snapshots/snapshot-store-file.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-snapshots-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const BACKENDS: { name: string; with(use: (store: SnapshotStore) => Promise<void>): Promise<void> }[] = [
  { name: 'memory', with: (use) => use(new MemorySnapshotStore()) },
  { name: 'files', with: (use) => inFolder((folder) => use(new FileSnapshotStore(join(folder, 'made')))) },
];

for (const backend of BACKENDS) {
  test(`${backend.name}: what was written is read, in place of what was there, until it is removed`, () =>
    backend.with(async (store) => {
      assert.equal(await store.list(), []);
      for (const size of [300, 20, 100]) await store.write(size, [`of ${size}`]);
      await store.write(100, ['anew']);
      assert.equal(await store.list(), [20, 100, 300]);
      assert.is(String(await store.read(100)), 'anew');
      await store.remove(100);
      await store.remove(100);
      assert.equal(await store.list(), [20, 300]);
      await store.read(100).then(
        () => assert.unreachable(),
        (error) => assert.is(error.code, 'ENOENT'),
      );
    }));

  test(`${backend.name}: two are kept, and none of a longer log`, () =>
    backend.with(async (store) => {
      for (const size of [10, 20, 30, 40]) await store.write(size, ['1']);
      await pruneSnapshots(store, 30);
      assert.equal(await store.list(), [20, 30]);
    }));
}

test('a file is its owner’s alone, and what a crash left of one is no snapshot and in nobody’s way', () =>
  inFolder(async (folder) => {
    const store = new FileSnapshotStore(folder);
    await store.write(5, ['five']);
    assert.is((await stat(join(folder, snapshotName(5)))).mode & 0o777, 0o600);
    for (const left of ['', 'half of a sna', 'the whole of it\n']) {
      await writeFile(join(folder, 'part'), left);
      assert.equal(await store.list(), [5]);
      await store.write(6, ['six']);
      assert.equal((await readdir(folder)).sort(), [snapshotName(5), snapshotName(6)]);
      assert.is(String(await store.read(6)), 'six');
      await store.remove(6);
    }
  }));

test('other names are no snapshots, and no snapshot is found where there is none', async () => {
  assert.is(snapshotSize('0000000000000030.snapshot'), 30);
  for (const name of ['part', '30.snapshot', '0000000000000030.snapshot~'])
    assert.is(snapshotSize(name), null);
  const nothing = await findSnapshot(new MemoryStorage(), new MemorySnapshotStore());
  assert.equal(nothing, { found: null, passedOver: [] });
});

test.run();
