import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { formatCheckpoint } from '../../../ledger/lines/line.ts';
import type { LogDamagedError } from '../../../ledger/log/damage.ts';
import { Log } from '../../../ledger/log/log.ts';
import { verifyLog } from '../../../ledger/log/verify.ts';
import { segmentName } from '../../../ledger/storage/storage.ts';
import { CRASH_KINDS, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { KEY, long, newLog, OTHER_KEY, started } from '../kit.ts';

const TIME = 1_700_000_000_000;
const SEGMENT = segmentName(0);

/** A log of some batches in one segment, its bytes, and where each batch ends. */
async function small(batches: number): Promise<{ bytes: Buffer; ends: number[]; sizes: number[] }> {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  const ends = [storage.bytes(SEGMENT)!.length];
  const sizes = [1];
  for (let n = 1; n < batches; n += 1) {
    await log.append([started(n), started(n)], TIME + n, 1).durable;
    ends.push(storage.bytes(SEGMENT)!.length);
    sizes.push(log.size);
  }
  await log.close();
  return { bytes: Buffer.from(storage.bytes(SEGMENT)!), ends, sizes };
}

type Opened =
  | { outcome: 'opened'; log: Log; storage: MemoryStorage }
  | { outcome: 'halted'; error: LogDamagedError };

async function open(bytes: Uint8Array): Promise<Opened> {
  const storage = new MemoryStorage();
  storage.put(SEGMENT, bytes);
  try {
    return { outcome: 'opened', log: await Log.open({ storage, key: KEY }), storage };
  } catch (error) {
    assert.is((error as LogDamagedError).code, 'SF_LOG_DAMAGED', String(error));
    // Halting changes nothing.
    assert.equal(storage.bytes(SEGMENT), Buffer.from(bytes));
    assert.equal(storage.names(), [SEGMENT]);
    return { outcome: 'halted', error: error as LogDamagedError };
  }
}

test('cut at every byte of the last three batches it recovers to the batch before, a copy kept (promises 2 and 3)', async () => {
  const { bytes, ends, sizes } = await small(5);
  const first = ends.at(-4)!;
  let cuts = 0;
  for (let length = first; length < bytes.length; length += 1) {
    const opened = await open(bytes.subarray(0, length));
    assert.is(opened.outcome, 'opened', `cut at byte ${length}`);
    if (opened.outcome !== 'opened') continue;
    const { log, storage } = opened;
    const whole = ends.findLastIndex((end) => end <= length);
    assert.is(log.size, sizes[whole]);
    assert.equal(storage.bytes(SEGMENT), bytes.subarray(0, ends[whole]));
    if (length > ends[whole]!) {
      assert.equal(storage.bytes(log.cut!.copy), bytes.subarray(ends[whole], length));
      cuts += 1;
    } else assert.is(log.cut, null);
    // It goes on from there.
    if (length % 8 === 0) {
      await log.append([started(9)], TIME + 9, 1).durable;
      assert.is((await verifyLog(storage)).size, sizes[whole]! + 1);
    }
    await log.close();
  }
  assert.is(cuts, bytes.length - first - 3);
});

test('every flipped bit halts with segment, byte and entry, and none is cut away as a torn tail (promises 3 and 4)', async () => {
  const { bytes, ends } = await small(3);
  const lines = linesOf(bytes);
  let halted = 0;
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const opened = await open(flipped);
    assert.is(opened.outcome, 'halted', `bit ${bit & 7} of byte ${bit >> 3}`);
    if (opened.outcome === 'halted') assertNamed(opened.error, SEGMENT, bit >> 3, lines, ends);
    halted += 1;
  }
  assert.is(halted, bytes.length * 8);
});

