// limit: 60 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { segmentName } from '../../ledger/storage/storage.ts';
import { CRASH_KINDS, diskError, MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { Random } from '../sim/random.ts';
import { BACKENDS, GENESIS, KEY, long, started } from './kit.ts';
import { Outside } from './outside.ts';
import { type Call, type Instead, SteppedStorage } from './stepped-storage.ts';

const TIME = 1_700_000_000_000;
/** Small, so that the calls of a rotation are among those that fail. */
const limits = { segmentBytes: 1500 };
const create = (storage: LogStorage): Promise<Log> =>
  Log.create({ storage, genesis: GENESIS, key: KEY, time: TIME, limits });

/** Appends of one to five entries, two at a time, until the log stops. Returns how it stopped. */
async function appendUntilRefused(log: Log, outside: Outside, rounds: number): Promise<string | null> {
  for (let n = 0; n < rounds; n += 1) {
    const events = Array.from({ length: 1 + (n % 5) }, (_, at) => (at === 1 ? long(n, 400) : started(n)));
    const both = [outside.append(log, events, TIME), outside.append(log, [started(n)], TIME)];
    const refusals = await Promise.all(
      both.map(({ durable }) =>
        durable.then(
          () => null,
          (error) => error.code as string,
        ),
      ),
    );
    const refusal = refusals.find((code) => code !== null);
    if (refusal !== undefined) return refusal;
  }
  return null;
}

/** Faults of a disk from one call on; `step` is the call that begins them. */
const FAULTS: { name: string; code: string; instead(n: number, step: number, call: Call): Instead }[] = [
  {
    name: 'EIO once',
    code: 'SF_LOG_FAILED',
    instead: (n, step) => (n === step ? diskError('EIO') : undefined),
  },
  {
    name: 'ENOSPC once',
    code: 'SF_DISK_FULL',
    instead: (n, step) => (n === step ? diskError('ENOSPC') : undefined),
  },
  {
    name: 'EIO from then on, truncating included',
    code: 'SF_LOG_FAILED',
    instead: (n, step) => (n >= step ? diskError('EIO') : undefined),
  },
  {
    name: 'EIO once, and a truncate that fails',
    code: 'SF_LOG_FAILED',
    instead: (n, step, call) => (n === step || call === 'truncate' ? diskError('EIO') : undefined),
  },
  {
    name: 'a short write, then ENOSPC',
    code: 'SF_DISK_FULL',
    instead: (n, step, call) =>
      n === step && call === 'write' ? 100 : n === step + 1 ? diskError('ENOSPC') : undefined,
  },
  {
    name: 'a short write, then EIO and a truncate that fails',
    code: 'SF_LOG_FAILED',
    instead: (n, step, call) =>
      n === step && call === 'write'
        ? 100
        : n === step + 1 || call === 'truncate'
          ? diskError('EIO')
          : undefined,
  },
];

for (const { name, make } of BACKENDS) {
  const calls = name === 'memory' ? 36 : 14;
  for (const fault of FAULTS) {
    test(`${name}: ${fault.name}, at each of ${calls} calls: the log stops, tries nothing again, and the next start holds all that was acknowledged (promises 1, 2 and 4)`, async () => {
      let stopped = 0;
      for (let step = 1; step <= calls; step += 1) {
        const { storage: disk, remove } = await make();
        const outside = new Outside();
        const offset = { of: 0 };
        const stepped = new SteppedStorage(disk, (n, call) => fault.instead(n - offset.of, step, call));
        offset.of = Number.POSITIVE_INFINITY;
        const log = await create(stepped);
        offset.of = stepped.calls.length;
        const refusal = await appendUntilRefused(log, outside, 30);
        assert.is(refusal, fault.code, `call ${step}`);
        stopped += 1;
        await assertStopped(log, stepped, outside, fault.code);
        await assertRecovers(disk, outside, step);
        await remove();
      }
      assert.is(stopped, calls);
    });
  }
}

/** Nothing is written again, nothing is acknowledged later, and what was acknowledged is all that is shown. */
async function assertStopped(
  log: Log,
  storage: SteppedStorage,
  outside: Outside,
  code: string,
): Promise<void> {
  const { size } = log;
  assert.is(size, Math.max(1, outside.size));
  assert.is(log.failure?.code, code);
  assert.throws(
    () => log.append([started(0)], TIME, 1),
    (error: { code: string }) => error.code === code,
  );
  const calls = storage.calls.length;
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  assert.is(storage.calls.length, calls, 'a call after the log stopped');
  // What followed the failure is the taking back: at most one truncate and its sync.
  const last = Math.max(storage.calls.lastIndexOf('write'), storage.calls.lastIndexOf('create'));
  assert.match(storage.calls.slice(last + 1).join(' '), /^(sync )?(syncDirectory )?(truncate( sync)?)?$/);
  await log.close();
  assert.is(storage.calls.length, calls);
  assert.is(log.size, size);
  assert.is(outside.refused, 2);
  outside.dies();
}

/** Read only and for writing; in memory also after power was lost right then, and once more after recovery. */
async function assertRecovers(disk: LogStorage, outside: Outside, step: number): Promise<void> {
  if (disk instanceof MemoryStorage) {
    const random = new Random(step);
    const kind = CRASH_KINDS[step % CRASH_KINDS.length]!;
    const after = await Log.open({ storage: disk.crash(kind, () => random.next()), key: null });
    assert.ok(after.size >= outside.size, kind);
    await after.close();
  }
  const again = await Log.open({ storage: disk, key: KEY, limits });
  await outside.holds(again);
  outside.trusts(again);
  assert.is(await appendUntilRefused(again, outside, 3), null);
  await again.close();
  const last = await Log.open({
    storage: disk instanceof MemoryStorage ? disk.crash('lost') : disk,
    key: KEY,
  });
  await outside.holds(last);
  await last.close();
}

test('a batch whose sync failed, and that could not be taken back, is on the disk before the next start speaks of it (promise 1)', async () => {
  // The system gives the pages of a failed sync up: they are still read, and a later sync takes them for written.
  const disk = new MemoryStorage();
  const outside = new Outside();
  const log = await create(disk);
  disk.faults.sync = () => {
    throw diskError('EIO');
  };
  disk.faults.truncate = () => {
    throw diskError('EIO');
  };
  await outside.append(log, [started(1), long(2, 2000)], TIME).durable.catch(() => undefined);
  await log.close();
  assert.is(outside.refused, 1);
  outside.dies();
  delete disk.faults.sync;
  delete disk.faults.truncate;
  const again = await Log.open({ storage: disk, key: KEY });
  assert.is(again.size, 3);
  outside.trusts(again);
  await outside.append(again, [started(3)], TIME).durable;
  await again.close();
  outside.dies();
  const later = await Log.open({ storage: disk.crash('lost'), key: KEY });
  assert.is(later.size, 4);
  await outside.holds(later);
});

test('a torn tail on a full disk: the start is refused as often as one likes, and goes on when there is room (promises 1 and 3)', async () => {
  const disk = new MemoryStorage();
  const outside = new Outside();
  const log = await create(disk);
  await outside.append(log, [started(1)], TIME).durable;
  await log.close();
  outside.dies();
  const whole = disk.bytes(segmentName(0))!;
  disk.put(segmentName(0), Buffer.concat([whole, Buffer.from('{"index":2,"epoch":1,')]));
  disk.faults.capacityBytes = whole.length + 25;
  for (let start = 0; start < 150; start += 1) {
    await Log.open({ storage: disk, key: KEY }).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_DISK_FULL'),
    );
  }
  delete disk.faults.capacityBytes;
  const again = await Log.open({ storage: disk, key: KEY });
  assert.is(again.cut?.bytes, 21);
  await outside.holds(again);
  await again.close();
});

test.run();
