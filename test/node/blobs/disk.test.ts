import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import {
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sha256Of } from '../../../node/blobs/digester.ts';
import { DiskBlobStore } from '../../../node/blobs/disk.ts';
import { FolderSync } from '../../../node/blobs/files.ts';
import { openSmallDatabase, type SmallDatabase } from '../../../node/blobs/small-database.ts';
import { blobIdOf } from '../../../protocol/manifest.ts';
import { all, blobStoreSuite, codeOf, content, fill, manifestOf } from './suite.ts';

const MiB = 1024 * 1024;
const disk = suite('disk');

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-blobs-'));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function flip(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = byte[0]! ^ 1;
  await file.write(byte, 0, 1, at);
  await file.close();
}

blobStoreSuite(disk, async (options) => {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-blobs-'));
  let small: SmallDatabase | null = null;
  const store = await DiskBlobStore.open(folder, {
    ...options,
    openSmall: async (at) => {
      small = await openSmallDatabase(at);
      return small;
    },
  });
  return {
    store,
    damage: async (blob, at) => {
      const path = store.path(blob);
      if (path !== null) return flip(path, at);
      const bytes = Buffer.from((await small!.get(blob))!);
      bytes[at]! ^= 1;
      await small!.batch([{ type: 'put', key: blob, value: bytes }], {});
    },
    close: async () => {
      await store.close();
      // Whatever a test did, nothing but half-received blobs may lie outside the blobs themselves.
      const left = (await readdir(join(folder, 'incoming'))).filter((name) => !name.endsWith('.part'));
      await rm(folder, { recursive: true });
      assert.equal(left, []);
    },
  };
});

disk('a store opened again holds and counts what it held', () =>
  inFolder(async (folder) => {
    const before = await DiskBlobStore.open(folder);
    const small = await before.put(content(10));
    const large = await before.put(content(3 * MiB));
    assert.is(await codeOf(DiskBlobStore.open(folder)), 'SF_LOCKED');
    await before.close();
    const after = await DiskBlobStore.open(folder);
    assert.is(after.usedBytes, before.usedBytes);
    assert.ok(Buffer.from(content(10)).equals(await all(after.read(small.blob))));
    assert.ok(Buffer.from(content(3 * MiB)).equals(await readFile(after.path(large.blob)!)));
    assert.is(after.path(small.blob), null);
    await after.close();
  }),
);

disk('what a crash left is cleared at open, and blobs are not', () =>
  inFolder(async (folder) => {
    const store = await DiskBlobStore.open(folder);
    const { blob } = await store.put(content(2 * MiB));
    await writeFile(join(folder, 'incoming', '7.put'), 'half a put');
    await writeFile(join(folder, 'incoming', 'x.part'), 'no blob id');
    await mkdir(join(folder, 'incoming', 'folder'));
    await writeFile(join(folder, 'manifests', 'b'.repeat(64)), 'a manifest without a blob');
    const again = await DiskBlobStore.open(folder);
    assert.equal(await readdir(join(folder, 'incoming')), []);
    assert.equal(await readdir(join(folder, 'manifests')), [blob]);
    assert.is(again.usedBytes, 2 * MiB);
    assert.ok(await again.has(blob));
  }),
);

disk('a transfer goes on after a restart from the chunks that are right, and an old one is dropped', () =>
  inFolder(async (folder) => {
    const bytes = content(4 * MiB + 9);
    const manifest = manifestOf(bytes);
    const blob = blobIdOf(manifest);
    const first = await (await DiskBlobStore.open(folder)).receive(blob, manifest);
    for (const index of [0, 2, 4]) await first.write(index, bytes.subarray(index * MiB, (index + 1) * MiB));
    const part = join(folder, 'incoming', `${blob}.part`);
    await flip(part, 2 * MiB + 3);

    const store = await DiskBlobStore.open(folder);
    assert.is(store.usedBytes, 4 * MiB + 4096);
    const second = await store.receive(blob, manifest);
    assert.equal(second.missing(), [1, 2, 3]);
    await fill(second, bytes);
    assert.equal(await second.finish(), { blob, bytes: bytes.length, sha256: sha256Of(bytes) });
    assert.is(store.usedBytes, 4 * MiB + 4096);
    assert.equal(await readdir(join(folder, 'incoming')), []);

    await store.delete(blob);
    await store.receive(blob, manifest);
    const twoDaysAgo = Date.now() / 1000 - 2 * 86_400;
    await utimes(part, twoDaysAgo, twoDaysAgo);
    assert.is((await DiskBlobStore.open(folder)).usedBytes, 0);
    assert.equal(await readdir(join(folder, 'incoming')), []);
  }),
);