test('a byte lost, put in twice, zeroed or made anything else halts with its place, in any segment (promises 3 and 4)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: 1 });
  for (let n = 1; n < 3; n += 1) await log.append([started(n)], TIME + n, 1).durable;
  await log.close();
  const names = storage.names();
  let halts = 0;
  for (const [at, name] of names.entries()) {
    const bytes = Buffer.from(storage.bytes(name)!);
    for (let byte = 0; byte < bytes.length; byte += 1) {
      // The very last byte gone is what a crash leaves of a write.
      const kinds = name === names.at(-1) && byte === bytes.length - 1 ? [1, 2, 3, 4] : [0, 1, 2, 3, 4];
      const kind = kinds[byte % kinds.length]!;
      const around = [bytes.subarray(0, byte), bytes.subarray(byte + 1)] as const;
      const own = bytes[byte]!;
      const instead = [[], [own, own], [0], [10], [own === 34 ? 39 : 34]][kind]!;
      const damaged = Buffer.concat([around[0], Buffer.from(instead), around[1]]);
      if (damaged.equals(bytes)) continue;
      const copy = storage.crash('process');
      copy.put(name, damaged);
      const what = `${name}, byte ${byte} in way ${kind}`;
      const error = await Log.open({ storage: copy, key: KEY }).then(
        () => assert.unreachable(what),
        (error: LogDamagedError) => error,
      );
      assert.is(error?.code, 'SF_LOG_DAMAGED', what);
      // A segment without its checkpoint is seen where the next one begins, at the latest.
      assert.ok(names.indexOf(error!.place.segment) - at <= 1, what);
      assert.ok(error!.place.index <= at + 1, what);
      assert.equal(copy.names(), names);
      assert.equal(copy.bytes(name), damaged);
      halts += 1;
    }
  }
  assert.ok(halts > 1400, `${halts}`);
});

/** Where each line begins, and the index that stands there or before which its checkpoint stands. */
function linesOf(bytes: Buffer): { begin: number; index: number }[] {
  let begin = 0;
  let index = 0;
  return bytes
    .toString('latin1')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const found = { begin, index };
      begin += line.length + 1;
      if (line.startsWith('{"index"')) index += 1;
      return found;
    });
}

/** The place is the line of the damage, or a later one of its batch: at the latest the checkpoint that does not cover it. */
function assertNamed(
  { place, message }: LogDamagedError,
  segment: string,
  byte: number,
  lines: { begin: number; index: number }[],
  ends: number[],
): void {
  assert.is(place.segment, segment);
  const line = lines.find(({ begin }) => begin === place.offset);
  assert.ok(line !== undefined, `byte ${byte}: no line begins at ${place.offset}`);
  assert.is(place.index, line!.index, `byte ${byte}`);
  const own = lines.findLast(({ begin }) => begin <= byte)!;
  assert.ok(place.offset >= own.begin && place.offset < ends.find((end) => byte < end)!, `byte ${byte}`);
  assert.match(message, `${segment} at byte ${place.offset}, before entry ${place.index}`);
}

test('in a torn tail a flipped bit is cut with it or halts, and never reaches what was acknowledged (promise 3)', async () => {
  const { bytes, ends, sizes } = await small(3);
  const [before, end] = ends.slice(-2) as [number, number];
  const torn = bytes.subarray(0, end - 200);
  const seen = { opened: 0, halted: 0 };
  for (let bit = before * 8; bit < torn.length * 8; bit += 1) {
    const flipped = Buffer.from(torn);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const opened = await open(flipped);
    seen[opened.outcome] += 1;
    if (opened.outcome === 'opened') {
      assert.is(opened.log.size, sizes.at(-2));
      assert.equal(opened.storage.bytes(opened.log.cut!.copy), flipped.subarray(before));
      await opened.log.close();
    }
  }
  assert.is(seen.opened + seen.halted, (torn.length - before) * 8);
  assert.ok(seen.opened > 0 && seen.halted > 0);
});

test('the error of a damaged log says where, what was expected and what to do (promise 3)', async () => {
  const { bytes, ends } = await small(3);
  const flipped = Buffer.from(bytes);
  flipped[ends[0]! + 10]! ^= 1;
  const opened = await open(flipped);
  assert.is(opened.outcome, 'halted');
  if (opened.outcome !== 'halted') return;
  assert.equal(opened.error.place, { segment: SEGMENT, offset: ends[0], index: 1 });
  assert.match(opened.error.message, new RegExp(`${SEGMENT} at byte ${ends[0]}, before entry 1`));
  assert.match(opened.error.hint!, /Nothing was changed.*ledger repair --from.*a replica/);
  assert.is(opened.error.exitCode, 5);
});

