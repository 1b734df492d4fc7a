import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Level } from 'level';
import { MemoryLevel } from 'memory-level';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type IndexDatabase, openIndexDatabase } from '../../../ledger/index/index-database.ts';
import { type IndexedLog, IndexStore } from '../../../ledger/index/index-store.ts';
import { keepIndexed } from '../../../ledger/index/keep-indexed.ts';
import type { LogEvent } from '../../../ledger/lines/events.ts';
import { type DurableBatch, Log } from '../../../ledger/log/log.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { FOUNDER, KEY, newLog, started, taskId } from '../kit.ts';
import { Entries, TASK } from '../state/entries.ts';

const TIME = 1_700_000_000_000;

/** A log in which every third entry is about task 1, and others about task 2 and 3. */
async function filled(): Promise<{ log: Log; storage: MemoryStorage; expected: number[] }> {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: 3000 });
  for (let n = 0; n < 60; n += 1) await log.append([started(1 + (n % 3))], TIME, 1).durable;
  const expected = Array.from({ length: 20 }, (_, n) => 1 + 3 * n);
  return { log, storage, expected };
}

const OTHER = 'bbbbbbbbbbbb';

/** One task of the founder's own that has ended, and one of a member that has not. */
function submissions(): Entries {
  const entries = new Entries().admit('ada').submit().assign(1, 'ada').execute(1).converge(false, 0.3);
  const { body } = new Entries().submit(OTHER).all[1] as { body: object };
  const by = { kind: 'peer', peer: FOUNDER };
  return entries.add({ type: 'task.submitted', body: { ...body, by } } as LogEvent);
}

const keysOf = async (db: IndexDatabase, kind: string): Promise<string[]> => {
  const found = await db.iterator({ gte: `${kind}!`, lte: `${kind}"`, limit: 10_000 }).all();
  return found.map(([key]) => key);
};

const bound = (db: IndexDatabase): IndexDatabase => ({
  get: (key) => db.get(key),
  put: (key, value) => db.put(key, value),
  batch: (changes) => db.batch(changes),
  iterator: (range) => db.iterator(range),
  clear: (range) => db.clear(range),
  close: () => db.close(),
});

const backends: { name: string; make(): Promise<{ db: IndexDatabase; remove(): Promise<void> }> }[] = [
  {
    name: 'memory',
    make: async () => {
      const db = new MemoryLevel<string, string>();
      return { db, remove: () => db.close() };
    },
  },
  {
    name: 'disk',
    make: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'superfleet-index-'));
      const db = await openIndexDatabase(folder);
      return { db, remove: () => db.close().then(() => rm(folder, { recursive: true })) };
    },
  },
];

