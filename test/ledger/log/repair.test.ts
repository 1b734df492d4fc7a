import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../../ledger/log/log.ts';
import { type CopySource, exportSource, storageSource } from '../../../ledger/log/log-source.ts';
import { type RepairReport, repairFrom } from '../../../ledger/log/repair.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { signingKeyFromSeed } from '../../../protocol/keys.ts';
import { FOUNDER, image, KEY, long, newLog, started } from '../kit.ts';

const TIME = 1_700_000_000_000;
const SEGMENT = 4000;
const NEXT_KEY = signingKeyFromSeed(Buffer.alloc(32, 11));

interface Bytes {
  name: string;
  bytes: Buffer;
}

/** A log of several segments with a handover in it, as its files and as an export. */
async function made(batches: number): Promise<{ files: Bytes[]; exported: Buffer; size: number }> {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: SEGMENT });
  for (let n = 0; n < batches / 2; n += 1) await log.append([started(n), long(n, 300)], TIME, 1).durable;
  await log.handOver({ founder: FOUNDER, logKey: NEXT_KEY.publicKey }, TIME + 1);
  await log.close();
  const second = await Log.open({ storage, key: NEXT_KEY, limits: { segmentBytes: SEGMENT } });
  for (let n = 0; n < batches / 2; n += 1) await second.append([long(n, 200)], TIME + 2, 2).durable;
  const { size } = second;
  await second.close();
  const files = image(storage);
  return { files, exported: Buffer.concat(files.map(({ bytes }) => bytes)), size };
}

function storageOf(files: Bytes[]): MemoryStorage {
  const storage = new MemoryStorage();
  for (const { name, bytes } of files) storage.put(name, bytes);
  return storage;
}

