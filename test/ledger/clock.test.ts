import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { stateDigests } from '../../ledger/snapshots/snapshot.ts';
import { makeSnapshot } from '../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { Random } from '../sim/random.ts';
import { simulatedLog } from '../sim/run.ts';
import { GENESIS, KEY } from './kit.ts';

const HOUR_MS = 3_600_000;
const START = 1_700_000_000_000;

/** What a wall clock may say at the nth append of a mesh whose own time is `time`. */
const CLOCKS: { name: string; says(time: number, n: number, random: Random): number }[] = [
  { name: 'two hours ahead', says: (time) => time + 2 * HOUR_MS },
  { name: 'two hours behind', says: (time) => time - 2 * HOUR_MS },
  { name: 'running backwards', says: (_, n) => START - n * 1000 },
  { name: 'at the beginning of time', says: () => 0 },
  {
    name: 'jumping by two hours either way',
    says: (time, _, random) => time + random.int(-2 * HOUR_MS, 2 * HOUR_MS),
  },
];

for (const { name, says } of CLOCKS) {
  test(`a clock ${name}: times never fall, a start at any point finds the same, and replay gives one state (promises 9 and 11)`, async () => {
    const random = new Random(name);
    const storage = new MemoryStorage();
    const written = simulatedLog(3);
    let log = await Log.create({ storage, genesis: GENESIS, key: KEY, time: START });
    const store = new MemorySnapshotStore();
    const half = Math.floor(written.length / 2);
    for (const [n, { type, body, time }] of written.entries()) {
      if (n === 0) continue;
      await log.append([{ type, body } as LogEvent], says(time, n, random), log.epoch).durable;
      if (n !== half) continue;
      // A start in the middle, by a machine whose clock is what it is: it looks at none.
      await makeSnapshot({ storage, store, mesh: log.meshId, size: log.size });
      await log.close();
      const before = log.checkpoint;
      log = await Log.open({ storage, key: KEY });
      assert.equal(log.checkpoint, before);
    }
    let last = 0;
    for await (const { time } of log.entries()) {
      assert.ok(time >= last, `${time} after ${last}`);
      last = time;
    }
    const report = await verifyLog(storage);
    assert.equal([report.size, report.root], [log.size, log.checkpoint.root]);
    await log.close();
    const start = (snapshots: MemorySnapshotStore): ReturnType<typeof restart<Log>> =>
      restart(storage, snapshots, (at) => Log.open({ storage, key: null, ...at }));
    const begun = await start(store);
    assert.is(begun.spared, half + 1);
    const all = await start(new MemorySnapshotStore());
    assert.is(all.spared, 0);
    assert.equal(stateDigests(begun.state), stateDigests(all.state));
  });
}

test('what is durable, and in which order, is the same under every clock (promise 11)', async () => {
  const told = new Set<string>();
  for (const { name, says } of CLOCKS) {
    const random = new Random(name);
    const log = await Log.create({ storage: new MemoryStorage(), genesis: GENESIS, key: KEY, time: START });
    const batches: string[] = [];
    log.subscribe(({ first, last, entries }) => {
      batches.push(`${first} to ${last}: ${JSON.stringify(entries.map(({ type, body }) => [type, body]))}`);
    });
    for (const [n, { type, body, time }] of simulatedLog(3).slice(0, 80).entries()) {
      if (n === 0) continue;
      log.append([{ type, body } as LogEvent], says(time, n, random), log.epoch);
      if (n % 3 === 0) await new Promise(setImmediate);
    }
    await log.close();
    told.add(batches.join('\n'));
  }
  assert.is(told.size, 1);
});

test.run();
