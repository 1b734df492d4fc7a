import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../../ledger/lines/entry.ts';
import type { LogEvent } from '../../../ledger/lines/events.ts';
import { makeEntry } from '../../../ledger/lines/line.ts';
import { type DurableBatch, Log } from '../../../ledger/log/log.ts';
import { leafHash } from '../../../ledger/proofs/merkle.ts';
import { segmentName } from '../../../ledger/storage/storage.ts';
import { diskError, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { BACKENDS, GENESIS, KEY, long, newLog, OTHER_KEY, started } from '../kit.ts';

const TIME = 1_700_000_000_000;
const code = (error: unknown): string => (error as { code: string }).code;

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

async function rejected(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'resolved', code);
}

/** Holds syncs up until told. */
function gate(storage: MemoryStorage): { open(): void; syncs: () => number } {
  let release: () => void = () => undefined;
  let syncs = 0;
  const opened = new Promise<void>((resolve) => {
    release = resolve;
  });
  storage.faults.sync = () => {
    syncs += 1;
    return opened;
  };
  return { open: () => release(), syncs: () => syncs };
}

for (const { name, make } of BACKENDS) {
  const on = (
    what: string,
    run: (storage: Awaited<ReturnType<typeof make>>['storage']) => Promise<void>,
  ): void =>
    test(`${name}: ${what}`, async () => {
      const { storage, remove } = await make();
      await run(storage).finally(remove);
    });

  on('a new log has one entry, and its root is the mesh id', async (storage) => {
    const log = await newLog(storage);
    assert.is(log.size, 1);
    assert.is(log.checkpoint.root, log.meshId);
    assert.is(log.checkpoint.origin, log.meshId);
    const [genesis] = await log.read(0, 10);
    assert.is(log.meshId, leafHash(JSON.stringify(genesis)).toString('hex'));
    assert.equal(log.genesis, GENESIS);
    await log.close();
  });

  on('indexes are given at once and have no gap (promise 4)', async (storage) => {
    const log = await newLog(storage);
    const a = log.append([started(1), started(2)], TIME, 1);
    const b = log.append([started(3)], TIME, 1);
    assert.equal([a.first, a.last, b.first, b.last, log.next], [1, 2, 3, 3, 4]);
    assert.is((await b.durable).size, 4);
    assert.is((await a.durable).text, (await b.durable).text);
    assert.equal(
      (await log.read(0, 10)).map((entry) => entry.index),
      [0, 1, 2, 3],
    );
    await log.close();
  });

  on('reopening gives the same entries, checkpoint and mesh, over many segments', async (storage) => {
    const limits = { segmentBytes: 4096 };
    const log = await newLog(storage, limits);
    for (let n = 0; n < 60; n += 1) await log.append([long(n, n * 20), started(n)], TIME + n, 1).durable;
    const before = { entries: await all(log.entries()), checkpoint: log.checkpoint, mesh: log.meshId };
    await log.close();
    assert.ok((await storage.list()).length > 5);
    const again = await Log.open({ storage, key: KEY, limits });
    assert.equal(await all(again.entries()), before.entries);
    assert.equal(again.checkpoint, before.checkpoint);
    assert.is(again.meshId, before.mesh);
    assert.is(again.cut, null);
    const { first, durable } = again.append([started(99)], TIME + 100, 1);
    assert.is(first, before.entries.length);
    await durable;
    await again.close();
  });

  on('any range is read, over the ends of batches and segments', async (storage) => {
    const log = await newLog(storage, { segmentBytes: 2000 });
    for (let n = 1; n <= 90; n += 1) await log.append([started(n)], TIME, 1).durable;
    for (let from = 0; from <= 92; from += 7) {
      const expected = Array.from(
        { length: Math.max(0, Math.min(91, from + 10) - from) },
        (_, at) => from + at,
      );
      assert.equal(
        (await log.read(from, 10)).map(({ index }) => index),
        expected,
        `from ${from}`,
      );
    }
    assert.equal(await log.read(500, 10), []);
    assert.equal(
      (await all(log.entries(85, 88))).map(({ index }) => index),
      [85, 86, 87],
    );
    assert.is((await log.checkpointAt(40))?.size, 40);
    assert.is(await log.checkpointAt(500), null);
    const batches = await all(log.batches(40));
    assert.equal([batches[0]!.first, batches.at(-1)!.last, batches.length], [40, 90, 51]);
    await log.close();
  });

  on('a tail gives what is there and then what comes', async (storage) => {
    const log = await newLog(storage);
    await log.append([started(1)], TIME, 1).durable;
    const stop = new AbortController();
    const seen: number[] = [];
    for await (const entry of log.tail(1, stop.signal)) {
      seen.push(entry.index);
      if (seen.length < 4) log.append([started(entry.index + 1)], TIME, 1);
      else stop.abort();
    }
    assert.equal(seen, [1, 2, 3, 4]);
    await log.close();
  });

  on('a read-only log reads, refuses to append, and changes nothing', async (storage) => {
    await (await newLog(storage)).close();
    const log = await Log.open({ storage, key: null });
    assert.is(log.size, 1);
    assert.throws(
      () => log.append([started(1)], TIME, 1),
      (error: unknown) => code(error) === 'SF_REFUSED',
    );
    await log.close();
  });

  on('a second log is not made over the first, and a foreign key does not open it', async (storage) => {
    await (await newLog(storage)).close();
    assert.is(await rejected(newLog(storage)), 'SF_EXISTS');
    assert.is(await rejected(Log.open({ storage, key: OTHER_KEY })), 'SF_FOLDER');
    assert.is(
      await rejected(Log.create({ storage, genesis: GENESIS, key: OTHER_KEY, time: TIME })),
      'SF_USAGE',
    );
  });

  on('where there is no log, it says so', async (storage) => {
    assert.is(await rejected(Log.open({ storage, key: KEY })), 'SF_NOT_FOUND');
  });
}

