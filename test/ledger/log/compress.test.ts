// limit: 180 s
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compressBefore } from '../../../ledger/log/compress.ts';
import { LogDamagedError } from '../../../ledger/log/damage.ts';
import { Log } from '../../../ledger/log/log.ts';
import { storageSource } from '../../../ledger/log/log-source.ts';
import { repairFrom } from '../../../ledger/log/repair.ts';
import { readSound } from '../../../ledger/log/sound.ts';
import { verifyLog } from '../../../ledger/log/verify.ts';
import {
  encodeFrame,
  encodeTable,
  frameBytes,
  openCompressed,
} from '../../../ledger/storage/seekable-zstd.ts';
import { compressedName, type LogStorage, segmentName } from '../../../ledger/storage/storage.ts';
import { FileStorage } from '../../../ledger/storage/storage-file.ts';
import { HeldStorage } from '../../../ledger/storage/storage-held.ts';
import { CRASH_KINDS, diskError, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { Random } from '../../sim/random.ts';
import { everyReading, exportOf } from '../compressed.ts';
import { KEY, long, newLog, started } from '../kit.ts';
import { SteppedStorage } from '../stepped-storage.ts';

const TIME = 1_700_000_000_000;
const home = mkdtempSync(join(tmpdir(), 'superfleet-compress-'));
test.after(() => rmSync(home, { recursive: true, force: true }));

/** So many entries of about so many bytes in segments of so many. */
async function fill(
  storage: LogStorage,
  entries: number,
  bytes: number,
  segmentBytes: number,
): Promise<void> {
  const log = await newLog(storage, { segmentBytes });
  for (let n = 1; n < entries; n += 6) {
    await log.append([started(n), ...Array.from({ length: 5 }, (_, at) => long(n + at, bytes))], TIME, 1)
      .durable;
  }
  await log.close();
}

const plain = new FileStorage(join(home, 'plain'));
test.before(() => fill(plain, 1_800, 2_000, 1_400_000));

/** The log of `plain` with its first segments compressed. */
async function mixed(name: string, segments: number): Promise<{ storage: FileStorage; folder: string }> {
  const folder = join(home, name);
  cpSync(join(home, 'plain'), folder, { recursive: true });
  const storage = new FileStorage(folder);
  const firsts = await storage.list();
  const { segments: done } = await compressBefore(storage, firsts[segments]!);
  assert.is(done, segments);
  return { storage, folder };
}

test('whoever reads finds the same in segments that are plain, compressed, or some of each', async () => {
  const firsts = await plain.list();
  assert.ok(firsts.length >= 3, `segments ${firsts}`);
  const whole = await everyReading(plain);
  const names = (folder: string): string[] => readdirSync(folder).map((name) => name.slice(16));
  for (const segments of [1, firsts.length - 1]) {
    const { storage, folder } = await mixed(`mixed-${segments}`, segments);
    const [compressed, left] = [
      Array(segments).fill('.jsonl.zst'),
      Array(firsts.length - segments).fill('.jsonl'),
    ];
    assert.equal(names(folder).sort(), [...compressed, ...left].sort());
    assert.equal(await everyReading(storage), whole);
    const held = await HeldStorage.open(folder);
    assert.equal(await everyReading(held).finally(() => held.close()), whole);
    for (const first of firsts) {
      const [ours, theirs] = await Promise.all([storage.open(first, 'read'), plain.open(first, 'read')]);
      assert.is(await ours.size(), await theirs.size());
      await Promise.all([ours.close(), theirs.close()]);
    }
    const into = new MemoryStorage();
    const repaired = await repairFrom(storage, storageSource(plain), {
      into,
      logKey: null,
      acceptLoss: false,
    });
    assert.is(repaired, null, 'nothing to repair');
    assert.equal(await everyReading(into), whole);
  }
});

test('a log goes on behind compressed segments, and in one where nothing is behind it any more', async () => {
  const { storage, folder } = await mixed('goes-on', (await plain.list()).length - 1);
  const before = await verifyLog(storage);
  const log = await Log.open({ storage, key: KEY });
  await log.append([started(1)], TIME, 1).durable;
  await log.close();
  assert.is((await verifyLog(storage)).size, before.size + 1);
  const [first, last] = (await storage.list()).slice(-2) as [number, number];
  rmSync(storage.describe(last));
  const shorter = await Log.open({ storage, key: KEY });
  assert.is(shorter.size, last);
  await shorter.append([started(2)], TIME, 1).durable;
  await shorter.close();
  assert.ok(readdirSync(folder).includes(segmentName(first)));
  assert.not(readdirSync(folder).includes(compressedName(first)));
  assert.is((await verifyLog(storage)).size, last + 1);
});

test('any place is read, over the ends of frames too', async () => {
  const random = new Random('places');
  const bytes = Buffer.from(
    Array.from({ length: 3 * frameBytes + 777 }, () => Math.floor(random.next() * 256)),
  );
  const frames: { stored: number; plain: number }[] = [];
  const stored: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += frameBytes) {
    const piece = bytes.subarray(at, at + frameBytes);
    const frame = await encodeFrame(piece);
    stored.push(frame);
    frames.push({ stored: frame.length, plain: piece.length });
  }
  const storage = new MemoryStorage();
  storage.put(compressedName(0), Buffer.concat([...stored, encodeTable(frames)]));
  const file = await storage.open(0, 'read');
  assert.is(await file.size(), bytes.length);
  const places = [
    0,
    frameBytes - 1,
    frameBytes,
    3 * frameBytes - 5,
    bytes.length - 3,
    bytes.length,
    bytes.length + 9,
  ];
  for (let n = 0; n < 40; n += 1) places.push(Math.floor(random.next() * bytes.length));
  for (const place of places) {
    const into = Buffer.alloc(Math.ceil(random.next() * 300_000));
    const read = await file.read(into, place);
    assert.ok(into.subarray(0, read).equals(bytes.subarray(place, place + into.length)), `at ${place}`);
  }
  const refused = await file.write(Buffer.from('x'), 0).catch((error) => error.code);
  assert.is(refused, 'EROFS');
});