disk('a part cut off by a crash begins anew', () =>
  inFolder(async (folder) => {
    const bytes = content(2 * MiB);
    const manifest = manifestOf(bytes);
    const blob = blobIdOf(manifest);
    await (await DiskBlobStore.open(folder)).receive(blob, manifest).then((one) => fill(one, bytes));
    await truncate(join(folder, 'incoming', `${blob}.part`), MiB);
    const store = await DiskBlobStore.open(folder);
    const receiver = await store.receive(blob, manifest);
    assert.equal(receiver.missing(), [0, 1]);
    await fill(receiver, bytes);
    await receiver.finish();
    assert.is(store.usedBytes, 2 * MiB);
  }),
);

disk('a manifest that is lost or damaged is made again from the content', () =>
  inFolder(async (folder) => {
    const bytes = content(3 * MiB);
    const { blob } = await (await DiskBlobStore.open(folder)).put(bytes);
    const path = join(folder, 'manifests', blob);
    for (const harm of [() => flip(path, 20), () => truncate(path, 10), () => rm(path)]) {
      await harm();
      const store = await DiskBlobStore.open(folder);
      assert.equal(await store.manifest(blob), manifestOf(bytes));
      assert.ok(Buffer.from(bytes).equals(await all(store.read(blob))));
    }
    await flip(join(folder, 'blobs', blob), 5);
    assert.is(await codeOf((await DiskBlobStore.open(folder)).manifest(blob)), 'SF_NOT_PROVED');
  }),
);

disk('a blob cut off on the disk is damaged, not shorter', () =>
  inFolder(async (folder) => {
    const store = await DiskBlobStore.open(folder);
    for (const [size, cut] of [
      [3 * MiB, 2 * MiB + 5],
      [3 * MiB, 100],
      [3 * MiB, 0],
    ] as const) {
      const { blob } = await store.put(content(size));
      await truncate(store.path(blob)!, cut);
      assert.is(
        await codeOf(all((await DiskBlobStore.open(folder)).read(blob))),
        'SF_NOT_PROVED',
        `${size} → ${cut}`,
      );
    }
  }),
);

disk('the same content put again heals a damaged copy', () =>
  inFolder(async (folder) => {
    const store = await DiskBlobStore.open(folder);
    const { blob } = await store.put(content(MiB));
    await flip(store.path(blob)!, 50);
    await store.put(content(MiB));
    assert.ok(Buffer.from(content(MiB)).equals(await all(store.read(blob))));
    assert.is(store.usedBytes, MiB);
  }),
);

disk('a symbolic link is never followed: not as a blob, not as a part, not as the store', () =>
  inFolder(async (folder) => {
    const store = await DiskBlobStore.open(join(folder, 'store'));
    const { blob } = await store.put(content(MiB));
    const outside = join(folder, 'outside');
    const path = store.path(blob)!;
    await rename(path, outside);
    await symlink(outside, path);
    assert.is(store.path(blob), null);
    assert.is(await store.has(blob), false);
    assert.is(await codeOf(store.chunk(blob, 0)), 'SF_NOT_FOUND');

    const bytes = content(2 * MiB);
    const manifest = manifestOf(bytes);
    await symlink(outside, join(folder, 'store', 'incoming', `${blobIdOf(manifest)}.part`));
    const receiver = await store.receive(blobIdOf(manifest), manifest);
    await fill(receiver, bytes);
    await receiver.finish();
    assert.ok(Buffer.from(content(MiB)).equals(await readFile(outside)));
    assert.ok((await lstat(store.path(blobIdOf(manifest))!)).isFile());

    execFileSync('mkfifo', [join(folder, 'store', 'blobs', 'c'.repeat(64))]);
    assert.is(await codeOf(store.chunk('c'.repeat(64), 0)), 'SF_NOT_FOUND');

    await mkdir(join(folder, 'other'));
    await symlink(join(folder, 'store', 'blobs'), join(folder, 'other', 'blobs'));
    assert.is(await codeOf(DiskBlobStore.open(join(folder, 'other'))), 'SF_FOLDER');
    await rm(join(folder, 'other', 'blobs'));
    await symlink(join(folder, 'store'), join(folder, 'other', 'small'));
    assert.is(await codeOf(DiskBlobStore.open(join(folder, 'other'))), 'SF_FOLDER');
  }),
);

disk('callers that come while a folder is synced wait for a sync that begins after they came', () =>
  inFolder(async (folder) => {
    const sync = new FolderSync(folder);
    const first = sync.sync();
    const second = sync.sync();
    const third = sync.sync();
    assert.is.not(first, second);
    assert.is(second, third);
    const order: string[] = [];
    await Promise.all([first.then(() => order.push('first')), second.then(() => order.push('second'))]);
    assert.equal(order, ['first', 'second']);
    await sync.sync();
  }),
);