const damages: [string, (log: { bytes: Buffer; ends: number[] }) => Buffer][] = [
  [
    'a line of the middle taken out',
    ({ bytes, ends }) => without(bytes, ends[0]!, bytes.indexOf(10, ends[0]) + 1),
  ],
  ['a whole batch of the middle taken out', ({ bytes, ends }) => without(bytes, ends[0]!, ends[1]!)],
  ['a batch written twice', ({ bytes, ends }) => Buffer.concat([bytes, bytes.subarray(ends.at(-2))])],
  ['garbage after the end', ({ bytes }) => Buffer.concat([bytes, Buffer.from('garbage')])],
  [
    'a complete malformed line after the end',
    ({ bytes }) => Buffer.concat([bytes, Buffer.from('{"index":5}\n')]),
  ],
  ['a lone zero byte in the last batch', ({ bytes, ends }) => zeroed(bytes, ends.at(-2)! + 30, 1)],
  ['zeros that no sector is, in the last batch', ({ bytes, ends }) => zeroed(bytes, ends.at(-2)! + 30, 50)],
  ['zeros in a batch that others follow', ({ bytes, ends }) => zeroed(bytes, ends[0]!, ends[1]! - ends[0]!)],
  ['the genesis taken away', ({ bytes, ends }) => bytes.subarray(ends[0])],
];
for (const [what, damage] of damages) {
  test(`${what} halts (promise 3)`, async () => {
    const opened = await open(damage(await small(4)));
    assert.is(opened.outcome, 'halted');
  });
}

const without = (bytes: Buffer, from: number, to: number): Buffer =>
  Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
const zeroed = (bytes: Buffer, from: number, length: number): Buffer =>
  Buffer.concat([bytes.subarray(0, from), Buffer.alloc(length), bytes.subarray(from + length)]);

test('a checkpoint with the right root and a wrong signature halts (promise 4)', async () => {
  const { bytes, ends } = await small(3);
  const storage = new MemoryStorage();
  storage.put(SEGMENT, bytes);
  const log = await Log.open({ storage, key: KEY });
  const { origin, size, root } = log.checkpoint;
  await log.close();
  const forged = formatCheckpoint(makeCheckpoint({ origin, size, root }, OTHER_KEY));
  const lineAt = bytes.lastIndexOf(10, bytes.length - 2) + 1;
  const opened = await open(Buffer.concat([bytes.subarray(0, lineAt), Buffer.from(`${forged}\n`)]));
  assert.is(opened.outcome, 'halted');
  if (opened.outcome !== 'halted') return;
  assert.is(opened.error.place.offset, lineAt);
  assert.match(opened.error.message, /not signed by the log key/);
  assert.ok(ends.length === 3);
});

test('of many checkpoints, whose signatures are checked beside each other, the oldest bad one is told (promise 4)', async () => {
  const { bytes, ends, sizes } = await small(700);
  const whole = await open(bytes);
  assert.is(whole.outcome, 'opened');
  if (whole.outcome === 'opened') await whole.log.close();
  // A bit of the signatures of two in the middle, each its line's own; the last is whole.
  const spoilt = Buffer.from(bytes);
  for (const batch of [300, 500]) {
    const at = ends[batch]! - 30;
    spoilt[at] = spoilt[at] === 65 ? 66 : 65;
  }
  const opened = await open(spoilt);
  assert.is(opened.outcome, 'halted');
  if (opened.outcome !== 'halted') return;
  assert.is(opened.error.place.index, sizes[300]);
  assert.match(opened.error.message, /signature of the checkpoint does not hold/);
});

test('a torn tail is cut in the last segment only; before it the log halts (promise 3)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: 1 });
  await log.append([started(1)], TIME, 1).durable;
  await log.append([started(2)], TIME, 1).durable;
  await log.close();
  const [, middle, last] = storage.names() as [string, string, string];
  const torn = storage.crash('process');
  torn.put(last, storage.bytes(last)!.subarray(0, 40));
  const opened = await Log.open({ storage: torn, key: KEY, limits: { segmentBytes: 1 } });
  assert.equal([opened.size, opened.cut?.bytes], [2, 40]);
  await opened.append([started(3)], TIME, 1).durable;
  await opened.close();
  const damaged = storage.crash('process');
  damaged.put(middle, storage.bytes(middle)!.subarray(0, 40));
  await Log.open({ storage: damaged, key: KEY }).then(
    () => assert.unreachable(),
    (error: LogDamagedError) => {
      assert.is(error.code, 'SF_LOG_DAMAGED');
      assert.is(error.place.segment, middle);
    },
  );
});