test('the zstd command gives the plain bytes', async () => {
  if (spawnSync('zstd', ['--version']).status !== 0)
    return console.log('skipped: there is no zstd command here');
  const { storage } = await mixed('command', 1);
  const path = storage.describe(0);
  assert.match(path, /\.jsonl\.zst$/);
  const told = spawnSync('zstd', ['-dc', path], { maxBuffer: 1e8 });
  assert.is(told.status, 0, String(told.stderr));
  assert.ok(told.stdout.equals(readFileSync(join(home, 'plain', segmentName(0)))));
  assert.ok(statSync(path).size < told.stdout.length / 2);
});

test('damage in a frame is told with its place, what lies elsewhere is read, and it is repaired', async () => {
  const { storage, folder } = await mixed('damaged', 1);
  const path = join(folder, compressedName(0));
  const sound = readFileSync(path);
  const frames = sound.readUInt32LE(sound.length - 9);
  const second = sound.readUInt32LE(sound.length - 9 - frames * 8);
  const flipped = Buffer.from(sound);
  flipped[second + 1_000]! ^= 4;
  writeFileSync(path, flipped);
  const text = readFileSync(join(home, 'plain', segmentName(0)));
  // The line that the frame cuts in two is the first that does not hold.
  const offset = text.lastIndexOf(0x0a, frameBytes - 1) + 1;
  const line = text.subarray(offset, text.indexOf(0x0a, offset)).toString();
  const index = JSON.parse(line).index as number;
  assert.type(index, 'number');
  const failed = await verifyLog(storage).catch((error) => error);
  assert.instance(failed, LogDamagedError);
  assert.equal(failed.place, { segment: path, offset, index });
  assert.equal((await readSound(storage)).damage?.place, failed.place);
  const whole = await Log.open({ storage: plain, key: null });
  const into = new MemoryStorage();
  const report = await repairFrom(storage, storageSource(plain), { into, logKey: null, acceptLoss: false });
  assert.equal([report!.size, report!.root, report!.lost], [whole.size, whole.checkpoint.root, 0]);
  assert.equal(report!.damage?.place, failed.place);
  await whole.close();
  assert.equal(
    await everyReading(into).then(({ exported }) => exported),
    (await everyReading(plain)).exported,
  );
});

test('one that is damaged is not made plain again over what is left of it', async () => {
  const { storage, folder } = await mixed('kept', 1);
  const path = join(folder, compressedName(0));
  const bytes = readFileSync(path);
  bytes[50]! ^= 1;
  writeFileSync(path, bytes);
  assert.is(await storage.open(0, 'write').catch((error) => error.code), 'EIO');
  assert.ok(readFileSync(path).equals(bytes));
  assert.not(readdirSync(folder).includes(segmentName(0)));
});

const made = new MemoryStorage();
test.before(() => fill(made, 40, 150, 3_000));

/** A short log, the same each time, with everything synced. */
const small = (): MemoryStorage => made.crash('lost', () => 0);

test('a flip of any bit of a compressed segment, and a cut at any byte, is told or changes nothing that is read', async () => {
  const storage = small();
  const [, second, third] = (await storage.list()) as [number, number, number];
  const whole = await verifyLog(storage);
  await compressBefore(storage, third);
  const bytes = Buffer.from(storage.bytes(compressedName(second))!);
  const seen = { damaged: 0, same: 0 };
  const look = async (changed: Buffer, what: string): Promise<void> => {
    storage.put(compressedName(second), changed);
    const told = await verifyLog(storage).catch((error) => error);
    if (told instanceof LogDamagedError) {
      assert.is(told.place.segment, compressedName(second), what);
      assert.ok(told.place.index >= second && told.place.index < third, what);
      seen.damaged += 1;
    } else {
      assert.equal(told, whole, what);
      seen.same += 1;
    }
  };
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 1 << (at % 8);
    await look(changed, `byte ${at} of ${bytes.length}`);
  }
  for (let length = 0; length < bytes.length; length += 7)
    await look(bytes.subarray(0, length), `${length} bytes`);
  assert.ok(seen.same < 8, JSON.stringify(seen));
  console.log(`${seen.damaged} damages told, ${seen.same} without effect`);
});

