import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { handoverBatch } from '../../../ledger/log/handover.ts';
import { Log } from '../../../ledger/log/log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import { verifyLog } from '../../../ledger/log/verify.ts';
import { diskError, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { signingKeyFromSeed } from '../../../protocol/keys.ts';
import { KEY, newLog, OTHER_KEY, started } from '../kit.ts';

const TIME = 1_700_000_000_000;
const NEXT = signingKeyFromSeed(Buffer.alloc(32, 21));
const THIRD = signingKeyFromSeed(Buffer.alloc(32, 22));

const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
  } catch (error) {
    return (error as SuperfleetError).code;
  }
  return 'none';
};

/** Everything of a log in pieces of about so many bytes. */
async function pieces(log: Log | LogCopy, from: number, bytes: number): Promise<Buffer[]> {
  const all: Buffer[] = [];
  let next = from;
  for await (const piece of log.raw(from, bytes)) {
    assert.is(piece.first, next, 'pieces follow each other');
    next = piece.size;
    all.push(piece.bytes);
  }
  assert.is(next, log.size);
  return all;
}

async function filled(entries: number, segmentBytes: number): Promise<{ log: Log; storage: MemoryStorage }> {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes });
  for (let n = 1; n < entries; ) {
    const many = Math.min(1 + (n % 4), entries - n);
    await log.append(
      Array.from({ length: many }, (_, at) => started(n + at)),
      TIME + n,
      1,
    ).durable;
    n += many;
  }
  return { log, storage };
}

test('a copy takes the bytes of the log in pieces of any length and ends as the log does (promise 6)', async () => {
  const { log } = await filled(60, 2500);
  for (const bytes of [1, 700, 5000, 1_000_000]) {
    const storage = new MemoryStorage();
    const [first, ...rest] = await pieces(log, 0, bytes);
    const copy = await LogCopy.create({ storage, mesh: log.meshId, segmentBytes: 2500 }, first!);
    for (const piece of rest) await copy.take(piece);
    assert.is(copy.checkpoint.text, log.checkpoint.text);
    await copy.close();
    assert.is((await verifyLog(storage)).root, log.checkpoint.root);
    const again = await LogCopy.open({ storage, mesh: log.meshId });
    assert.is(again.size, log.size);
    assert.equal(await again.read(7, 9), await log.read(7, 9));
    await again.close();
  }
  await log.close();
});

test('a piece whose sync failed, and that could not be taken back, is on the disk before the next start speaks of it (promise 6)', async () => {
  const { log } = await filled(60, 1_000_000);
  const [first, ...rest] = await pieces(log, 0, 1);
  const disk = new MemoryStorage();
  const copy = await LogCopy.create({ storage: disk, mesh: log.meshId }, first!);
  // As Linux does: the pages are given up, still read, and taken for written by every later sync.
  const refuse = (): void => {
    throw diskError('EIO');
  };
  disk.faults.sync = refuse;
  disk.faults.truncate = refuse;
  assert.is(await codeOf(copy.take(Buffer.concat(rest))), 'SF_LOG_FAILED');
  await copy.close();
  assert.is(copy.size, 1);
  delete disk.faults.sync;
  delete disk.faults.truncate;
  const again = await LogCopy.open({ storage: disk, mesh: log.meshId });
  assert.is(again.size, 60);
  await again.close();
  const later = await LogCopy.open({ storage: disk.crash('lost'), mesh: log.meshId });
  assert.is(later.checkpoint.text, log.checkpoint.text);
  await later.close();
  await log.close();
});

test('pieces begin at any batch', async () => {
  const { log } = await filled(40, 1800);
  for await (const { first } of log.batches(0)) {
    const bytes = Buffer.concat(await pieces(log, first, 900)).toString();
    assert.ok(bytes.startsWith(`{"index":${first},`), `from ${first}`);
    assert.ok(bytes.endsWith('"}\n'));
  }
  await log.close();
});

