import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogDamagedError } from '../../../ledger/log/damage.ts';
import { Log } from '../../../ledger/log/log.ts';
import { verifyExport, verifyLog } from '../../../ledger/log/verify.ts';
import type { LogStorage } from '../../../ledger/storage/storage.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { BACKENDS, KEY, long, newLog, started } from '../kit.ts';

const TIME = 1_700_000_000_000;

async function filled(storage: LogStorage): Promise<Log> {
  const log = await newLog(storage, { segmentBytes: 4000 });
  for (let n = 0; n < 40; n += 1) await log.append([started(n), long(n, 300)], TIME, 1).durable;
  return log;
}

async function exported(log: Log): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of log.export()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const damage = async (verified: Promise<unknown>): Promise<LogDamagedError> =>
  verified.then(
    () => assert.unreachable() as never,
    (error) => {
      assert.is(error.code, 'SF_LOG_DAMAGED');
      return error;
    },
  );

for (const { name, make } of BACKENDS) {
  test(`${name}: a whole log verifies, with progress, and says what it found (promise 4)`, async () => {
    const { storage, remove } = await make();
    const log = await filled(storage);
    let entries = 0;
    const report = await verifyLog(storage, { onProgress: (at) => (entries = at.entries) });
    assert.equal(report, {
      mesh: log.meshId,
      size: 81,
      root: log.checkpoint.root,
      from: 0,
      checkpoints: 41,
      segments: (await storage.list()).length,
      tornBytes: 0,
    });
    assert.is(entries, 81);
    await log.close();
    await remove();
  });

  test(`${name}: an export is the bytes of the segments, and verifies in pieces of any size (promise 4)`, async () => {
    const { storage, remove } = await make();
    const log = await filled(storage);
    const bytes = await exported(log);
    for (const size of [7, 1000, bytes.length]) {
      const report = await verifyExport(inPieces(bytes, size), 'mesh.jsonl');
      assert.equal([report.mesh, report.size, report.root], [log.meshId, 81, log.checkpoint.root]);
    }
    await log.close();
    await remove();
  });
}

test('a log verifies while it is being written: a batch under way is no damage', async () => {
  const storage = new MemoryStorage();
  const log = await filled(storage);
  const sizes: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    for (let n = 0; n < 10; n += 1) log.append([long(n, 2000)], TIME, 1);
    const report = await verifyLog(storage);
    sizes.push(report.size);
  }
  assert.ok(sizes.at(-1)! > sizes[0]!);
  await log.close();
});

test('every flipped bit of an export is found, the signatures of the middle included (promise 4)', async () => {
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  await log.append([started(1)], TIME, 1).durable;
  await log.append([started(2)], TIME, 1).durable;
  const bytes = await exported(log);
  let found = 0;
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const { place } = await damage(verifyExport(inPieces(flipped, bytes.length), 'mesh.jsonl'));
    assert.is(place.segment, 'mesh.jsonl');
    found += 1;
  }
  assert.is(found, bytes.length * 8);
  await log.close();
});

test('an export cut short is not taken for a whole one, unless it ends with a checkpoint', async () => {
  const log = await filled(new MemoryStorage());
  const bytes = await exported(log);
  const lines = bytes.toString().trimEnd().split('\n');
  await damage(verifyExport(inPieces(bytes.subarray(0, -1), 500), 'cut'));
  await damage(verifyExport(inPieces(Buffer.from(`${lines.slice(0, -1).join('\n')}\n`), 500), 'cut'));
  await damage(verifyExport(inPieces(Buffer.alloc(0), 1), 'empty'));
  await damage(verifyExport(inPieces(Buffer.alloc(300_000, 'x'), 9000), 'one line'));
  const shorter = Buffer.from(`${lines.slice(0, -3).join('\n')}\n`);
  assert.is((await verifyExport(inPieces(shorter, 500), 'shorter')).size, 79);
});

test('verification ends when it is told to', async () => {
  const storage = new MemoryStorage();
  await filled(storage);
  const abort = new AbortController();
  abort.abort();
  await verifyLog(storage, { signal: abort.signal }).then(
    () => assert.unreachable(),
    (error) => assert.is(error.name, 'AbortError'),
  );
});

test('a log whose oldest signatures are bad opens no proof of them (promise 4)', async () => {
  const storage = new MemoryStorage();
  const log = await filled(storage);
  await log.close();
  const [name] = storage.names() as [string];
  const bytes = Buffer.from(storage.bytes(name)!);
  // In the first signature, far from any root.
  const at = bytes.indexOf('— ') + 100;
  bytes[at] = bytes[at] === 65 ? 66 : 65;
  storage.put(name, bytes);
  await damage(verifyLog(storage));
  await damage(Log.open({ storage, key: KEY }));
});

test.run();