/** A small file system of its own, in namespaces of its own: the child has it as its folder, and it goes with the child. */
const onSmallDisk = (script: string): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(
    'unshare',
    [
      '--user',
      '--map-root-user',
      '--mount',
      'sh',
      '-c',
      'mount -t tmpfs -o size=2m none /mnt && cd /mnt && exec "$0" --input-type=module -e "$1"',
      process.execPath,
      script,
    ],
    { encoding: 'utf8', timeout: 30_000 },
  );
const canMount = onSmallDisk('').status === 0;
if (!canMount) console.log('skipped: a file system of 2 MiB needs user namespaces');

(canMount ? disk : disk.skip)(
  'a full disk is SF_DISK_FULL, nothing of the blob stays, and the store serves on (promise 1)',
  () => {
    const here = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
    const { status, stdout, stderr } = onSmallDisk(`
    import { readdirSync } from 'node:fs';
    const { DiskBlobStore } = await import(${here('../../../node/blobs/disk.ts')});
    const { content, codeOf, manifestOf, fill, all } = await import(${here('./suite.ts')});
    const { blobIdOf } = await import(${here('../../../protocol/manifest.ts')});
    const store = await DiskBlobStore.open('/mnt/store');
    const small = await store.put(content(1000));
    const code = await codeOf(store.put(content(3 * 1024 * 1024)));
    const left = readdirSync('/mnt/store/incoming').length;
    const used = store.usedBytes;
    const bytes = content(4 * 1024 * 1024, 2);
    const receiver = await store.receive(blobIdOf(manifestOf(bytes)), manifestOf(bytes));
    const received = await codeOf(fill(receiver, bytes));
    await receiver.abandon();
    const next = await store.put(content(1024 * 1024, 3));
    const whole = (await all(store.read(small.blob))).length + (await all(store.read(next.blob))).length;
    console.log(JSON.stringify({ code, left, used, received, whole, parts: readdirSync('/mnt/store/incoming').length }));
  `);
    assert.is(status, 0, stderr);
    assert.equal(JSON.parse(stdout), {
      code: 'SF_DISK_FULL',
      left: 0,
      used: 4096,
      received: 'SF_DISK_FULL',
      whole: 1000 + MiB,
      parts: 0,
    });
  },
);

(canMount ? disk : disk.skip)(
  'on a full disk it is not opened, says how much room it needs, and has all once there is that; nothing is repaired before',
  () => {
    const here = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
    const { status, stdout, stderr } = onSmallDisk(`
    import { closeSync, openSync, readdirSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
    const { DiskBlobStore } = await import(${here('../../../node/blobs/disk.ts')});
    const { content } = await import(${here('./suite.ts')});
    const opened = () => DiskBlobStore.open('/mnt/store').then(
      async (store) => {
        const { usedBytes, repair } = store;
        const held = (await store.list()).length;
        await store.close();
        return { held, usedBytes, repair };
      },
      ({ code, expected, hint }) => ({ code, expected, hint }),
    );
    const store = await DiskBlobStore.open('/mnt/store');
    for (let n = 0; n < 100; n += 1) await store.put(content(2000, n));
    await store.close();
    const ballast = openSync('/mnt/ballast', 'w');
    try {
      for (;;) writeSync(ballast, Buffer.alloc(4096));
    } catch {}
    closeSync(ballast);
    const full = await opened();
    // A page, for the mark of what is to be repaired.
    truncateSync('/mnt/ballast', 1024 * 1024);
    writeFileSync('/mnt/store/small.damaged', '');
    const again = openSync('/mnt/ballast', 'a');
    try {
      for (;;) writeSync(again, Buffer.alloc(4096));
    } catch {}
    closeSync(again);
    const damaged = await opened();
    const lost = readdirSync('/mnt/store/small').filter((name) => name === 'lost');
    truncateSync('/mnt/ballast', 0);
    console.log(JSON.stringify({ full, damaged, lost, repaired: await opened(), whole: await opened() }));
  `);
    assert.is(status, 0, stderr);
    const { full, damaged, lost, ...later } = JSON.parse(stdout);
    for (const said of [full, damaged]) {
      assert.is(said.code, 'SF_DISK_FULL', stdout);
      assert.match(said.expected, /^room to open the store of blobs, about [1-9]\d{5} bytes$/);
      assert.match(said.hint, /^free some space/);
    }
    assert.equal(lost, []);
    const all = { held: 100, usedBytes: 100 * 4096 };
    assert.equal(later, {
      repaired: { ...all, repair: { kept: 100, lost: 0 } },
      whole: { ...all, repair: null },
    });
  },
);

disk.run();
