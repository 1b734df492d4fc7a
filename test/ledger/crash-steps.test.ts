import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { segmentName } from '../../ledger/storage/storage.ts';
import { CRASH_KINDS, MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { Random } from '../sim/random.ts';
import { GENESIS, KEY, long, started } from './kit.ts';
import { Outside } from './outside.ts';
import { type Call, SteppedStorage } from './stepped-storage.ts';

const TIME = 1_700_000_000_000;
const limits = { segmentBytes: 1500 };
const MIDWAY_BYTES = 137;

interface Halt {
  storage: SteppedStorage;
  /** Resolves when the process stands still at its step. */
  reached: Promise<void>;
}

/** Storage whose process stops for good before one call that changes something, or in the middle of it where it writes. */
function haltingAt(disk: MemoryStorage, step: number, midway: boolean): Halt {
  const { promise: reached, resolve } = Promise.withResolvers<void>();
  const storage = new SteppedStorage(disk, (n, call) => {
    if (n < step) return undefined;
    if (n === step && midway && call === 'write') return MIDWAY_BYTES;
    resolve();
    return new Promise<never>(() => undefined);
  });
  return { storage, reached };
}

/** Every step, and each kind of crash at it. Returns how many there were. */
async function eachCrash(
  steps: number,
  run: (
    halting: (disk: MemoryStorage) => Halt,
    crash: (disk: MemoryStorage) => MemoryStorage,
    what: string,
  ) => Promise<void>,
): Promise<number> {
  let crashes = 0;
  for (let step = 1; step <= steps; step += 1) {
    for (const midway of [false, true]) {
      for (const kind of CRASH_KINDS) {
        const what = `${kind} at step ${step}${midway ? ', midway' : ''}`;
        const random = new Random(what);
        await run(
          (disk) => haltingAt(disk, step, midway),
          (disk) => disk.crash(kind, () => random.next()),
          what,
        );
        crashes += 1;
      }
    }
  }
  return crashes;
}

/** The calls of a run that nothing disturbs. */
async function callsOf(
  run: (storage: SteppedStorage, disk: MemoryStorage) => Promise<unknown>,
): Promise<Call[]> {
  const disk = new MemoryStorage();
  const storage = new SteppedStorage(disk);
  await run(storage, disk);
  return storage.calls;
}

const create = (storage: SteppedStorage): Promise<Log> =>
  Log.create({ storage, genesis: GENESIS, key: KEY, time: TIME, limits });

test('a crash at any step of making a log: it is whole, or was never there, or says that it was cut short (promises 1 and 2)', async () => {
  const calls = await callsOf(create);
  assert.equal(calls.slice(0, 4), ['create', 'write', 'sync', 'syncDirectory']);
  const seen = { whole: 0, absent: 0, refused: 0 };
  await eachCrash(calls.length + 1, async (halting, crash, what) => {
    const disk = new MemoryStorage();
    const { storage, reached } = halting(disk);
    const made = create(storage);
    const told = await Promise.race([made.then(() => true), reached.then(() => false)]);
    const after = crash(disk);
    const opened = await Log.open({ storage: after, key: KEY }).catch((error) => error.code as string);
    if (opened instanceof Log) {
      assert.is(opened.size, 1);
      assert.is(opened.checkpoint.root, opened.meshId);
      seen.whole += 1;
      await opened.append([started(1)], TIME, 1).durable;
      return opened.close();
    }
    assert.is(told, false, `${what}: told of a log that is ${opened}`);
    // Nobody was told of it. Where no bytes stand there it is made anew; where some do, a person decides.
    const again = await create(new SteppedStorage(after)).catch((error) => error.code as string);
    if (opened === 'SF_NOT_FOUND' || again instanceof Log) {
      assert.is((again as Log).size, 1);
      seen.absent += 1;
    } else {
      assert.equal([opened, again], ['SF_LOG_DAMAGED', 'SF_EXISTS']);
      seen.refused += 1;
    }
  });
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 5, `${what}: ${times}`);
});

/** A log, then batches over several segments; stands still where the storage does. */
async function rotate(disk: MemoryStorage, storage: SteppedStorage, outside: Outside): Promise<void> {
  await (await Log.create({ storage: disk, genesis: GENESIS, key: KEY, time: TIME })).close();
  const log = await Log.open({ storage, key: KEY, limits });
  for (let n = 1; n <= 4; n += 1) {
    await outside.append(log, [started(n), long(n, 900), started(n)], TIME).durable;
  }
  await log.close();
}

test('a crash at any step of a rotation leaves an exact prefix with every acknowledged entry, in segments that go on (promises 1 to 4)', async () => {
  const calls = await callsOf((storage, disk) => rotate(disk, storage, new Outside()));
  assert.ok(calls.filter((call) => call === 'create').length >= 3, calls.join(' '));
  const cuts = { none: 0, torn: 0 };
  const crashes = await eachCrash(calls.length + 1, async (halting, crash) => {
    const disk = new MemoryStorage();
    const outside = new Outside();
    const { storage, reached } = halting(disk);
    await Promise.race([rotate(disk, storage, outside), reached]);
    outside.dies();
    const after = crash(disk);
    const log = await Log.open({ storage: after, key: KEY, limits });
    cuts[log.cut === null ? 'none' : 'torn'] += 1;
    await outside.holds(log);
    outside.trusts(log);
    // It goes on, over the next rotation too, and power lost right after takes nothing of it.
    for (let n = 10; n < 12; n += 1) await outside.append(log, [long(n, 1500)], TIME).durable;
    await log.close();
    const again = await Log.open({ storage: after.crash('lost'), key: null });
    assert.is(again.cut, null);
    await outside.holds(again);
  });
  assert.is(cuts.none + cuts.torn, crashes);
  assert.ok(cuts.torn > 20, `${cuts.torn} tails`);
});

test('a crash at any step of cutting a torn tail loses neither what was acknowledged nor the only copy of what is cut (promises 2 and 3)', async () => {
  const disk = new MemoryStorage();
  const log = await Log.create({ storage: disk, genesis: GENESIS, key: KEY, time: TIME });
  await log.append([started(1), long(2, 900)], TIME, 1).durable;
  const end = disk.bytes(segmentName(0))!.length;
  await log.append([started(3), long(4, 2000)], TIME, 1).durable;
  await log.close();
  const torn = disk.bytes(segmentName(0))!.subarray(0, -300);
  const tail = torn.subarray(end);
  const before = (): MemoryStorage => {
    const storage = new MemoryStorage();
    storage.put(segmentName(0), torn);
    return storage;
  };
  const counted = new SteppedStorage(before());
  await (await Log.open({ storage: counted, key: KEY })).close();
  assert.equal(counted.calls.slice(0, 2), ['keepCut', 'truncate']);
  const crashes = await eachCrash(counted.calls.length + 1, async (halting, crash, what) => {
    const dying = before();
    const { storage, reached } = halting(dying);
    await Promise.race([Log.open({ storage, key: KEY }), reached]);
    const after = crash(dying);
    const again = await Log.open({ storage: after, key: KEY });
    assert.is(again.size, 3);
    assert.equal(after.bytes(segmentName(0)), torn.subarray(0, end));
    const copies = after.names().filter((name) => name.startsWith('cut-'));
    assert.ok(
      copies.some((name) => after.bytes(name)!.equals(tail)),
      `no copy after ${what}`,
    );
    await again.close();
  });
  assert.ok(crashes > 60);
});

test.run();