test('a copy takes nothing of a piece in which one byte is another (promise 6)', async () => {
  const { log } = await filled(12, 100_000);
  const [first, second] = await pieces(log, 0, 1500);
  const storage = new MemoryStorage();
  const copy = await LogCopy.create({ storage, mesh: log.meshId }, first!);
  const { text } = copy.checkpoint;
  for (let at = 0; at < second!.length; at += 7) {
    const forged = Buffer.from(second!);
    forged[at]! ^= 1;
    const code = await codeOf(copy.take(forged));
    // A signature of another name is passed over, as the note format has it; nothing else goes through.
    assert.is(code, 'SF_NOT_PROVED', `byte ${at}`);
    assert.is(copy.checkpoint.text, text);
  }
  assert.is(await codeOf(copy.take(second!.subarray(0, -1))), 'SF_NOT_PROVED');
  assert.is(await codeOf(copy.take(Buffer.alloc(0))), 'SF_NOT_PROVED');
  assert.is(await codeOf(copy.take(first!)), 'SF_NOT_PROVED', 'what it has already does not follow');
  await copy.take(second!);
  assert.ok(copy.size > 4);
  await copy.close();
  await log.close();
});

test('a copy says nothing before its sync, and is stopped for good by a failed one (promise 6)', async () => {
  const { log } = await filled(30, 100_000);
  const [first, second] = await pieces(log, 0, 2000);
  const storage = new MemoryStorage();
  const copy = await LogCopy.create({ storage, mesh: log.meshId }, first!);
  const size = copy.size;
  const told: number[] = [];
  copy.subscribe(({ checkpoint }) => told.push(checkpoint.size));
  storage.faults.sync = () => {
    throw Object.assign(new Error('EIO'), { code: 'EIO' });
  };
  assert.is(await codeOf(copy.take(second!)), 'SF_LOG_FAILED');
  delete storage.faults.sync;
  assert.is(await codeOf(copy.take(second!)), 'SF_LOG_FAILED', 'no second try on this disk');
  assert.equal([copy.size, told], [size, []]);
  await copy.close();
  await log.close();
});

test('of what the founder sent the last signature is checked, which all entries are under; of what others sent, each (promise 6)', async () => {
  const { log } = await filled(40, 100_000);
  const [first, second] = await pieces(log, 0, 3000);
  const storage = new MemoryStorage();
  const copy = await LogCopy.create({ storage, mesh: log.meshId }, first!);
  const text = second!.toString();
  /** Another signature, as well formed, in the n-th checkpoint of the piece. */
  const signedAnew = (n: number): Buffer => {
    let at = -1;
    return Buffer.from(
      text.replace(/[A-Za-z0-9+/]{40}(?=[A-Za-z0-9+/]{3}=\\n"\})/g, (taken) => {
        at += 1;
        return at === n ? [...taken].reverse().join('') : taken;
      }),
    );
  };
  const checkpoints = text.split('{"checkpoint"').length - 1;
  assert.ok(checkpoints > 3);
  assert.is.not(signedAnew(checkpoints - 1).toString(), text);
  for (let n = 0; n < checkpoints; n += 1) {
    assert.is(await codeOf(copy.take(signedAnew(n))), 'SF_NOT_PROVED', `checkpoint ${n}`);
  }
  assert.is(await codeOf(copy.take(signedAnew(checkpoints - 1), 'last')), 'SF_NOT_PROVED');
  for (let at = 0; at < second!.length; at += 11) {
    const entries = Buffer.from(second!);
    entries[at]! ^= 1;
    const line = entries.lastIndexOf(0x0a, at - 1) + 1;
    if (second![line + 2] !== 'i'.charCodeAt(0)) continue;
    assert.is(await codeOf(copy.take(entries, 'last')), 'SF_NOT_PROVED', `byte ${at}`);
  }
  assert.is((await copy.take(second!, 'last')).text, copy.checkpoint.text);
  await copy.close();
  await log.close();
});