test('appends that wait together share one write, one sync and one signature, and none is split', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { batchEntriesMax: 10 });
  const batches: DurableBatch[] = [];
  log.subscribe((batch) => batches.push(batch));
  let writes = 0;
  storage.faults.write = (length) => {
    writes += 1;
    return length;
  };
  const appends = Array.from({ length: 9 }, (_, n) =>
    log.append([started(n), started(n), started(n)], TIME, 1),
  );
  await Promise.all(appends.map(({ durable }) => durable));
  // Three appends of three fit ten entries; the fourth would be split.
  assert.equal(
    batches.map(({ entries }) => entries.length),
    [9, 9, 9],
  );
  assert.is(writes, 3);
  for (const { first, last, durable } of appends) {
    const batch = batches.find((each) => each.first <= first && first <= each.last)!;
    assert.ok(last <= batch.last);
    assert.is((await durable).text, batch.checkpoint.text);
  }
  await log.close();
});

test('nothing that names a batch is seen before its sync returned (promise 1)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  const before = log.checkpoint;
  const sync = gate(storage);
  let told = 0;
  log.subscribe(() => {
    told += 1;
  });
  let durable = false;
  const append = log.append([started(1)], TIME, 1);
  void append.durable.then(() => {
    durable = true;
  });
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  assert.is(sync.syncs(), 1);
  // The bytes stand in the file; no one is told.
  assert.match(storage.bytes(segmentName(0))!.toString(), /attempt\.started/);
  assert.equal([log.size, log.next, told, durable], [1, 2, 0, false]);
  assert.is(log.checkpoint, before);
  assert.equal(await log.read(0, 10).then((entries) => entries.length), 1);
  assert.is(await log.checkpointAt(2), null);
  sync.open();
  assert.is((await append.durable).size, 2);
  assert.equal([log.size, told], [2, 1]);
  await log.close();
});

