// limit: 120 s
/** Small blobs: the database beside the files, what shares a write, what a crash or a bad disk leaves of it. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DiskBlobStore, type DiskBlobStoreOptions } from '../../../node/blobs/disk.ts';
import { copySmall } from '../../../node/blobs/small-copy.ts';
import { openSmallDatabase, type SmallDatabase } from '../../../node/blobs/small-database.ts';
import { blobIdOf } from '../../../protocol/manifest.ts';
import { all, codeOf, content, manifestOf } from './suite.ts';

const idOf = (bytes: Uint8Array): string => blobIdOf(manifestOf(bytes));
const many = (count: number, bytes = 2000, from = 0): Uint8Array[] =>
  Array.from({ length: count }, (_, n) => content(bytes, from + n + 1));

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-small-'));
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function withStore(
  folder: string,
  run: (store: DiskBlobStore) => Promise<void>,
  options: DiskBlobStoreOptions = {},
): Promise<void> {
  const store = await DiskBlobStore.open(folder, options);
  try {
    await run(store);
  } finally {
    await store.close();
  }
}

interface Watched {
  /** Changes of each write but the counter, and whether it was synced. */
  writes: { changes: number; synced: boolean }[];
  /** A write begins when this is done. */
  gate(): Promise<void>;
  options: DiskBlobStoreOptions;
}

/** The real database, its writes seen. */
function watched(): Watched {
  const seen: Watched = {
    writes: [],
    gate: async () => {},
    options: {
      openSmall: async (folder) => {
        const db = await openSmallDatabase(folder);
        const batch = db.batch.bind(db) as (...of: unknown[]) => Promise<void>;
        const watchedBatch = async (changes: unknown[], options: { sync?: boolean }): Promise<void> => {
          await seen.gate();
          await batch(changes, options);
          seen.writes.push({ changes: changes.length - 1, synced: options.sync === true });
        };
        return Object.assign(db, { batch: watchedBatch }) as SmallDatabase;
      },
    },
  };
  return seen;
}

test('puts that come together share one synced write, and are acknowledged after it (promise 1)', () =>
  inFolder(async (folder) => {
    const seen = watched();
    await withStore(
      folder,
      async (store) => {
        await Promise.all(many(100).map((bytes) => store.put(bytes)));
        assert.equal(seen.writes, [{ changes: 100, synced: true }]);
        const gate = Promise.withResolvers<void>();
        seen.gate = () => gate.promise;
        const acknowledged: string[] = [];
        const first = store.put(content(10)).then(({ blob }) => acknowledged.push(blob));
        await new Promise(setImmediate);
        const rest = many(50, 300, 500).map((bytes) =>
          store.put(bytes).then(({ blob }) => acknowledged.push(blob)),
        );
        await new Promise(setImmediate);
        assert.equal(acknowledged, []);
        assert.is(await store.has(idOf(content(10))), false);
        gate.resolve();
        await Promise.all([first, ...rest]);
        assert.equal(
          seen.writes.slice(1).map(({ changes }) => changes),
          [1, 50],
        );
        assert.ok(seen.writes.every(({ synced }) => synced));
        assert.is(acknowledged.length, 51);
      },
      seen.options,
    );
  }));

test('where the database cannot be written, blobs are files from then on, and it is written again after a restart', () =>
  inFolder(async (folder) => {
    const seen = watched();
    await withStore(
      folder,
      async (store) => {
        const before = await store.put(content(1000));
        const [kept, gone] = [content(1000, 2), content(1000, 3)];
        seen.gate = () => Promise.reject(new Error('the disk failed'));
        const put = await Promise.all([store.put(kept), store.put(gone)]);
        seen.gate = async () => {};
        assert.equal(
          put.map(({ blob }) => blob),
          [idOf(kept), idOf(gone)],
        );
        await store.put(content(1000, 4));
        assert.is(seen.writes.length, 1, 'nothing follows a write that may have been cut short');
        await store.delete(idOf(gone));
        assert.is(await codeOf(store.delete(before.blob)), 'Error: the disk failed');
        assert.is(store.usedBytes, 3 * 4096);
        assert.is((await store.list()).length, 3);
        assert.ok(Buffer.from(kept).equals(await all(store.read(idOf(kept)))));
        assert.ok(store.path(idOf(kept)));
      },
      seen.options,
    );
    await withStore(folder, async (store) => {
      assert.equal([store.usedBytes, (await store.list()).length], [3 * 4096, 3]);
      assert.is(store.path((await store.put(content(1000, 5))).blob), null);
      await store.delete(idOf(content(1000)));
      assert.equal([store.usedBytes, (await store.list()).length], [3 * 4096, 3]);
    });
  }));

