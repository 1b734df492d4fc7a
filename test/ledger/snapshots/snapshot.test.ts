import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canonicalJson } from '../../../ledger/lines/canonical-json.ts';
import type { EventBody, LogEvent } from '../../../ledger/lines/events.ts';
import { Log } from '../../../ledger/log/log.ts';
import { type Restarted, restart } from '../../../ledger/log/restart.ts';
import { makeSnapshot } from '../../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore } from '../../../ledger/snapshots/snapshot-store.ts';
import { initialState, type MeshState, replay, saveState } from '../../../ledger/state/state.ts';
import { segmentName } from '../../../ledger/storage/storage.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { simulatedLog } from '../../sim/run.ts';
import { GENESIS, KEY, newLog } from '../kit.ts';

/** So few that tasks leave the state all the time. */
const bounds = { endedTasks: 3 };
const SEGMENT_BYTES = 3_000;

/** A state as one text: every reducer's part in its canonical form. */
const inWords = (state: MeshState): string => canonicalJson(saveState(state));

/** A log of what a simulated mesh wrote, all in the one epoch of its genesis, in batches of some entries, and the sizes at which they ended. */
async function logOf(
  seed: number,
  to = Number.POSITIVE_INFINITY,
): Promise<{ storage: MemoryStorage; log: Log; sizes: number[] }> {
  const storage = new MemoryStorage();
  const log = await newLog(storage, { segmentBytes: SEGMENT_BYTES });
  const sizes = [1];
  const entries = simulatedLog(seed).slice(1, to);
  for (let at = 0, length = 1; at < entries.length; at += length, length = (length % 7) + 1) {
    const batch = entries.slice(at, at + length);
    const events = batch.map(({ type, body }) => ({ type, body }) as LogEvent);
    sizes.push((await log.append(events, batch[0]!.time, log.epoch).durable).size);
  }
  return { storage, log, sizes };
}

const start = (storage: MemoryStorage, store: MemorySnapshotStore): Promise<Restarted<Log>> =>
  restart(storage, store, (at) => Log.open({ storage, key: KEY, ...at }), bounds);

async function inAll(log: Log): Promise<string> {
  const state = initialState(bounds);
  for await (const entry of log.entries()) replay([entry], state);
  return inWords(state);
}

const make = (storage: MemoryStorage, store: MemorySnapshotStore, log: Log, size = log.size) =>
  makeSnapshot({ storage, store, mesh: log.meshId, size, bounds });

for (const seed of [1, 2, 3, 5]) {
  test(`a start from a snapshot of any batch of log ${seed} gives what a replay of all gives (promise 9)`, async () => {
    const { storage, log, sizes } = await logOf(seed);
    const expected = await inAll(log);
    const all = await log.read(0, 4096);
    await log.close();
    const store = new MemorySnapshotStore();
    for (const size of sizes) {
      const body = await make(storage, store, log, size);
      assert.is(body.size, size);
      const alone = new MemorySnapshotStore();
      alone.files.set(size, store.files.get(size)!);
      const begun = await start(storage.crash('process'), alone);
      assert.equal([begun.spared, begun.passedOver, begun.contradictions], [size, [], []]);
      assert.is(inWords(begun.state), expected, `from ${size}`);
      assert.is(begun.log.opened.entries, log.size - size);
      assert.equal(begun.log.checkpoint, log.checkpoint);
      // What is before the snapshot is still read, and what comes after it appended.
      assert.equal((await begun.log.read(0, 4096)).at(0), all[0]);
      assert.equal((await begun.log.read(size - 1, 1))[0], all[size - 1]);
      const old = sizes[sizes.indexOf(size) >> 1]!;
      assert.is((await begun.log.checkpointAt(old))?.size, old);
      await begun.log.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], 2e12, 1).durable;
      await begun.log.close();
    }
    assert.ok((await storage.list()).length > 2, 'over several segments');
    assert.is(store.files.size, 2, 'older ones are removed');
  });
}

test('a snapshot that is flipped, cut, lost or of another program is passed over, and the one before taken', async () => {
  const { storage, log, sizes } = await logOf(5);
  const expected = await inAll(log);
  const made = new MemorySnapshotStore();
  const [before, newest] = [sizes.at(sizes.length / 2)!, sizes.at(-3)!];
  assert.ok(before > 1 && newest > before);
  for (const size of [before, newest]) await make(storage, made, log, size);
  await log.close();
  const whole = made.files.get(newest)!.toString();
  const lines = whole.trimEnd().split('\n');
  const spoiled: Record<string, string> = {
    'a flipped state': whole.replace('"active"', '"activf"'),
    'a flipped frontier': whole.replace(/"frontier":\["./, '"frontier":["x'),
    'a flipped time': whole.replace(/"time":1/, '"time":2'),
    'the end gone': whole.slice(0, -7),
    'a line gone': `${lines.toSpliced(2, 1).join('\n')}\n`,
    nothing: '',
    'no line end': whole.trimEnd(),
    'other versions': whole.replace(/"version":\d+/, '"version":999'),
    'another form': whole.replace('{"snapshot":1', '{"snapshot":2'),
  };
  for (const [what, text] of Object.entries(spoiled)) {
    assert.is.not(text, whole, what);
    const store = new MemorySnapshotStore();
    store.files.set(before, made.files.get(before)!);
    store.files.set(newest, Buffer.from(text));
    const begun = await start(storage, store);
    assert.is(begun.spared, before, what);
    assert.is(begun.passedOver.length, 1, what);
    assert.is(inWords(begun.state), expected, what);
    await begun.log.close();
  }
  const swapped = new MemorySnapshotStore();
  swapped.files.set(newest, made.files.get(before)!);
  const begun = await start(storage, swapped);
  assert.is(begun.spared, 0, 'under the name of another');
  assert.match(begun.passedOver[0]!.why, 'its name is of another size');
  assert.is(inWords(begun.state), expected);
});

test('a snapshot of a longer log, as after a restored backup, or of another mesh is not taken, and the next made replaces it', async () => {
  const { storage, log, sizes } = await logOf(3, 40);
  const early = storage.crash('process');
  const store = new MemorySnapshotStore();
  await make(storage, store, log);
  await log.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], 2e12, 1).durable;
  await make(storage, store, log);
  await log.close();
  // The same sizes, with another history from entry 1 on.
  const other = new MemoryStorage();
  const forked = await Log.create({
    storage: other,
    genesis: { ...GENESIS, name: 'other' },
    key: KEY,
    time: 1,
  });
  for (const size of sizes.slice(1)) {
    await forked.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], size, 1).durable;
  }
  await forked.close();
  for (const disk of [early, other]) {
    const begun = await start(disk, store);
    assert.ok(begun.spared <= begun.log.size);
    assert.is(inWords(begun.state), await inAll(begun.log));
    await begun.log.close();
  }
  const ofOther = await start(other, store);
  assert.is(ofOther.passedOver.length, 2);
  assert.match(ofOther.passedOver[0]!.why, 'its checkpoint is not in this log');
  await make(other, store, ofOther.log);
  assert.equal(await store.list(), [ofOther.log.size]);
});

