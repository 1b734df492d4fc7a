import fc from 'fast-check';
import { MemoryLevel } from 'memory-level';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LogEvent } from '../../ledger/events.ts';
import { IndexStore } from '../../ledger/index-store.ts';
import { Log } from '../../ledger/log.ts';
import { keepState, replayLog } from '../../ledger/replay.ts';
import { type MeshState, saveState } from '../../ledger/state/state.ts';
import { MemoryStorage } from '../../ledger/storage-memory.ts';
import { simulatedLog } from '../sim/run.ts';
import { KEY, newLog } from './kit.ts';

const inBytes = (state: MeshState): string => JSON.stringify(saveState(state));

/** Appends what a simulated mesh wrote, up to and without the entry `to`. */
async function append(log: Log, seed: number, to = Number.POSITIVE_INFINITY): Promise<void> {
  for (const { type, body, time, epoch } of simulatedLog(seed).slice(log.size, to)) {
    await log.append([{ type, body } as LogEvent], time, epoch).durable;
  }
}

/** The state that the whole log gives, read anew from its first entry. */
async function fromAll(log: Log): Promise<string> {
  const { state, kept } = await replayLog(log, await IndexStore.open(new MemoryLevel<string, string>(), log));
  assert.is(kept, 0);
  return inBytes(state);
}

test('a start from a kept state gives what a replay of the whole log gives (promise 9)', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 60 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (seed, share) => {
        const db = new MemoryLevel<string, string>();
        const log = await newLog(new MemoryStorage());
        const size = Math.max(1, Math.floor(share * simulatedLog(seed).length));
        await append(log, seed, size);
        const index = await IndexStore.open(db, log);
        assert.is(await keepState(log, index, (await replayLog(log, index)).state), true);
        await append(log, seed);
        const { state, kept } = await replayLog(log, await IndexStore.open(db, log));
        assert.is(kept, size);
        assert.is(inBytes(state), await fromAll(log));
      },
    ),
    { numRuns: 20 },
  );
});

test('a kept state that is flipped, cut, lost or of another program is passed over', async () => {
  const db = new MemoryLevel<string, string>();
  const log = await newLog(new MemoryStorage());
  await append(log, 5);
  const index = await IndexStore.open(db, log);
  await keepState(log, index, (await replayLog(log, index)).state);
  const whole = (await db.get('state!mesh'))!;
  const expected = await fromAll(log);
  const spoiled = [
    whole.replace('queued', 'quened'),
    whole.slice(0, -7),
    '',
    whole.replace(/"version":1/, '"version":2'),
    whole.replace(/"size":\d+/, '"size":1'),
    whole.replace(/"root":"./, '"root":"x'),
    null,
  ];
  for (const text of spoiled) {
    assert.is.not(text, whole);
    if (text === null) await db.del('state!mesh');
    else await db.put('state!mesh', text);
    const { state, kept } = await replayLog(log, await IndexStore.open(db, log));
    assert.is(kept, 0, text ?? 'gone');
    assert.is(inBytes(state), expected);
  }
});

test('a state kept from a longer log, as after a restored backup, is not taken for this one', async () => {
  const db = new MemoryLevel<string, string>();
  const storage = new MemoryStorage();
  const log = await newLog(storage);
  await append(log, 3, 20);
  const early = storage.crash('process');
  await append(log, 3);
  const index = await IndexStore.open(db, log);
  await keepState(log, index, (await replayLog(log, index)).state);
  const restored = await Log.open({ storage: early, key: KEY });
  const { state, kept } = await replayLog(restored, await IndexStore.open(db, restored));
  assert.is(kept, 0);
  assert.is(state.mesh.size, 20);
});

test('a state that is ahead of its log is not kept', async () => {
  const log = await newLog(new MemoryStorage());
  await append(log, 3, 20);
  const db = new MemoryLevel<string, string>();
  const index = await IndexStore.open(db, log);
  const { state } = await replayLog(log, index);
  state.mesh.size += 1;
  assert.is(await keepState(log, index, state), false);
  assert.is(await db.get('state!mesh'), undefined);
});

test.run();