test('after a write failed, what is put and deleted at one time is there or not by what was asked for last', () =>
  inFolder(async (folder) => {
    const seen = watched();
    const [gone, kept, again, late] = many(4) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    await withStore(
      folder,
      async (store) => {
        await store.put(content(1000, 99));
        const gate = Promise.withResolvers<void>();
        gate.promise.catch(() => {});
        seen.gate = () => gate.promise;
        const under = [store.put(late)];
        await new Promise(setImmediate);
        const asked = [
          ...under,
          // One of the write that fails, the others of the batch after it.
          store.delete(idOf(late)),
          store.put(gone),
          store.delete(idOf(gone)),
          store.delete(idOf(kept)),
          store.put(kept),
          store.put(again),
          store.delete(idOf(again)),
          store.put(again),
        ];
        gate.reject(new Error('the disk failed'));
        await Promise.all(asked);
        const held = async (): Promise<boolean[]> =>
          Promise.all([gone, kept, again, late].map((bytes) => store.has(idOf(bytes))));
        assert.equal(await held(), [false, true, true, false]);
        assert.is(store.usedBytes, 3 * 4096);
        // And while a file is still being written.
        await Promise.all([store.put(gone), store.delete(idOf(gone)), store.delete(idOf(kept))]);
        assert.equal(await held(), [false, false, true, false]);
        assert.is(store.usedBytes, 2 * 4096);
      },
      seen.options,
    );
    assert.equal(readdirSync(join(folder, 'blobs')), [idOf(again)]);
    assert.equal(readdirSync(join(folder, 'incoming')), []);
  }));

test('what it counts is the same after a restart, through puts, puts again and deletions in one write', () =>
  inFolder(async (folder) => {
    let used = 0;
    await withStore(folder, async (store) => {
      const [one, two, large] = [content(10), content(20), content(9000)];
      await store.put(one);
      const { blob } = await store.put(large);
      assert.is(store.usedBytes, 4096 + 3 * 4096);
      await Promise.all([
        store.put(two),
        store.put(two),
        store.put(one),
        store.delete(blob),
        store.put(large),
      ]);
      assert.is(store.usedBytes, 5 * 4096);
      await Promise.all([store.delete(idOf(two)), store.delete(idOf(two)), store.delete('a'.repeat(64))]);
      used = store.usedBytes;
      assert.is(used, 4 * 4096);
    });
    const closed = await DiskBlobStore.open(folder);
    await closed.close();
    assert.is(await codeOf(closed.put(content(10))), 'SF_UNREACHABLE');
    await withStore(
      folder,
      async (store) => {
        assert.is(store.usedBytes, used);
        assert.is(store.repair, null);
        assert.is(await codeOf(store.put(content(5, 9))), 'SF_FULL');
        await store.delete(idOf(content(10)));
        await store.put(content(5, 9));
        assert.is(store.usedBytes, used);
      },
      { bytesMax: 4 * 4096 },
    );
  }));

test('small files of an older release are read, checked, healed and deleted as before', () =>
  inFolder(async (folder) => {
    await withStore(folder, async () => {});
    const [sound, cut, changed] = [content(500), content(600), content(700)];
    for (const bytes of [sound, cut, changed]) writeFileSync(join(folder, 'blobs', idOf(bytes)), bytes);
    truncateSync(join(folder, 'blobs', idOf(cut)), 599);
    writeFileSync(join(folder, 'blobs', idOf(changed)), content(700, 2));
    await withStore(folder, async (store) => {
      assert.is(store.usedBytes, 3 * 4096);
      assert.ok(Buffer.from(sound).equals(await all(store.read(idOf(sound)))));
      assert.equal(await store.manifest(idOf(sound)), manifestOf(sound));
      for (const bytes of [cut, changed]) {
        assert.is(await codeOf(all(store.read(idOf(bytes)))), 'SF_NOT_PROVED');
        await store.put(bytes);
        assert.ok(Buffer.from(bytes).equals(await all(store.read(idOf(bytes)))));
      }
      assert.equal((await store.list()).sort(), [sound, cut, changed].map(idOf).sort());
      for (const blob of await store.list()) await store.delete(blob);
      assert.equal([await store.list(), store.usedBytes], [[], 0]);
    });
    assert.equal(await readdir(join(folder, 'blobs')), []);
  }));