test('the places in a snapshot are hints: where the log is cut into other segments they are found anew', async () => {
  const { storage, log, sizes } = await logOf(2);
  const expected = await inAll(log);
  const size = sizes[sizes.length >> 1]!;
  const store = new MemorySnapshotStore();
  await make(storage, store, log, size);
  const recut = new MemoryStorage();
  const parts: Buffer[] = [];
  for await (const chunk of log.export()) parts.push(Buffer.from(chunk));
  recut.put(segmentName(0), Buffer.concat(parts));
  const begun = await start(recut, store);
  assert.equal([begun.spared, begun.passedOver], [size, []]);
  assert.is(inWords(begun.state), expected);
  assert.equal(await begun.log.read(0, 5), await log.read(0, 5));
  await begun.log.close();
  await log.close();
});

test('a tail torn after a snapshot is cut as ever, and damage after it halts the start', async () => {
  const { storage, log } = await logOf(1);
  const store = new MemorySnapshotStore();
  const body = await make(storage, store, log);
  const { size } = await log.append([{ type: 'log.snapshot', body }], 2e12, 1).durable;
  await log.append([{ type: 'mesh.paused', body: { by: { kind: 'founder' } } }], 2e12, 1).durable;
  await log.close();
  const name = storage.names().at(-1)!;
  const whole = storage.bytes(name)!;
  const torn = storage.crash('process');
  torn.put(name, whole.subarray(0, -200));
  const begun = await start(torn, store);
  assert.is(begun.log.size, size);
  assert.ok(begun.log.cut !== null);
  await begun.log.close();
  const damaged = storage.crash('process');
  const spoiled = Buffer.from(whole);
  spoiled[spoiled.lastIndexOf('log.snapshot') + 2] = 0x78;
  damaged.put(name, spoiled);
  await start(damaged, store).then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'SF_LOG_DAMAGED'),
  );
});

/** The same entry with another digest for the members. */
const lying = (body: EventBody<'log.snapshot'>): EventBody<'log.snapshot'> => ({
  ...body,
  reducers: body.reducers.map((reducer) =>
    reducer.name === 'members' ? { ...reducer, digest: 'f'.repeat(64) } : reducer,
  ),
});

test('what the log says of a state is compared with what its entries give, with a snapshot and without', async () => {
  const { storage, log } = await logOf(5);
  const store = new MemorySnapshotStore();
  const older = await make(storage, store, log);
  await log.append([{ type: 'log.snapshot', body: older }], 2e12, 1).durable;
  const honest = await start(storage.crash('process'), store);
  assert.equal([honest.spared, honest.contradictions], [older.size, []]);
  assert.equal((await start(storage.crash('process'), new MemorySnapshotStore())).contradictions, []);
  const newer = await make(storage, store, log);
  await log.append([{ type: 'log.snapshot', body: lying(newer) }], 2e12, 1).durable;
  const expected = await inAll(log);
  await log.close();
  // The file and the log differ: the one before is taken.
  const begun = await start(storage.crash('process'), store);
  const what = `the state of members at entry ${newer.size} is not what the log says it was`;
  assert.equal([begun.spared, begun.contradictions], [older.size, [what]]);
  assert.is(inWords(begun.state), expected);
  assert.equal(await store.list(), [older.size]);
  const replayed = await start(storage, new MemorySnapshotStore());
  assert.equal([replayed.spared, replayed.contradictions], [0, [what]]);
  assert.is(inWords(replayed.state), expected);
});

test('no snapshot is made of what is no checkpoint, of another mesh or of a damaged log', async () => {
  const { storage, log, sizes } = await logOf(1);
  await log.close();
  const store = new MemorySnapshotStore();
  const refused = (disk: MemoryStorage, mesh: string, size: number): Promise<void> =>
    makeSnapshot({ storage: disk, store, mesh, size }).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_LOG_DAMAGED'),
    );
  const between = sizes.find((size, at) => sizes[at + 1]! > size + 1)! + 1;
  await refused(storage, log.meshId, between);
  await refused(storage, log.meshId, log.size + 1);
  await refused(storage, 'a'.repeat(64), log.size);
  const name = storage.names()[1]!;
  const spoiled = Buffer.from(storage.bytes(name)!);
  spoiled[500]! ^= 1;
  storage.put(name, spoiled);
  await refused(storage, log.meshId, log.size);
  assert.equal(await store.list(), []);
});

test.run();
