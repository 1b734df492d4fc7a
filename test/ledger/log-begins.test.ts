import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Beginning, gatherBeginning, joinBeginning, openBase } from '../../ledger/log/beginning.ts';
import { fileBeginning } from '../../ledger/log/beginning-file.ts';
import { Log } from '../../ledger/log/log.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import { restart } from '../../ledger/log/restart.ts';
import { scrubLog } from '../../ledger/log/scrub.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { testimonyOf } from '../../ledger/proofs/witness.ts';
import { makeSnapshot } from '../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';
import { KEY, newLog } from './kit.ts';
import { afterCrash, type MemoryCopy, memoryCopy } from './memory-beginning.ts';

const TIME = 1_700_000_000_000;
const limits = { segmentBytes: 4_000 };
const paused = { type: 'mesh.paused', body: { by: { kind: 'local', user: 'ada', claimed: true } } } as const;

/** A log of 61 entries and the snapshot of its first 41, which entry 41 names. */
async function source(): Promise<{ log: Log; file: Buffer; size: number }> {
  const storage = new MemoryStorage();
  const store = new MemorySnapshotStore();
  const log = await newLog(storage, limits);
  for (let n = 0; n < 20; n += 1) await log.append([paused, paused], TIME + n, 1).durable;
  const { size, meshId: mesh } = log;
  const body = await makeSnapshot({ storage, store, mesh, size });
  await log.append([{ type: 'log.snapshot', body }], TIME + 30, 1).durable;
  for (let n = 0; n < 19; n += 1) await log.append([paused], TIME + 40 + n, 1).durable;
  return { log, file: store.files.get(size)!, size };
}

async function put(beginning: Beginning, file: Buffer, size: number): Promise<void> {
  const incoming = await beginning.base.receive();
  for (let at = 0; at < file.length; at += 1000) await incoming.append(file.subarray(at, at + 1000));
  assert.equal(await incoming.read(), file);
  await incoming.keep(size);
}

async function openCopy(storage: LogStorage, beginning: Beginning, mesh: string): Promise<LogCopy> {
  const begins = (await openBase(beginning.base, mesh))?.chain ?? null;
  return LogCopy.open({ storage, mesh, begins, ...limits });
}

const code = async (asked: Promise<unknown>): Promise<[string, string]> => {
  try {
    await asked;
  } catch (error) {
    const { code: found, message } = error as SuperfleetError;
    return [found, message];
  }
  return ['none', ''];
};

const places = [
  {
    name: 'memory',
    make: async () => {
      const { storage, beginning } = memoryCopy();
      return { storage: storage as LogStorage, beginning, remove: async () => {} };
    },
  },
  {
    name: 'files',
    make: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'superfleet-begin-'));
      const path = join(folder, 'log');
      return {
        storage: new FileStorage(path),
        beginning: fileBeginning(path),
        remove: () => rm(folder, { recursive: true }),
      };
    },
  },
];

for (const { name, make } of places) {
  test(`${name}: a log that begins at a snapshot is followed, read, verified, and becomes whole`, async () => {
    const { log, file, size } = await source();
    const { storage, beginning, remove } = await make();
    await put(beginning, file, size);
    const mesh = log.meshId;
    const empty = await openCopy(storage, beginning, mesh);
    assert.equal([empty.first, empty.size], [size, size], 'it is there before its first entry');
    assert.is((await empty.checkpointAt(size))!.text, (await log.checkpointAt(size))!.text);
    for await (const { bytes } of log.raw(size, 500)) await empty.take(bytes);
    await empty.close();

    const copy = await openCopy(storage, beginning, mesh);
    assert.equal([copy.first, copy.size, copy.checkpoint.root], [size, log.size, log.checkpoint.root]);
    assert.equal((await copy.read(size, 100)).length, log.size - size);
    assert.is(await copy.line(size), await log.line(size));
    assert.is(await copy.checkpointAt(size - 2), null);
    // What a member saw that slept since then contradicts nothing.
    const old = (await log.checkpointAt(size - 2))!;
    assert.is((await testimonyOf(copy, old.text)).kind, 'same');
    const words = ['SF_NOT_FOUND', `entries before ${size} are still being fetched`];
    const asked = [
      copy.read(size - 1, 1),
      copy.line(0),
      copy.entries().next(),
      copy.leaves().next(),
      copy.batches(0).next(),
      copy.raw(0, 1000).next(),
      copy.export().next(),
    ];
    for (const each of asked) assert.equal(await code(each), words);

    const { chain } = (await openBase(beginning.base))!;
    const report = await verifyLog(storage, { begins: chain });
    assert.equal([report.from, report.size, report.root], [size, log.size, log.checkpoint.root]);
    const scrubbed = await scrubLog(storage, {
      begins: chain,
      checkpoint: copy.checkpoint,
      bytesPerSecond: null,
    });
    assert.equal([scrubbed.from, scrubbed.size], [size, log.size]);
    assert.is((await code(verifyLog(storage)))[0], 'SF_LOG_DAMAGED', 'nothing vouches for where it begins');
    assert.is((await code(Log.open({ storage, key: KEY })))[0], 'SF_LOG_DAMAGED');

    let before: LogCopy | null = null;
    for await (const { bytes } of log.raw(0, 700, size)) {
      if (before !== null) await before.take(bytes);
      else before = await LogCopy.create({ storage: beginning.segments, mesh, ...limits }, bytes);
    }
    assert.equal([before!.size, before!.checkpoint.root], [size, chain.checkpoint!.root]);
    await before!.close();
    await joinBeginning(storage, beginning, size);
    copy.joined(before!);
    assert.equal([copy.first, copy.begins], [0, null]);
    assert.equal((await copy.read(0, 100)).length, log.size);
    assert.is(await copy.line(3), await log.line(3));
    await copy.close();
    assert.equal((await verifyLog(storage)).root, log.checkpoint.root);
    const whole = await openCopy(storage, beginning, mesh);
    assert.is(whole.first, 0);
    await whole.close();
    await log.close();
    await remove();
  });
}

