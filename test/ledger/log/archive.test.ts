import fc from 'fast-check';
import { MemoryLevel } from 'memory-level';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { IndexStore } from '../../../ledger/index/index-store.ts';
import type { Entry } from '../../../ledger/lines/entry.ts';
import type { LogEvent } from '../../../ledger/lines/events.ts';
import { TaskArchive } from '../../../ledger/log/archive.ts';
import type { Log } from '../../../ledger/log/log.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { TASK_STATES } from '../../../protocol/task.ts';
import { simulatedLog } from '../../sim/run.ts';
import { recalledFrom, replayAll } from '../archived.ts';
import { newLog, taskId } from '../kit.ts';
import { Entries, TASK } from '../state/entries.ts';

async function logOf(events: { type: string; body: unknown; time: number }[]): Promise<Log> {
  const log = await newLog(new MemoryStorage());
  // The log has a genesis of its own, and so one epoch.
  for (const { type, body, time } of events.slice(1)) {
    await log.append([{ type, body } as LogEvent], Math.max(time, 1_700_000_000_000), log.epoch).durable;
  }
  return log;
}

async function entriesOf(log: Log): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of log.entries()) entries.push(entry);
  return entries;
}

test('every task is found as the whole log tells of it, by its own entries alone', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 60 }), async (seed) => {
      const log = await logOf(simulatedLog(seed));
      const archive = new TaskArchive(log, await IndexStore.open(new MemoryLevel<string, string>(), log));
      const { tasks } = replayAll(await entriesOf(log));
      for (const task of tasks.byId.values()) assert.equal(await archive.find(task.id), task);
      assert.is(await archive.find('abcdefghijkl'), null);
    }),
    { numRuns: 15 },
  );
});

test('of many those that match are found, in the order asked for, and it is said how far was looked', async () => {
  const log = await logOf(simulatedLog(11));
  const archive = new TaskArchive(log, await IndexStore.open(new MemoryLevel<string, string>(), log));
  const entries = await entriesOf(log);
  const { count } = replayAll(entries).tasks;
  const number = fc.integer({ min: 0, max: count + 1 });
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(number),
      fc.option(fc.subarray(TASK_STATES.slice(6))),
      fc.integer({ min: 1, max: 4 }),
      async (numbers, states, limit) => {
        const wanted = { numbers, states, by: null, limit };
        assert.equal(await archive.select(wanted), recalledFrom(entries, wanted));
      },
    ),
    { numRuns: 50 },
  );
});

test('tasks of one member are told from others', async () => {
  const [ada, bob] = ['A', 'B'].map((letter) => `12D3KooW${letter.repeat(44)}`) as [string, string];
  const log = await logOf(new Entries().submit().all);
  const [, { body }] = new Entries().submit().all as [unknown, { body: object }];
  const tasks = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'];
  for (const [at, task] of tasks.entries()) {
    const by = { kind: 'peer' as const, peer: at === 1 ? bob : ada };
    const event = { type: 'task.submitted', body: { ...body, task, by } } as LogEvent;
    await log.append([event], 1_700_000_000_000, 1).durable;
  }
  const archive = new TaskArchive(log, await IndexStore.open(new MemoryLevel<string, string>(), log));
  const found = await archive.select({ numbers: [3, 2, 1, 0], states: null, by: ada, limit: 9 });
  assert.equal(
    found.tasks.map(({ id }) => id),
    [tasks[2], tasks[0]],
  );
});

test('an index that names the wrong entries is made anew', async () => {
  const entries = new Entries().admit('ada').submit().assign(1, 'ada').end(1);
  const log = await logOf(entries.all);
  const db = new MemoryLevel<string, string>();
  const index = await IndexStore.open(db, log);
  const archive = new TaskArchive(log, index);
  const expected = replayAll(await entriesOf(log)).tasks.byId.get(TASK) as TaskRecord;
  assert.equal(await archive.find(TASK), expected);
  const parts = await db.iterator({ gte: 'task!', lt: 'task"' }).all();
  const [key, indexes] = parts[0]!;
  const [first, ...rest] = JSON.parse(indexes) as number[];
  await db.put(key, JSON.stringify([first! - 1, ...rest]));
  assert.equal(await archive.find(TASK), expected);
  assert.equal(await db.iterator({ gte: 'task!', lt: 'task"' }).all(), parts);
});

test('what was found last is remembered, and no more than a bound', async () => {
  const log = await logOf(new Entries().all);
  const [, submitted] = new Entries().submit().all as [unknown, { body: object }];
  const tasks = Array.from({ length: 300 }, (_, n) => taskId(n));
  for (const task of tasks) {
    await log.append(
      [{ type: 'task.submitted', body: { ...submitted.body, task } } as LogEvent],
      1_700_000_000_000,
      1,
    ).durable;
  }
  const archive = new TaskArchive(log, await IndexStore.open(new MemoryLevel<string, string>(), log));
  for (const task of tasks) await archive.find(task);
  const recent = [...archive.recent].map(({ id }) => id);
  assert.equal(recent, tasks.slice(-256));
});

test.run();
