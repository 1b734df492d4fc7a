import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { openFolder } from '../../node/folder.ts';
import { KEY, long, newLog, started } from './kit.ts';
import { Outside } from './outside.ts';

/** Set in the child that has a mount namespace of its own: the small disk is gone with it. */
const INSIDE = 'SUPERFLEET_TEST_SMALL_DISK';
const disk = process.env[INSIDE];

if (disk === undefined) {
  const can = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
  if (!can) {
    console.log(
      'skipped: no mount namespace can be made here (unshare -rm), so there is no small disk to fill',
    );
    test.skip('a real full disk is never acknowledged and loses nothing (promise 1)', () => undefined);
  } else {
    test('a real full disk is never acknowledged and loses nothing (promise 1)', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'superfleet-disk-'));
      try {
        const script = 'mount -t tmpfs -o size=1m,mode=0700 none "$1" && exec "$2" "$3"';
        execFileSync(
          'unshare',
          ['-rm', 'sh', '-c', script, 'sh', folder, process.execPath, import.meta.filename],
          {
            env: { ...process.env, [INSIDE]: folder },
            stdio: 'pipe',
          },
        );
      } catch (error) {
        assert.unreachable(String((error as { stdout?: Buffer }).stdout));
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  }
} else {
  test('filled up, freed, opened again', async () => {
    const outside = new Outside();
    const storage = new FileStorage(join(disk, 'log'));
    const ballast = join(disk, 'ballast');
    let log = await newLog(storage, { segmentBytes: 64 * 1024 });
    await writeFile(ballast, Buffer.alloc(200 * 1024));
    for (let round = 0; round < 3; round += 1) {
      let acknowledged = log.size;
      let refusal = '';
      for (let n = 0; refusal === ''; n += 1) {
        const append = outside.append(
          log,
          Array.from({ length: 20 }, () => long(n, 2000)),
          Date.now(),
        );
        await append.durable.then(
          (checkpoint) => {
            assert.ok(checkpoint.size > append.last);
            acknowledged = checkpoint.size;
          },
          (error) => (refusal = error.code),
        );
      }
      assert.is(refusal, 'SF_DISK_FULL');
      assert.is(log.size, acknowledged);
      assert.throws(() => log.append([started(1)], Date.now(), 1), /no room/);
      await log.close();
      outside.dies();
      // Read only it opens on the full disk, with all that was acknowledged.
      const full = await Log.open({ storage, key: null });
      assert.is(full.size, acknowledged);
      await outside.holds(full);
      await full.close();
      rmSync(ballast, { force: true });
      log = await Log.open({ storage, key: KEY, limits: { segmentBytes: 64 * 1024 } });
      assert.is(log.size, acknowledged);
      await outside.holds(log);
      await outside.append(log, [started(round)], Date.now()).durable;
      const { bavail, bsize } = await statfs(disk);
      await writeFile(ballast, Buffer.alloc(Math.max(0, Math.floor(bavail * 0.6) * bsize)));
    }
    await log.close();
    await rm(join(disk, 'log'), { recursive: true });
    await rm(ballast);
  });

  test('a torn tail is not cut while there is no room for its copy, however often it is tried, and no part of a copy stays', async () => {
    const folder = join(disk, 'torn');
    const ballast = join(disk, 'ballast');
    const storage = new FileStorage(folder);
    const log = await newLog(storage);
    await log.append([started(1)], Date.now(), 1).durable;
    await log.append(
      Array.from({ length: 40 }, (_, n) => long(n, 2000)),
      Date.now(),
      1,
    ).durable;
    await log.close();
    const path = storage.describe(0);
    await truncate(path, (await stat(path)).size - 100);
    const torn = await readFile(path);
    // Room for some of the copy, not for all of it.
    const { bavail, bsize } = await statfs(disk);
    await writeFile(ballast, Buffer.alloc((bavail - 4) * bsize));
    for (let start = 0; start < 120; start += 1) {
      await Log.open({ storage, key: KEY }).then(
        () => assert.unreachable(),
        (error) => assert.is(error.code, 'SF_DISK_FULL'),
      );
    }
    assert.equal(await readFile(path), torn);
    assert.equal(await readdir(folder), [basename(path)]);
    await rm(ballast);
    const again = await Log.open({ storage, key: KEY });
    assert.is(again.size, 2);
    assert.equal(await readFile(again.cut!.copy), torn.subarray(-again.cut!.bytes));
    await again.append([started(2)], Date.now(), 1).durable;
    await again.close();
    await rm(folder, { recursive: true });
  });

  test('a data folder on a full disk is refused with SF_DISK_FULL', async () => {
    const { bavail, bsize } = await statfs(disk);
    await writeFile(join(disk, 'rest'), Buffer.alloc(bavail * bsize)).catch(() => undefined);
    const refusal = await openFolder(join(disk, 'folder'), { create: true }).then(
      () => 'opened',
      (error) => error.code,
    );
    assert.is(refusal, 'SF_DISK_FULL');
  });
}

test.run();