test('short writes are continued and nothing is lost by them (promise 1)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  storage.faults.write = (length) => Math.min(length, 13);
  await log.append([started(1), long(2, 600)], TIME, 1).durable;
  await log.close();
  const again = await Log.open({ storage, key: KEY });
  assert.is(again.size, 3);
  await again.close();
});

for (const [what, expected, fail] of [
  ['a full disk', 'SF_DISK_FULL', 'ENOSPC'],
  ['an exhausted quota', 'SF_DISK_FULL', 'EDQUOT'],
  ['a failed write', 'SF_LOG_FAILED', 'EIO'],
  ['a write that takes nothing', 'SF_LOG_FAILED', null],
] as const) {
  test(`${what} is never acknowledged and stops the log for good (promise 1)`, async () => {
    const storage = new MemoryStorage();
    const log = await newLog(storage);
    await log.append([started(1)], TIME, 1).durable;
    const good = storage.bytes(segmentName(0))!;
    let writes = 0;
    storage.faults.write = () => {
      writes += 1;
      if (writes === 1) return 40;
      if (fail === null) return 0;
      throw diskError(fail);
    };
    const failures: string[] = [];
    log.onFailure((error) => failures.push(error.code));
    const first = log.append([started(2)], TIME, 1);
    const second = log.append([started(3)], TIME, 1);
    assert.equal([await rejected(first.durable), await rejected(second.durable)], [expected, expected]);
    assert.equal(failures, [expected]);
    assert.is(log.failure?.code, expected);
    assert.is(log.size, 2);
    assert.equal(storage.bytes(segmentName(0)), good);
    // The disk is well again: the log stays stopped, until it is opened anew.
    delete storage.faults.write;
    assert.throws(
      () => log.append([started(4)], TIME, 1),
      (error: unknown) => code(error) === expected,
    );
    await log.close();
    const again = await Log.open({ storage, key: KEY });
    assert.equal([again.size, again.cut], [2, null]);
    await again.append([started(4)], TIME, 1).durable;
    await again.close();
  });
}

test('a failed sync is never acknowledged, is not tried again, and takes back its bytes (promise 1)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  const good = storage.bytes(segmentName(0))!;
  let syncs = 0;
  storage.faults.sync = () => {
    syncs += 1;
    if (syncs === 1) throw diskError('EIO');
  };
  assert.is(await rejected(log.append([started(1)], TIME, 1).durable), 'SF_LOG_FAILED');
  assert.is(log.size, 1);
  assert.equal(storage.bytes(segmentName(0)), good);
  assert.throws(
    () => log.append([started(2)], TIME, 1),
    (error: unknown) => code(error) === 'SF_LOG_FAILED',
  );
  await log.close();
});

test('where the bytes cannot be taken back either, the next start has an exact prefix (promise 2)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  storage.faults.write = (length) => {
    if (length < 100) throw diskError('EIO');
    return length - 60;
  };
  storage.faults.truncate = () => {
    throw diskError('EIO');
  };
  assert.is(await rejected(log.append([started(1)], TIME, 1).durable), 'SF_LOG_FAILED');
  await log.close();
  const after = storage.crash('process');
  const again = await Log.open({ storage: after, key: KEY });
  assert.is(again.size, 1);
  assert.ok(again.cut!.bytes > 0);
  assert.match(after.bytes(again.cut!.copy)!.toString(), /attempt\.started/);
  await again.close();
});

test('a new segment that cannot be made stops the log, and the old one stands (promise 1)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: 1 });
  storage.faults.create = () => {
    throw diskError('ENOSPC');
  };
  assert.is(await rejected(log.append([started(1)], TIME, 1).durable), 'SF_DISK_FULL');
  await log.close();
  delete storage.faults.create;
  const again = await Log.open({ storage, key: KEY });
  assert.is(again.size, 1);
  await again.close();
});