for (const { name, make } of backends) {
  const on = (what: string, run: (db: IndexDatabase) => Promise<void>): void =>
    test(`${name}: ${what}`, async () => {
      const { db, remove } = await make();
      await run(db).finally(remove);
    });

  on('the history of a task is the entries about it, in order, and grows with the log', async (db) => {
    const { log, expected } = await filled();
    const store = await IndexStore.open(db, log);
    assert.equal(await store.history(taskId(1)), expected);
    const { first, durable } = log.append([started(1)], TIME, 1);
    await durable;
    assert.equal(await store.history(taskId(1)), [...expected, first]);
    assert.equal(await store.history(taskId(77)), []);
    assert.is(store.built, log.size);
  });

  on(
    'a history that grows between two reads of the database is whole, and nothing is built anew for it',
    async (db) => {
      const { log, expected } = await filled();
      const grown: number[] = [];
      let cleared = 0;
      let armed = false;
      const store = await IndexStore.open(
        {
          ...bound(db),
          clear: (range) => {
            cleared += 1;
            return db.clear(range);
          },
          iterator: (range) => ({
            all: async () => {
              const found = await db.iterator(range).all();
              if (armed) {
                armed = false;
                const { first, durable } = log.append([started(1)], TIME, 1);
                await durable;
                grown.push(first);
                await store.catchUp();
              }
              return found;
            },
          }),
        },
        log,
      );
      await store.catchUp();
      cleared = 0;
      armed = true;
      assert.equal(await store.history(taskId(1)), [...expected, ...grown]);
      assert.is(grown.length, 1);
      assert.is(cleared, 0);
    },
  );

  on('what was built is taken up again where it is of a beginning of this log', async (db) => {
    const { log, expected } = await filled();
    await (await IndexStore.open(db, log)).catchUp();
    await log.append([started(2)], TIME, 1).durable;
    const again = await IndexStore.open(db, log);
    assert.is(again.built, log.size - 1);
    assert.equal(await again.history(taskId(1)), expected);
  });

  on('what is of another log, or of more than this log has, is thrown away', async (db) => {
    const { log, storage } = await filled();
    const early = storage.crash('process');
    await log.append([started(1)], TIME, 1).durable;
    const store = await IndexStore.open(db, log);
    await store.catchUp();
    // A folder put back from a backup: the log is shorter than what was indexed.
    const restored = await Log.open({ storage: early, key: KEY });
    const shorter = await IndexStore.open(db, restored);
    assert.is(shorter.built, 0);
    await shorter.catchUp();
    // The same size with another history.
    await restored.append([started(3)], TIME, 1).durable;
    await shorter.catchUp();
    const forked = await IndexStore.open(db, log);
    assert.is(forked.built, 0);
  });

  on('keys that went missing are noticed and rebuilt: losing them loses nothing', async (db) => {
    const { log, expected } = await filled();
    const store = await IndexStore.open(db, log);
    const early = await store.history(taskId(1));
    assert.equal(early, expected);
    const stale = (await db.get(`about!${taskId(1)}`))!;
    for (let n = 0; n < 3; n += 1) {
      expected.push(log.append([started(1)], TIME, 1).first);
      await log.append([started(2)], TIME, 1).durable;
      assert.equal(await store.history(taskId(1)), expected);
    }
    const parts = (await keysOf(db, 'task')).filter((key) => key.includes(taskId(1)));
    assert.is(parts.length, 4);
    await db.batch([{ type: 'del', key: parts[1]! }]);
    assert.equal(await store.history(taskId(1)), expected);
    // What stood there before, of which the rest was lost.
    expected.push(log.append([started(1)], TIME, 1).first);
    await log.append([started(2)], TIME, 1).durable;
    assert.equal(await store.history(taskId(1)), expected);
    await db.put(`about!${taskId(1)}`, stale);
    assert.equal(await store.history(taskId(1)), expected);
    await db.put(`about!${taskId(1)}`, 'garbage');
    assert.equal(await store.history(taskId(1)), expected);
    await db.put('built', '{"garbage"');
    assert.is((await IndexStore.open(db, log)).built, 0);
  });

  on('a task is found by its number, with who sent it and how it ended', async (db) => {
    const log = await newLog(new MemoryStorage(), { segmentBytes: 3000 });
    for (const { type, body } of submissions().all.slice(1)) {
      await log.append([{ type, body } as LogEvent], TIME, 1).durable;
    }
    const store = await IndexStore.open(db, log);
    const first = { task: TASK, number: 0, by: null, ended: 'delivered' };
    const second = { task: OTHER, number: 1, by: FOUNDER, ended: null };
    assert.equal(await Promise.all([0, 1, 2].map((n) => store.numbered(n))), [first, second, null]);
    assert.equal([await store.task(TASK), await store.task(taskId(5))], [first, null]);
    const again = await IndexStore.open(db, log);
    const [run] = (await keysOf(db, 'number')) as [string];
    await db.batch([{ type: 'del', key: run }]);
    assert.equal(await again.numbered(1), second);
    await db.put(run, TASK);
    assert.equal(await (await IndexStore.open(db, log)).numbered(1), second);
    await db.batch([{ type: 'del', key: `about!${OTHER}` }]);
    assert.equal(await again.numbered(1), second);
  });

  on('an index of an earlier format is made anew, and nothing of it stays', async (db) => {
    const { log, expected } = await filled();
    const { size, root } = log.checkpoint;
    await db.put('built', JSON.stringify({ format: 1, mesh: log.meshId, size, root }));
    await db.put(`count!${taskId(1)}`, '20');
    await db.put('state!mesh', 'a state');
    const store = await IndexStore.open(db, log);
    assert.is(store.built, 0);
    assert.equal(await store.history(taskId(1)), expected);
    assert.equal([await keysOf(db, 'count'), await keysOf(db, 'state')], [[], []]);
  });

  on(
    'what is handed over as it becomes durable is indexed without a read of the log or of the index',
    async (db) => {
      const log = await newLog(new MemoryStorage(), { segmentBytes: 1 << 20 });
      const read: string[] = [];
      const counted: IndexDatabase = {
        ...bound(db),
        get: (key) => {
          read.push(key);
          return db.get(key);
        },
      };
      const watched: IndexedLog = {
        meshId: log.meshId,
        get size() {
          return log.size;
        },
        checkpointAt: (size) => log.checkpointAt(size),
        batches: (from) => {
          read.push(`the log from ${from}`);
          return log.batches(from);
        },
      };
      const store = await IndexStore.open(counted, watched);
      await store.catchUp();
      read.length = 0;
      keepIndexed(log, store, (error) => {
        throw error;
      });
      const { body } = new Entries().submit(TASK).all[1] as { body: object };
      const expected = new Map<string, number[]>();
      const add = (n: number, event: LogEvent): void => {
        const { first } = log.append([event], TIME, 1);
        expected.set(taskId(n), [...(expected.get(taskId(n)) ?? []), first]);
      };
      // Some hundreds of tasks, begun in one write and going on in others, one of them with very many entries.
      for (let round = 0; round < 14; round += 1) {
        for (let n = 0; n < 300; n += 1) {
          if (round === 0) {
            const submitted = { ...body, task: taskId(n), correlation: taskId(n) };
            add(n, { type: 'task.submitted', body: submitted } as LogEvent);
          } else add(n, started(n));
          if (round > 0) add(7, started(7));
        }
        await log.append([started(299)], TIME, 1).durable;
        expected.get(taskId(299))!.push(log.size - 1);
      }
      while (store.built === 1) await new Promise((resolve) => setImmediate(resolve));
      await store.catchUp();
      assert.equal(read, []);
      for (const n of [0, 7, 150, 299]) assert.equal(await store.history(taskId(n)), expected.get(taskId(n)));
      assert.is((await store.numbered(299))?.task, taskId(299));
      assert.is((await store.numbered(255))?.task, taskId(255));
      assert.is((await store.numbered(0))?.task, taskId(0));
      assert.is(await store.numbered(300), null);
      const again = await IndexStore.open(db, log);
      assert.is(again.built, log.size);
      assert.equal(await again.history(taskId(7)), expected.get(taskId(7)));
    },
  );

  on(
    'while it cannot be written the log is read ever less often, and once it can be all of it is indexed',
    async (db) => {
      const storage = new MemoryStorage();
      const log = await newLog(storage);
      let reads = 0;
      const watched: IndexedLog = {
        meshId: log.meshId,
        get size() {
          return log.size;
        },
        checkpointAt: (size) => log.checkpointAt(size),
        batches: (from) => {
          reads += 1;
          return log.batches(from);
        },
      };
      const full = new Error('no space is left');
      let room = true;
      const store = await IndexStore.open(
        { ...bound(db), batch: (changes) => (room ? db.batch(changes) : Promise.reject(full)) },
        watched,
      );
      room = false;
      const failures: unknown[] = [];
      keepIndexed(log, store, (error) => failures.push(error));
      const expected: number[] = [];
      const grow = async (entries: number): Promise<void> => {
        for (let n = 1; n < entries; n += 1) {
          const { first } = log.append([started(n % 50)], TIME, 1);
          if (n % 50 === 7) expected.push(first);
        }
        await log.append([started(0)], TIME, 1).durable;
      };
      await grow(4_096);
      while (failures.length === 0) await new Promise((resolve) => setImmediate(resolve));
      const tried = reads;
      for (let n = 0; n < 200; n += 1) await grow(1);
      assert.equal([reads - tried, failures], [0, [full]]);
      await grow(4_096);
      while (failures.length === 1) await new Promise((resolve) => setImmediate(resolve));
      await grow(5_000);
      assert.is(failures.length, 2, 'twice as many are waited for');
      room = true;
      await grow(4_096);
      while (store.built < 4 * 4_096) await new Promise((resolve) => setImmediate(resolve));
      assert.is(failures.length, 2);
      assert.equal(await store.history(taskId(7)), expected);
    },
  );

  on('what becomes durable while the log is read follows it, and is not read again', async (db) => {
    const { log, expected } = await filled();
    let reads = 0;
    const watched: IndexedLog = {
      meshId: log.meshId,
      get size() {
        return log.size;
      },
      checkpointAt: (size) => log.checkpointAt(size),
      async *batches(from) {
        reads += 1;
        for await (const batch of log.batches(from)) {
          if (batch.first === 0) await grow();
          yield batch;
        }
      },
    };
    const grow = async (): Promise<void> => {
      const { first, durable } = log.append([started(1)], TIME, 1);
      expected.push(first);
      await durable;
    };
    const store = await IndexStore.open(db, watched);
    log.subscribe((batch) => store.take(batch));
    await store.catchUp();
    await grow();
    assert.equal(await store.history(taskId(1)), expected);
    assert.is(reads, 1);
  });

  on('what was not taken, or was lost with a write that failed, is read from the log', async (db) => {
    const { log, expected } = await filled();
    let fails = false;
    const store = await IndexStore.open(
      {
        ...bound(db),
        batch: (changes) => (fails ? Promise.reject(new Error('no room')) : db.batch(changes)),
      },
      log,
    );
    const batches: DurableBatch[] = [];
    log.subscribe((batch) => batches.push(batch));
    for (let n = 0; n < 4; n += 1) {
      const { first, durable } = log.append([started(1)], TIME, 1);
      expected.push(first);
      await durable;
    }
    // The index is behind all of them.
    store.take(batches[0]!);
    assert.is(store.built, 0);
    await store.catchUp();
    const appended = log.append([started(1)], TIME, 1);
    expected.push(appended.first);
    await appended.durable;
    store.take(batches[4]!);
    store.take(batches[4]!);
    fails = true;
    await store.catchUp().then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'no room'),
    );
    fails = false;
    assert.equal(await store.history(taskId(1)), expected);
    assert.is((await IndexStore.open(db, log)).built, log.size);
  });

  on('entries about a task that stand before its submission are found all the same', async (db) => {
    const log = await newLog(new MemoryStorage(), { segmentBytes: 3000 });
    const store = await IndexStore.open(db, log);
    const { body } = new Entries().submit(taskId(1)).all[1] as { body: object };
    for (const event of [started(1), { type: 'task.submitted', body } as LogEvent, started(1)]) {
      await log.append([event], TIME, 1).durable;
      await store.catchUp();
    }
    assert.equal(await store.history(taskId(1)), [1, 2, 3]);
    assert.is((await store.numbered(0))?.task, taskId(1));
  });

  on('one that is closed while it indexes leaves the rest to the next start', async (db) => {
    const { log, expected } = await filled();
    const held: IndexDatabase = { ...bound(db), close: async () => {} };
    const store = await IndexStore.open(held, log);
    const stopped = store.catchUp().then(
      () => null,
      (error: SuperfleetError) => error.code,
    );
    await store.close();
    assert.is(await stopped, 'SF_UNREACHABLE');
    assert.ok(store.built < log.size);
    assert.equal(await (await IndexStore.open(db, log)).history(taskId(1)), expected);
  });

  on('calls at one time share the work', async (db) => {
    const { log, expected } = await filled();
    const store = await IndexStore.open(db, log);
    const found = await Promise.all(Array.from({ length: 5 }, () => store.history(taskId(1))));
    for (const history of found) assert.equal(history, expected);
  });
}

test('a database that cannot be opened is made anew, and one that is open elsewhere is not touched', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-index-'));
  try {
    const { log, expected } = await filled();
    const first = await openIndexDatabase(folder);
    await (await IndexStore.open(first, log)).catchUp();
    await openIndexDatabase(folder).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_LOCKED'),
    );
    await first.close();
    await writeFile(join(folder, 'CURRENT'), 'garbage');
    for (const name of await readdir(folder)) {
      if (name.startsWith('MANIFEST')) await writeFile(join(folder, name), Buffer.alloc(100, 7));
    }
    const again = await openIndexDatabase(folder);
    assert.instance(again, Level);
    const store = await IndexStore.open(again, log);
    assert.equal(await store.history(taskId(1)), expected);
    await store.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.run();