test('after a cut, reading finds what came in the place of what was cut (promise 4)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  await log.append(
    Array.from({ length: 400 }, (_, n) => long(n, 50)),
    TIME,
    1,
  ).durable;
  await log.close();
  storage.put(SEGMENT, storage.bytes(SEGMENT)!.subarray(0, -10));
  const again = await Log.open({ storage, key: KEY });
  assert.is(again.size, 1);
  for (let n = 1; n <= 300; n += 1) again.append([n % 2 === 0 ? started(n) : long(n, 900)], TIME, 1);
  await again.append([started(301)], TIME, 1).durable;
  for (let index = 1; index <= 301; index += 10) {
    const read = await again.read(index, 1);
    const found = read.map(({ index, body }) => [index, (body as { correlation: string }).correlation]);
    assert.equal(found, [[index, `c${index}`]]);
  }
  await again.close();
});

test('a read-only open passes a torn tail over and leaves it (promise 3)', async () => {
  const { bytes, sizes } = await small(3);
  const storage = new MemoryStorage();
  storage.put(SEGMENT, bytes.subarray(0, -5));
  const log = await Log.open({ storage, key: null });
  assert.is(log.size, sizes.at(-2));
  assert.is((await log.read(0, 100)).length, sizes.at(-2));
  assert.equal(storage.bytes(SEGMENT), bytes.subarray(0, -5));
  assert.equal(storage.names(), [SEGMENT]);
  await log.close();
});

test('what recovery speaks of is synced first: power lost right after keeps it (promise 1)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  let blocked = false;
  storage.faults.sync = () => {
    blocked = true;
    return new Promise<void>(() => undefined);
  };
  log.append([started(1)], TIME, 1);
  while (!blocked) await new Promise(setImmediate);
  // The process dies between write and sync; the next one finds the whole batch in the page cache.
  const next = storage.crash('process');
  const again = await Log.open({ storage: next, key: KEY });
  assert.is(again.size, 2);
  const later = await Log.open({ storage: next.crash('lost'), key: KEY });
  assert.is(later.size, 2);
});

test('after any crash there is an exact prefix with every acknowledged entry (promises 1 and 2)', async () => {
  let torn = 0;
  let sparse = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer(),
      fc.constantFrom(...CRASH_KINDS),
      fc.integer({ min: 1, max: 40 }),
      async (seed, kind, crashAt) => {
        const random = generator(seed);
        let storage = new MemoryStorage();
        const limits = { segmentBytes: 20_000 };
        let log = await newLog(storage, limits);
        const lines: string[] = [JSON.stringify((await log.read(0, 1))[0])];
        // Three lives, each ended by a crash at some sync.
        for (let life = 0; life < 3; life += 1) {
          let acknowledged = log.size;
          let syncsLeft = Math.ceil(random() * crashAt);
          const { promise: crashed, resolve: crash } = Promise.withResolvers<void>();
          storage.faults.write = (length) => (random() < 0.3 ? Math.ceil(length * random()) : length);
          storage.faults.sync = () => {
            syncsLeft -= 1;
            if (syncsLeft > 0) return;
            crash();
            return new Promise<void>(() => undefined);
          };
          log.subscribe(({ last, entries }) => {
            acknowledged = last + 1;
            for (const entry of entries) lines[entry.index] = JSON.stringify(entry);
          });
          let running = true;
          const endless = (async () => {
            for (let n = 0; running; n += 1) {
              log.append(
                Array.from({ length: 1 + Math.floor(random() * 6) }, () =>
                  long(n, Math.floor(random() * 2000)),
                ),
                TIME,
                1,
              );
              await new Promise(setImmediate);
            }
          })();
          await crashed;
          running = false;
          await endless;
          storage = storage.crash(kind, random);
          log = await Log.open({ storage, key: KEY, limits });
          assert.ok(log.size >= acknowledged, `${log.size} of ${acknowledged} acknowledged after ${kind}`);
          if (log.cut !== null) {
            torn += 1;
            if (storage.bytes(log.cut.copy)!.includes(0)) sparse += 1;
          }
          for await (const entry of log.entries()) {
            const line = JSON.stringify(entry);
            assert.is(line, lines[entry.index] ?? line);
            lines[entry.index] = line;
          }
          lines.length = log.size;
        }
      },
    ),
    { numRuns: 40 },
  );
  // The faults did happen: whole prefixes and pages of zeros were cut.
  assert.ok(torn > 5 && sparse > 0, `${torn} tails, ${sparse} with zeros`);
});

/** mulberry32: a seeded source of numbers in [0, 1). */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test.run();