test('pieces taken without waiting share writes, and none is spoken of before its sync (promise 6)', async () => {
  const { log } = await filled(60, 100_000);
  const [first, ...rest] = await pieces(log, 0, 1000);
  assert.ok(rest.length > 4);
  const storage = new MemoryStorage();
  const copy = await LogCopy.create({ storage, mesh: log.meshId }, first!);
  const size = copy.size;
  let syncs = 0;
  const gate = Promise.withResolvers<void>();
  storage.faults.sync = () => {
    syncs += 1;
    return gate.promise;
  };
  const held: number[] = [];
  const taken = rest.map((piece) => copy.take(piece).then((checkpoint) => held.push(checkpoint.size)));
  assert.is(await codeOf(copy.take(first!)), 'SF_NOT_PROVED', 'what does not follow those before is refused');
  assert.equal([copy.size, held], [size, []]);
  gate.resolve();
  await Promise.all(taken);
  assert.is(syncs, 2, 'of the first, and of all that came meanwhile');
  assert.equal(
    held,
    [...held].sort((a, b) => a - b),
  );
  assert.is(copy.checkpoint.text, log.checkpoint.text);
  await copy.close();
  assert.is((await verifyLog(storage)).root, log.checkpoint.root);

  const founders = new MemoryStorage();
  await (await LogCopy.create({ storage: founders, mesh: log.meshId }, first!)).close();
  const restored = await Log.open({ storage: founders, key: KEY });
  await Promise.all(rest.map((piece) => restored.take(piece)));
  assert.is(
    restored.checkpoint.text,
    log.checkpoint.text,
    'the founder takes back what it lost in the same way',
  );
  await restored.close();

  const failing = new MemoryStorage();
  const other = await LogCopy.create({ storage: failing, mesh: log.meshId }, first!);
  failing.faults.sync = () => {
    throw Object.assign(new Error('EIO'), { code: 'EIO' });
  };
  const codes = await Promise.all(rest.map((piece) => codeOf(other.take(piece))));
  assert.equal(
    codes,
    rest.map(() => 'SF_LOG_FAILED'),
  );
  assert.is(other.size, size);
  await other.close();
  await log.close();
});

test('a log that takes back the handover it had lost is fenced by it (promise 8)', async () => {
  const { log } = await filled(9, 100_000);
  const older = new MemoryStorage();
  for (const piece of await pieces(log, 0, 1_000_000)) {
    await (await LogCopy.create({ storage: older, mesh: log.meshId }, piece)).close();
  }
  const { size } = log;
  await log.handOver({ founder: NEXT.peer, logKey: NEXT.publicKey }, TIME + 60);
  const back = await Log.open({ storage: older, key: KEY });
  for (const piece of await pieces(log, size, 1_000_000)) await back.take(piece);
  assert.is(back.checkpoint.text, log.checkpoint.text);
  for (const epoch of [1, 2]) {
    assert.throws(
      () => back.append([started(1)], TIME, epoch),
      (error: SuperfleetError) => error.code === 'SF_FENCED',
    );
  }
  await back.close();
  await log.close();
});

test('after a handover only the next key signs, and the log before refuses appends (promise 8)', async () => {
  const { log, storage } = await filled(9, 100_000);
  const before = log.append([started(50)], TIME + 50, 1).durable;
  const checkpoint = await log.handOver({ founder: NEXT.peer, logKey: NEXT.publicKey }, TIME + 60);
  assert.is((await before).size + 1, checkpoint.size);
  assert.throws(
    () => log.append([started(1)], TIME, 1),
    (error: SuperfleetError) => error.code === 'SF_FENCED',
  );
  assert.throws(
    () => log.append([started(1)], TIME, 2),
    (error: SuperfleetError) => error.code === 'SF_FENCED',
  );
  await log.close();
  assert.is(await codeOf(Log.open({ storage, key: KEY })), 'SF_FENCED', 'after a restart, too');
  const second = await Log.open({ storage, key: NEXT });
  assert.equal([second.epoch, second.leadership.founder], [2, NEXT.peer]);
  await second.append([started(2)], TIME + 70, 2).durable;
  for (let size = 1; size <= second.size; size += 1) {
    const at = await second.checkpointAt(size);
    if (size > 9) assert.ok(at !== null);
  }
  await second.close();
  const report = await verifyLog(storage);
  assert.is(report.size, second.size);

  // A copy follows over the handover.
  const copied = new MemoryStorage();
  const [first, ...rest] = await pieces(second, 0, 600);
  const copy = await LogCopy.create({ storage: copied, mesh: second.meshId }, first!);
  for (const piece of rest) await copy.take(piece);
  assert.equal([copy.epoch, copy.checkpoint.text], [2, second.checkpoint.text]);
  await copy.close();
});