test('killed in the middle of a thousand puts: what was acknowledged is there, and what is there is whole (promise 1)', () =>
  inFolder(async (folder) => {
    const here = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
    const script = `
      import { writeSync } from 'node:fs';
      const { DiskBlobStore } = await import(${here('../../../node/blobs/disk.ts')});
      const { content } = await import(${here('./suite.ts')});
      const store = await DiskBlobStore.open(${JSON.stringify(folder)});
      // Who reads may be slower than this.
      const say = (line) => {
        for (;;) {
          try {
            return writeSync(1, line);
          } catch (error) {
            if (error.code !== 'EAGAIN') throw error;
          }
        }
      };
      for (let n = 0; ; n += 50)
        await Promise.all(Array.from({ length: 50 }, (_, i) =>
          store.put(content(1 + ((n + i) * 7919) % 5000, n + i)).then(({ blob }) => say(blob + '\\n'))));
    `;
    const acknowledged = new Set<string>();
    for (const enough of [500, 1500]) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exit = once(child, 'exit');
      for await (const line of createInterface({ input: child.stdout })) {
        if (line.length === 64) acknowledged.add(line);
        if (acknowledged.size >= enough) child.kill('SIGKILL');
      }
      await exit;
      assert.is(child.signalCode, 'SIGKILL');
      await withStore(folder, async (store) => {
        const held = await store.list();
        const lacking = [...acknowledged].filter((blob) => !held.includes(blob));
        assert.equal(lacking, []);
        let charged = 0;
        for (const blob of held)
          charged += Math.max(4096, Math.ceil((await all(store.read(blob))).length / 4096) * 4096);
        assert.is(store.usedBytes, charged);
        assert.is(store.repair, null);
      });
    }
  }));

/** Files of the database whose name ends so. */
const filesOf = (folder: string, end: string): string[] =>
  readdirSync(join(folder, 'small'))
    .filter((name) => name.endsWith(end))
    .map((name) => join(folder, 'small', name));

async function overwrite(path: string, at: number, bytes: number): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(bytes, 0x41), 0, bytes, at);
  await file.close();
}

/** A database with tables: they are made when it is opened again. */
async function withTables(folder: string, blobs: Uint8Array[]): Promise<void> {
  await withStore(folder, async (store) => {
    await Promise.all(blobs.map((bytes) => store.put(bytes)));
  });
  await withStore(folder, async () => {});
  assert.ok(filesOf(folder, '.ldb').length > 0);
}

async function readable(store: DiskBlobStore, blobs: readonly Uint8Array[]): Promise<number> {
  let sound = 0;
  for (const bytes of blobs) {
    const code = await codeOf(
      all(store.read(idOf(bytes))).then((read) => assert.ok(Buffer.from(bytes).equals(read))),
    );
    if (code === null) sound += 1;
    else assert.ok(['SF_NOT_PROVED', 'SF_NOT_FOUND'].includes(code), code);
  }
  return sound;
}

test('a table overwritten: what it held there is damaged, the rest is served, and the next start repairs it and says so', () =>
  inFolder(async (folder) => {
    const blobs = many(1000);
    await withTables(folder, blobs);
    await overwrite(filesOf(folder, '.ldb')[0]!, 200_000, 50_000);
    let sound = 0;
    await withStore(folder, async (store) => {
      assert.is(store.repair, null, 'nobody has read it');
      sound = await readable(store, blobs);
      assert.ok(sound >= 900 && sound < 1000, `${sound}`);
      await store.put(content(100, 5000));
    });
    await withStore(folder, async (store) => {
      assert.equal(store.repair, { kept: sound + 1, lost: 1000 - sound });
      assert.is(await readable(store, blobs), sound);
      assert.is(store.usedBytes, (sound + 1) * 4096);
      // What is put again is whole again.
      await Promise.all(blobs.map((bytes) => store.put(bytes)));
      assert.is(await readable(store, blobs), 1000);
      assert.is(store.usedBytes, 1001 * 4096);
    });
    await withStore(folder, async (store) => assert.is(store.repair, null));
  }));

test('a damaged one is received again from another machine, and is whole from then on', () =>
  inFolder(async (folder) => {
    const blobs = many(1000);
    await withTables(folder, blobs);
    await overwrite(filesOf(folder, '.ldb')[0]!, 200_000, 1);
    await withStore(folder, async (store) => {
      assert.ok((await readable(store, blobs)) < 1000);
      for (const bytes of blobs) {
        const receiver = await store.receive(idOf(bytes), manifestOf(bytes));
        for (const index of receiver.missing()) await receiver.write(index, bytes);
        assert.is((await receiver.finish()).blob, idOf(bytes));
      }
      assert.is(await readable(store, blobs), 1000);
    });
  }));