async function* inPieces(bytes: Buffer, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const exportOf = (bytes: Buffer): CopySource => exportSource('mesh.jsonl', () => inPieces(bytes));

async function repaired(
  files: Bytes[],
  source: CopySource,
  options: { acceptLoss?: boolean; logKey?: Uint8Array | null } = {},
): Promise<{ report: RepairReport | null; result: Buffer }> {
  const into = new MemoryStorage();
  const { acceptLoss = false, logKey = null } = options;
  const report = await repairFrom(storageOf(files), source, {
    into,
    logKey,
    acceptLoss,
    segmentBytes: SEGMENT,
  });
  return { report, result: Buffer.concat(image(into).map(({ bytes }) => bytes)) };
}

const refused = async (promise: Promise<unknown>, code: string): Promise<Error & { got: string }> =>
  promise.then(
    () => assert.unreachable(`expected ${code}`) as never,
    (error) => {
      assert.is(error.code, code, error.message);
      return error;
    },
  );

const damagedAt = (files: Bytes[], file: number, damage: (bytes: Buffer) => Buffer): Bytes[] =>
  files.map((each, at) => (at === file ? { ...each, bytes: damage(Buffer.from(each.bytes)) } : each));

const LOG = await made(20);
// The last two batches are not in it.
const lines = LOG.exported.toString().trimEnd().split('\n');
const SHORTER = Buffer.from(`${lines.slice(0, -4).join('\n')}\n`);

test('a byte flipped anywhere is mended from an export and from another copy, to the same bytes', async () => {
  assert.ok(LOG.files.length > 2);
  for (const [file, { bytes }] of LOG.files.entries()) {
    for (const at of [0, Math.floor(bytes.length / 3), bytes.length - 200, bytes.length - 1]) {
      const files = damagedAt(LOG.files, file, (whole) => {
        whole[at]! ^= 4;
        return whole;
      });
      for (const source of [exportOf(LOG.exported), storageSource(storageOf(LOG.files))]) {
        const { report, result } = await repaired(files, source);
        assert.ok(result.equals(LOG.exported), `file ${file}, byte ${at}`);
        assert.is(report!.size, LOG.size);
        assert.is(report!.sound + report!.taken, LOG.size);
        assert.is(report!.lost, 0);
      }
    }
  }
});

test('what is missing is taken: a segment, an end, bytes in the middle, all but the key', async () => {
  const cases: [string, Bytes[]][] = [
    ['a segment', LOG.files.filter((_, at) => at !== 1)],
    ['the first segment', LOG.files.slice(1)],
    ['the last segment', LOG.files.slice(0, -1)],
    ['a middle', damagedAt(LOG.files, 1, (b) => Buffer.concat([b.subarray(0, 900), b.subarray(1500)]))],
    ['sectors of zeros', damagedAt(LOG.files, 0, (b) => b.fill(0, 512, 2048))],
    ['more zeros than a line', damagedAt(LOG.files, 1, (b) => Buffer.concat([Buffer.alloc(200_000), b]))],
    ['everything', []],
  ];
  for (const [what, files] of cases) {
    const { result } = await repaired(files, exportOf(LOG.exported), { logKey: NEXT_KEY.publicKey });
    assert.ok(result.equals(LOG.exported), what);
  }
});

test('a log that holds and has all the source has is left alone; one that is only shorter goes on', async () => {
  assert.is((await repaired(LOG.files, exportOf(LOG.exported))).report, null);
  assert.is((await repaired(LOG.files, exportOf(SHORTER))).report, null);
  const { report, result } = await repaired(
    [{ name: LOG.files[0]!.name, bytes: SHORTER }],
    exportOf(LOG.exported),
  );
  assert.ok(result.equals(LOG.exported));
  assert.equal([report!.damage, report!.taken], [null, 2]);
});

test('nothing that the damaged log still proves is given up, unless that is said', async () => {
  // The source ends before the last two batches, whose checkpoints still stand behind the damage.
  for (const damage of [
    (b: Buffer) => b.fill('x', 100, 110),
    (b: Buffer) => Buffer.concat([b.subarray(0, 100), Buffer.alloc(150_000), b.subarray(100)]),
  ]) {
    const files = damagedAt(LOG.files, 0, damage);
    const error = await refused(repaired(files, exportOf(SHORTER)), 'SF_BEHIND');
    assert.match(error.message, /ends before what the damaged log still proves/);
    const { report, result } = await repaired(files, exportOf(SHORTER), { acceptLoss: true });
    assert.is(report!.lost, 2);
    assert.ok(result.equals(SHORTER));
  }
});

test('a source that forks is refused, both places named, whether the fork is in what holds or behind the damage', async () => {
  const fork = async (from: number): Promise<Buffer> => {
    const storage = new MemoryStorage();
    const log = await newLog(storage);
    for (let n = 0; n < 20; n += 1) {
      await log.append([started(n < from ? n : n + 1000)], TIME, 1).durable;
    }
    await log.close();
    return Buffer.concat(image(storage).map(({ bytes }) => bytes));
  };
  const [ours, early, late] = [await fork(100), await fork(3), await fork(15)];
  const at = ours.indexOf('"index":10');
  const damaged = [{ name: '0000000000000000.jsonl', bytes: Buffer.from(ours).fill('x', at, at + 3) }];
  for (const theirs of [early, late]) {
    const error = await refused(repaired(damaged, exportOf(theirs)), 'SF_EQUIVOCATION');
    assert.match(error.message, /mesh\.jsonl/);
    assert.match(error.message, theirs === late ? /0000000000000000\.jsonl at byte \d+/ : /this log/);
  }
  assert.ok((await repaired(damaged, exportOf(ours))).result.equals(ours));
});

test('a source that is of another mesh, damaged or cut is refused', async () => {
  const storage = new MemoryStorage();
  const other = await Log.create({
    storage,
    genesis: {
      ...(await Log.open({ storage: storageOf(LOG.files), key: null })).genesis,
      nonce: 'f'.repeat(32),
    },
    key: KEY,
    time: TIME,
  });
  await other.close();
  const foreign = Buffer.concat(image(storage).map(({ bytes }) => bytes));
  const files = damagedAt(LOG.files, 1, (b) => b.fill('x', 10, 12));
  await refused(repaired(files, exportOf(foreign)), 'SF_NOT_PROVED');
  const nothingSound = damagedAt(LOG.files.slice(0, 1), 0, (b) => b.fill('x', 10, 12));
  await refused(repaired(nothingSound, exportOf(foreign)), 'SF_NOT_PROVED');
  await refused(
    repaired([], exportOf(LOG.exported), { logKey: signingKeyFromSeed(Buffer.alloc(32, 99)).publicKey }),
    'SF_NOT_PROVED',
  );
  const flipped = Buffer.from(LOG.exported);
  flipped[flipped.length - 300]! ^= 1;
  await refused(repaired(files, exportOf(flipped)), 'SF_LOG_DAMAGED');
  await refused(repaired(files, exportOf(LOG.exported.subarray(0, -1))), 'SF_LOG_DAMAGED');
  await refused(repaired(files, exportOf(Buffer.alloc(0))), 'SF_LOG_DAMAGED');
});

test.run();