test('a copy is promoted by the recovery key, by no other key, and once for an epoch (promise 8)', async () => {
  const { log } = await filled(15, 100_000);
  const storage = new MemoryStorage();
  const copy = await LogCopy.create(
    { storage, mesh: log.meshId },
    Buffer.concat(await pieces(log, 0, 10_000)),
  );
  const to = { founder: NEXT.peer, logKey: NEXT.publicKey, authority: 'recovery' as const };
  for (const key of [KEY, NEXT]) {
    const { bytes } = handoverBatch(copy.standing, to, key, TIME + 100);
    assert.is(await codeOf(copy.take(bytes)), 'SF_NOT_PROVED');
  }
  const reused = handoverBatch(copy.standing, { ...to, logKey: KEY.publicKey }, OTHER_KEY, TIME + 100);
  assert.is(await codeOf(copy.take(reused.bytes)), 'SF_NOT_PROVED', 'a key that signed before');
  const rival = handoverBatch(
    copy.standing,
    { ...to, founder: THIRD.peer, logKey: THIRD.publicKey },
    OTHER_KEY,
    TIME + 100,
  );
  await copy.take(handoverBatch(copy.standing, to, OTHER_KEY, TIME + 100).bytes);
  assert.equal([copy.epoch, copy.leadership.founder], [2, NEXT.peer]);
  assert.is(await codeOf(copy.take(rival.bytes)), 'SF_NOT_PROVED', 'the epoch is open');

  // The founder of before, back again, is refused by whoever follows the new one.
  await log.append([started(99)], TIME + 200, 1).durable;
  const late = await pieces(log, 15, 10_000);
  assert.is(await codeOf(copy.take(Buffer.concat(late))), 'SF_NOT_PROVED');
  await copy.close();
  const promoted = await Log.open({ storage, key: NEXT });
  await promoted.append([started(3)], TIME + 300, 2).durable;
  await promoted.close();
  assert.is((await verifyLog(storage)).size, 17);
  await log.close();
});

test('a torn piece of several batches is cut, a copy kept; what was synced stays', async () => {
  const { log } = await filled(40, 1_000_000);
  const [first, second] = await pieces(log, 0, 3000);
  for (const cut of [1, 600, 1500, second!.length - 1]) {
    const storage = new MemoryStorage();
    const copy = await LogCopy.create({ storage, mesh: log.meshId }, first!);
    const { size } = copy;
    await copy.close();
    const [name] = storage.names();
    storage.put(name!, Buffer.concat([first!, second!.subarray(0, cut)]));
    const again = await LogCopy.open({ storage, mesh: log.meshId });
    assert.ok(again.size >= size);
    await again.close();
    // Whole sectors in its midst that never reached the disk.
    const holed = Buffer.concat([first!, second!]);
    const begin = Math.ceil((first!.length + 100) / 512) * 512;
    holed.fill(0, begin, begin + 512);
    storage.put(name!, holed);
    const third = await LogCopy.open({ storage, mesh: log.meshId });
    assert.ok(third.size >= size && third.size < log.size);
    assert.ok(third.cut !== null);
    await third.close();
  }
  await log.close();
});

test.run();