test('a database with any of its files cut off or gone opens, gives nothing that is not whole, and takes blobs', () =>
  inFolder(async (folder) => {
    const blobs = many(300);
    for (const [what, harm] of [
      ['a table cut off', () => filesOf(folder, '.ldb').map((path) => truncateSync(path, 1000))],
      ['the tables gone', () => filesOf(folder, '.ldb').map((path) => rmSync(path))],
      ['the log cut off', () => truncateSync(filesOf(folder, '.log')[0]!, 100_000)],
      ['the log overwritten', () => overwrite(filesOf(folder, '.log')[0]!, 100_000, 100)],
      ['CURRENT empty', () => truncateSync(join(folder, 'small', 'CURRENT'))],
      ['CURRENT gone', () => rmSync(join(folder, 'small', 'CURRENT'))],
      ['the manifest gone', () => rmSync(filesOf(folder, '').find((path) => path.includes('MANIFEST'))!)],
      [
        'the manifest cut off',
        () => truncateSync(filesOf(folder, '').find((path) => path.includes('MANIFEST'))!, 20),
      ],
    ] as const) {
      rmSync(join(folder, 'small'), { recursive: true, force: true });
      await withTables(folder, blobs.slice(0, 150));
      await withStore(folder, async (store) => {
        await Promise.all(blobs.slice(150).map((bytes) => store.put(bytes)));
      });
      await harm();
      let sound = 0;
      await withStore(folder, async (store) => {
        sound = await readable(store, blobs);
        if (/CURRENT|manifest/.test(what)) assert.equal([sound, store.repair?.kept], [300, 300], what);
        else assert.ok(sound >= 50 && sound < 300, `${what}: ${sound}`);
        // LevelDB takes it for the end of what was ever written.
        if (what === 'the log cut off') assert.equal(store.repair, { kept: sound, lost: 300 - sound });
        await Promise.all(many(10, 50, 9000).map((bytes) => store.put(bytes)));
      });
      await withStore(folder, async (store) => {
        assert.is(await readable(store, blobs), sound, what);
        assert.is(await readable(store, many(10, 50, 9000)), 10, what);
        assert.not.ok(existsSync(join(folder, 'small.damaged')), what);
      });
    }
  }));

test('what was killed tells of no loss at its next start, and one whose database is gone does', () =>
  inFolder(async (folder) => {
    const small = (name: string): string => join(folder, `small${name}`);
    await withStore(folder, async (store) => {
      await Promise.all(many(20).map((bytes) => store.put(bytes)));
    });
    assert.ok(existsSync(small('.closed')));
    await withStore(folder, async (store) => {
      assert.is(store.repair, null);
      assert.is(existsSync(small('.closed')), false, 'what it holds from now on is more or less');
      await store.put(content(99));
      // As a kill leaves it: what was noted before says nothing any more.
      cpSync(small(''), join(folder, 'killed', 'small'), { recursive: true });
    });
    for (const part of ['blobs', 'manifests', 'incoming']) mkdirSync(join(folder, 'killed', part));
    await withStore(join(folder, 'killed'), async (store) => {
      assert.equal([store.repair, (await store.list()).length], [null, 21]);
    });
    rmSync(small(''), { recursive: true });
    await withStore(folder, async (store) => assert.equal(store.repair, { kept: 0, lost: 21 }));
    await withStore(folder, async (store) => assert.is(store.repair, null));
  }));

test('a copy for a backup, taken while thousands of blobs are put, holds all that were acknowledged before', () =>
  inFolder(async (folder) => {
    await withStore(folder, async (store) => {
      const acknowledged: string[] = [];
      let putting = true;
      // A copy that takes long on a busy machine must not be given ever more to copy.
      let room = 0;
      let round = Promise.withResolvers<void>();
      const put = async (): Promise<void> => {
        while (putting) {
          if (acknowledged.length >= room) await new Promise(setImmediate);
          else
            for (const { blob } of await Promise.all(
              Array.from({ length: 50 }, () => store.put(randomBytes(16_000))),
            ))
              acknowledged.push(blob);
          round.resolve();
          round = Promise.withResolvers<void>();
        }
      };
      const work = put();
      try {
        for (const copies of [100, 800, 1500]) {
          room = copies + 2_000;
          while (acknowledged.length < copies) await round.promise;
          const before = [...acknowledged];
          const copy = await copySmall(join(folder, 'small'), join(folder, 'copy'));
          try {
            assert.equal(
              before.filter((blob) => !copy!.blobs.has(blob)),
              [],
            );
            for (const blob of before.slice(-20)) assert.is(idOf(await copy!.read(blob)), blob);
          } finally {
            await copy!.close();
          }
          assert.not.ok(existsSync(join(folder, 'copy')));
        }
      } finally {
        putting = false;
        await work;
      }
      assert.ok(filesOf(folder, '.ldb').length > 1, 'tables came and went meanwhile');
      assert.ok(statSync(join(folder, 'small')).isDirectory());
    });
    assert.is(await copySmall(join(folder, 'none'), join(folder, 'copy')), null);
  }));

test.run();
