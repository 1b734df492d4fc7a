import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogStorage } from '../../../ledger/storage/storage.ts';
import { segmentFirst, segmentName } from '../../../ledger/storage/storage.ts';
import { diskError, MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { BACKENDS } from '../kit.ts';

const bytes = (text: string): Buffer => Buffer.from(text);

async function contentOf(storage: LogStorage, first: number): Promise<string> {
  const file = await storage.open(first, 'read');
  const into = Buffer.alloc(1024);
  const read = await file.read(into, 0).finally(() => file.close());
  return into.subarray(0, read).toString();
}

for (const { name, make } of BACKENDS) {
  const on = (what: string, run: (storage: LogStorage) => Promise<void>): void =>
    test(`${name}: ${what}`, async () => {
      const { storage, remove } = await make();
      await run(storage).finally(remove);
    });

  on('there is nothing at first', async (storage) => {
    assert.equal(await storage.list(), []);
  });

  on('what is written is read back, and in pieces too', async (storage) => {
    const file = await storage.create(0);
    assert.is(await file.write(bytes('hello '), 0), 6);
    assert.is(await file.write(bytes('world'), 6), 5);
    await file.sync();
    await storage.syncDirectory();
    assert.is(await file.size(), 11);
    const into = Buffer.alloc(4);
    assert.is(await file.read(into, 6), 4);
    assert.is(into.toString(), 'worl');
    assert.is(await file.read(into, 10), 1);
    assert.is(await file.read(into, 11), 0);
    await file.close();
    assert.is(await contentOf(storage, 0), 'hello world');
  });

  on('segments are listed in the order of their numbers', async (storage) => {
    for (const first of [1_000_000, 0, 99]) await (await storage.create(first)).close();
    assert.equal(await storage.list(), [0, 99, 1_000_000]);
  });

  on('a segment is made once and opened only where it is', async (storage) => {
    await (await storage.create(5)).close();
    await storage.create(5).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'EEXIST'),
    );
    await storage.open(6, 'write').then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'ENOENT'),
    );
  });

  on('truncating takes the end off, and writing goes on from there', async (storage) => {
    const file = await storage.create(0);
    await file.write(bytes('0123456789'), 0);
    await file.truncate(4);
    await file.write(bytes('x'), 4);
    await file.sync();
    await file.close();
    assert.is(await contentOf(storage, 0), '0123x');
  });

  on('copies of a cut are kept beside each other and are no segments', async (storage) => {
    const file = await storage.create(0);
    await file.write(bytes('good torn'), 0);
    await file.close();
    const copies = [await storage.keepCut(0, 5), await storage.keepCut(0, 5)];
    assert.is(new Set(copies).size, 2);
    for (const copy of copies) assert.match(copy, /cut-0000000000000000-5/);
    assert.equal(await storage.list(), [0]);
    assert.is(await contentOf(storage, 0), 'good torn');
  });
}

test('names of segments sort as their numbers do', () => {
  assert.is(segmentName(42), '0000000000000042.jsonl');
  assert.is(segmentFirst(segmentName(Number.MAX_SAFE_INTEGER)), Number.MAX_SAFE_INTEGER);
  for (const other of ['cut-0000000000000042-7', '42.jsonl', '0000000000000042.jsonl.new']) {
    assert.is(segmentFirst(other), null);
  }
});

test('memory: a power failure spares what was synced and nothing that was not promised', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await storage.syncDirectory();
  await file.write(Buffer.alloc(5000, 'a'), 0);
  await file.sync();
  await file.write(Buffer.alloc(9000, 'b'), 5000);
  const left = async (kind: Parameters<MemoryStorage['crash']>[0], draw: number): Promise<Buffer> =>
    storage.crash(kind, () => draw).bytes(segmentName(0))!;
  assert.is((await left('lost', 0)).length, 5000);
  assert.is((await left('kept', 0)).length, 14_000);
  assert.is((await left('prefix', 0.5)).length, 9500);
  const zeros = await left('zeros', 0.5);
  assert.is(zeros.length, 14_000);
  assert.ok(zeros.subarray(9000).every((byte) => byte === 0));
  const pages = await left('pages', 0.9);
  assert.ok(pages.subarray(0, 5000).every((byte) => byte === 'a'.charCodeAt(0)));
  assert.ok(pages.subarray(5000).every((byte) => byte === 0));
});

test('memory: any of the sectors, and no more of the length than was written, are left of what was not synced', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await storage.syncDirectory();
  await file.write(Buffer.alloc(700, 'a'), 0);
  await file.sync();
  await file.write(Buffer.alloc(2000, 'b'), 700);
  let draws = 0;
  const left = storage.crash('sectors', () => (draws++ === 0 ? 0.9 : draws % 2 === 0 ? 0.1 : 0.9));
  const found = left.bytes(segmentName(0))!.toString('latin1');
  // The sector that the sync shares with what came after keeps what was synced, whether it was lost or not.
  assert.match(found, /^a{700}b{324}\0{512}b{512}\0{452}$/);
});

test('memory: what a failed sync gave up is read still, and reaches the disk only when it is written anew', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await storage.syncDirectory();
  await file.write(bytes('good '), 0);
  await file.sync();
  await file.write(bytes('lost'), 5);
  storage.faults.sync = () => {
    throw diskError('EIO');
  };
  await file.sync().catch(() => undefined);
  delete storage.faults.sync;
  await file.sync();
  assert.is(await contentOf(storage, 0), 'good lost');
  for (const kind of ['lost', 'kept'] as const) {
    assert.is(await contentOf(storage.crash(kind), 0), 'good \0\0\0\0', kind);
  }
  const next = storage.crash('process');
  const again = await next.open(0, 'write');
  await again.write(bytes('lost'), 5);
  await again.sync();
  assert.is(await contentOf(next.crash('lost'), 0), 'good lost');
  assert.is(await contentOf(storage.crash('lost'), 0), 'good \0\0\0\0');
});

test('memory: a copy of a cut that finds no room leaves nothing', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await file.write(bytes('0123456789'), 0);
  storage.faults.capacityBytes = 12;
  await storage.keepCut(0, 5).then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'ENOSPC'),
  );
  assert.equal(storage.names(), [segmentName(0)]);
});

test('memory: a segment whose folder was never synced may be gone', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await file.write(bytes('x'), 0);
  await file.sync();
  assert.equal(await storage.crash('lost').list(), []);
  await storage.syncDirectory();
  assert.equal(await storage.crash('lost').list(), [0]);
});

test('memory: the dead write into nothing that the living see', async () => {
  const storage = new MemoryStorage();
  const file = await storage.create(0);
  await file.write(bytes('before'), 0);
  const after = storage.crash('process');
  await file.write(bytes('after!'), 0);
  assert.is(await contentOf(after, 0), 'before');
});

test('memory: a full disk takes what fits, then nothing', async () => {
  const storage = new MemoryStorage();
  storage.faults.capacityBytes = 10;
  const file = await storage.create(0);
  assert.is(await file.write(Buffer.alloc(8), 0), 8);
  assert.is(await file.write(Buffer.alloc(8), 8), 2);
  await file.write(Buffer.alloc(8), 10).then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'ENOSPC'),
  );
  storage.faults.sync = () => {
    throw diskError('EIO');
  };
  await file.sync().then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'EIO'),
  );
});

test.run();