test('a genesis that a full disk refused can be made again', async () => {
  const storage = new MemoryStorage();
  storage.faults.capacityBytes = 200;
  assert.is(await rejected(newLog(storage)), 'SF_DISK_FULL');
  delete storage.faults.capacityBytes;
  const log = await newLog(storage);
  assert.is(log.size, 1);
  await log.close();
});

test('an invalid append takes no index and writes nothing', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { waitingBytesMax: 2000, batchEntriesMax: 3 });
  const bytes = storage.bytes(segmentName(0))!;
  const refused = (events: unknown[], time = TIME, epoch = 1): string => {
    try {
      log.append(events as LogEvent[], time, epoch);
      return 'taken';
    } catch (error) {
      return code(error);
    }
  };
  assert.is(refused([]), 'SF_USAGE');
  assert.is(refused([started(1), { type: 'attempt.started', body: {} }]), 'SF_USAGE');
  assert.is(refused([{ type: 'no.such', body: {} }]), 'SF_USAGE');
  assert.is(refused([1, 2, 3, 4].map(started)), 'SF_USAGE');
  assert.is(refused([started(1)], TIME, 0), 'SF_USAGE');
  assert.is(refused([started(1)], -1), 'SF_USAGE');
  assert.is(refused([long(1, 2000)]), 'SF_FULL');
  assert.equal([log.next, log.waitingBytes], [1, 0]);
  assert.equal(storage.bytes(segmentName(0)), bytes);
  await log.append([started(1)], TIME, 1).durable;
  await log.close();
  assert.is(refused([started(2)]), 'SF_LOG_FAILED');
});

test('time never goes back, and nothing but a handover opens an epoch', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  log.append([started(1)], TIME + 500, 1);
  await log.append([started(2)], TIME - 500, 1).durable;
  for (const epoch of [0, 2]) {
    assert.throws(
      () => log.append([started(3)], TIME, epoch),
      (error: unknown) => code(error) === 'SF_USAGE',
    );
  }
  assert.equal(
    (await log.read(1, 2)).map(({ time }) => time),
    [TIME + 500, TIME + 500],
  );
  await log.close();
});

test('a tail ends with the failure that stopped the log, and with its closing', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  const never = new AbortController().signal;
  const failed = all(log.tail(0, never));
  storage.faults.write = () => {
    throw diskError('ENOSPC');
  };
  log.append([started(1)], TIME, 1);
  assert.is(await rejected(failed), 'SF_DISK_FULL');
  await log.close();
  delete storage.faults.write;
  const again = await Log.open({ storage, key: KEY });
  const ended = all(again.tail(0, never));
  await again.close();
  assert.is((await ended).length, 1);
});

test('recovery hands on the entries of every batch as it reads them, and none of a torn tail', async () => {
  const storage = new MemoryStorage();
  const first = await newLog(storage);
  await first.append([started(1), started(2)], 1_700_000_000_001, 1).durable;
  await first.append([long(3, 40)], 1_700_000_000_002, 1).durable;
  await first.close();
  const name = storage.names().at(-1)!;
  const whole = storage.bytes(name)!;
  const head = { index: first.size, epoch: 1, time: 1_700_000_000_003 };
  const torn = `${makeEntry(head, started(4)).line}\n${makeEntry({ ...head, index: first.size + 1 }, started(5)).line.slice(0, 30)}`;
  storage.put(name, Buffer.concat([whole, Buffer.from(torn)]));
  const batches: { entries: Entry[]; size: number }[] = [];
  const log = await Log.open({
    storage,
    key: KEY,
    onBatch: (entries, { size }) => batches.push({ entries, size }),
  });
  assert.ok(log.cut !== null);
  assert.equal(
    batches.map(({ entries, size }) => [entries.length, size]),
    [
      [1, 1],
      [2, 3],
      [1, 4],
    ],
  );
  assert.equal(
    batches.flatMap(({ entries }) => entries),
    await log.read(0, 10),
  );
  await log.close();
});

test.run();