test('a crash at any step leaves every segment whole in one form, and the next pass makes an end of it (promise 2)', async () => {
  const begun = small();
  const firsts = await begun.list();
  const before = firsts.at(-1)!;
  const { exported } = await everyReading(begun);
  const quiet = new SteppedStorage(small());
  const done = await compressBefore(quiet, before);
  assert.is(done.segments, firsts.length - 1);
  assert.equal(quiet.calls.slice(0, 7), [
    'beginCompressed',
    'write',
    'write',
    'sync',
    'keepCompressed',
    'syncDirectory',
    'remove',
  ]);
  const found = { plain: 0, compressed: 0, both: 0 };
  const steps = 2 * (quiet.calls.length / done.segments) + 1;
  for (let step = 1; step <= steps; step += 1) {
    for (const kind of CRASH_KINDS) {
      const disk = small();
      const random = new Random(`${kind} at ${step}`);
      const { promise: reached, resolve } = Promise.withResolvers<void>();
      const stepped = new SteppedStorage(disk, (n) => {
        if (n < step) return undefined;
        resolve();
        return new Promise<never>(() => undefined);
      });
      await Promise.race([compressBefore(stepped, before), reached]);
      const after = disk.crash(kind, () => random.next());
      for (const first of firsts) {
        const forms = await after.forms(first);
        assert.ok(forms.length > 0, `${first} is gone: ${kind} at ${step}`);
        found[forms.length === 2 ? 'both' : forms[0]!] += 1;
      }
      assert.is((await everyReading(after)).exported, exported, `${kind} at ${step}`);
      await compressBefore(after, before);
      assert.equal(await after.forms(firsts[0]!), ['compressed']);
      assert.is(await exportOf(after), exported);
    }
  }
  for (const [what, times] of Object.entries(found)) assert.ok(times > 10, `${what}: ${times}`);
});

test('a disk that refuses, or gives back other bytes, costs nothing: the plain one stays', async () => {
  for (const code of ['ENOSPC', 'EIO']) {
    const disk = small();
    const { exported } = await everyReading(disk);
    disk.faults.write = () => {
      throw diskError(code);
    };
    assert.is(await compressBefore(disk, 1e9).catch((error) => error.code), code);
    assert.equal(await disk.forms(0), ['plain']);
    assert.not(
      disk.names().some((name) => name.endsWith('.part')),
      'nothing unfinished',
    );
    assert.is((await everyReading(disk)).exported, exported);
  }
  const disk = small();
  const lying = new SteppedStorage(disk);
  const begin = lying.beginCompressed.bind(lying);
  lying.beginCompressed = async (first) => {
    const file = await begin(first);
    return {
      ...file,
      read: async (into, at) => {
        const read = await file.read(into, at);
        if (at === 0 && read > 30) into[20]! ^= 1;
        return read;
      },
    };
  };
  assert.is(await compressBefore(lying, 1e9).catch((error) => error.code), 'EIO');
  assert.equal(await disk.forms(0), ['plain']);
});

test('what one that was killed left unfinished is removed, and a segment is made in one form only', async () => {
  const { storage, folder } = await mixed('left', 1);
  const part = `${segmentName(0)}.99.part`;
  writeFileSync(join(folder, part), 'half');
  await compressBefore(storage, (await storage.list()).at(-1)!);
  assert.not(readdirSync(folder).includes(part));
  assert.is(await storage.create(0).catch((error) => error.code), 'EEXIST');
  // As a crash leaves it between the two names.
  cpSync(join(home, 'plain', segmentName(0)), join(folder, segmentName(0)));
  assert.equal(await storage.forms(0), ['plain', 'compressed']);
  assert.equal(await storage.list(), await plain.list());
  await compressBefore(storage, (await storage.list()).at(-1)!);
  assert.equal(await storage.forms(0), ['compressed']);
  assert.is((await verifyLog(storage)).root, (await verifyLog(plain)).root);
});

test('a file that is no compressed segment gives damage and nothing else', async () => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('garbage'), Buffer.alloc(5_000, 0xb1)]) {
    const storage = new MemoryStorage();
    storage.put(compressedName(0), bytes);
    const file = await storage.open(0, 'read');
    assert.ok((await file.size()) > 0);
    const told = await verifyLog(storage).catch((error) => error);
    assert.equal([told.code, told.place.offset, told.place.index], ['SF_LOG_DAMAGED', 0, 0]);
    const raw = { size: async () => bytes.length, read: async () => 0, close: async () => {} };
    const refused = await openCompressed(raw, 'refuse')
      .then((each) => each.read(Buffer.alloc(9), 0))
      .catch((error) => error.code);
    assert.is(refused, 'EIO');
  }
});

test.run();