test('a crash at any step of the joining leaves a log that opens: still without its beginning, or whole', async () => {
  const { log, file, size } = await source();
  const mesh = log.meshId;
  const fill = async (copy: MemoryCopy): Promise<void> => {
    await put(copy.beginning, file, size);
    const made = await openCopy(copy.storage, copy.beginning, mesh);
    for await (const { bytes } of log.raw(size, 500)) await made.take(bytes);
    await made.close();
    let before: LogCopy | null = null;
    for await (const { bytes } of log.raw(0, 700, size)) {
      if (before !== null) await before.take(bytes);
      else before = await LogCopy.create({ storage: copy.segments, mesh, ...limits }, bytes);
    }
    await before!.close();
  };
  let steps = 0;
  const counted = memoryCopy(async () => {
    steps += 1;
  });
  await fill(counted);
  steps = 0;
  await joinBeginning(counted.storage, counted.beginning, size);
  assert.ok(steps > 2, 'several segments were moved');
  for (let stop = 1; stop <= steps + 1; stop += 1) {
    let done = -1;
    const reached = Promise.withResolvers<void>();
    const crashing = memoryCopy((): Promise<void> => {
      if (done >= 0) done += 1;
      if (done < stop) return Promise.resolve();
      reached.resolve();
      return new Promise(() => {});
    });
    await fill(crashing);
    done = 0;
    await Promise.race([joinBeginning(crashing.storage, crashing.beginning, size), reached.promise]);
    const left = afterCrash(crashing);
    const opened = await openCopy(left.storage, left.beginning, mesh);
    assert.equal([opened.first, opened.size], [stop > steps ? 0 : size, log.size], `stopped at step ${stop}`);
    await opened.close();
    if (opened.first === 0) continue;
    await gatherBeginning(left.storage, left.beginning, size);
    const again = await LogCopy.open({ storage: left.segments, mesh, ...limits });
    assert.is(again.size, size);
    await again.close();
    await joinBeginning(left.storage, left.beginning, size);
    assert.is((await verifyLog(left.storage)).root, log.checkpoint.root);
  }
  await log.close();
});

test('a log that goes on at a snapshot far ahead is the same object, and keeps what it had as its beginning', async () => {
  const { log, file, size } = await source();
  const mesh = log.meshId;
  const { storage, segments, beginning } = memoryCopy();
  const first = await log.raw(0, 1, 5).next();
  const copy = await LogCopy.create({ storage, mesh, ...limits }, (first.value as { bytes: Buffer }).bytes);
  const had = copy.size;
  await put(beginning, file, size);
  const { chain } = (await openBase(beginning.base, mesh))!;
  await copy.beginAt(chain, () => gatherBeginning(storage, beginning, size));
  assert.equal([copy.first, copy.size], [size, size]);
  for await (const { bytes } of log.raw(size, 500)) await copy.take(bytes);
  assert.is(copy.checkpoint.text, log.checkpoint.text);
  await copy.close();
  const kept = await LogCopy.open({ storage: segments, mesh, ...limits });
  assert.is(kept.size, had);
  await kept.close();
  await log.close();
});

test('a founder goes on from such a log only where the log itself says what the state was there', async () => {
  const { log, file, size } = await source();
  const mesh = log.meshId;
  const made = async (upTo: number, bytes = file) => {
    const { storage, beginning } = memoryCopy();
    await put(beginning, bytes, size);
    const copy = await openCopy(storage, beginning, mesh);
    for await (const piece of log.raw(size, 1, upTo)) await copy.take(piece.bytes);
    await copy.close();
    const store = new MemorySnapshotStore();
    const open = (at: object) => Log.open({ storage, key: KEY, limits, ...at });
    return {
      storage,
      store,
      beginning,
      start: () => restart(storage, store, open, undefined, beginning.base),
    };
  };
  assert.is((await code((await made(size)).start()))[0], 'SF_NOT_PROVED', 'the log does not say so yet');
  const { start, storage, store, beginning } = await made(log.size);
  const restarted = await start();
  assert.equal([restarted.log.first, restarted.spared], [size, size]);
  assert.is(restarted.state.mesh.size, log.size);
  await restarted.log.append([paused], TIME + 100, 1).durable;
  const upTo = restarted.log.size;
  await makeSnapshot({ storage, store, base: beginning.base, mesh, size: upTo });
  await restarted.log.close();
  const second = await start();
  assert.equal([second.log.first, second.spared], [size, upTo], 'its own snapshots serve it');
  await second.log.close();
  await log.close();
});

test.run();
