import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { stateDigests } from '../../ledger/snapshots/snapshot.ts';
import { makeSnapshot } from '../../ledger/snapshots/snapshot-make.ts';
import { MemorySnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import { CRASH_KINDS, MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { Random } from '../sim/random.ts';
import { GENESIS, KEY } from './kit.ts';
import { Outside } from './outside.ts';
import { SteppedStorage } from './stepped-storage.ts';

const TIME = 1_700_000_000_000;
const limits = { segmentBytes: 2500 };
const MIDWAY_BYTES = 137;
const PAUSED = { type: 'mesh.paused', body: { by: { kind: 'founder' } } } as const;
const RESUMED = { type: 'mesh.resumed', body: { by: { kind: 'founder' } } } as const;

type Step = (call: string) => Promise<void>;

/** A store whose every call that changes something is a step before and a step after: the file is there between, or not. */
class SteppedStore extends MemorySnapshotStore {
  readonly #step: Step;

  constructor(step: Step) {
    super();
    this.#step = step;
  }

  override async write(size: number, file: Iterable<string>): Promise<void> {
    await this.#step('part');
    await super.write(size, file);
    await this.#step('renamed');
  }

  override async remove(size: number): Promise<void> {
    await this.#step('remove');
    await super.remove(size);
  }
}

/** Batches, and after some of them a snapshot with its entry, as a founder goes about it. */
async function work(storage: SteppedStorage, store: SteppedStore, outside: Outside): Promise<void> {
  const log = await Log.open({ storage, key: KEY, limits });
  for (let n = 1; n <= 4; n += 1) {
    await outside.append(log, n % 2 === 0 ? [RESUMED] : [PAUSED, RESUMED, PAUSED], TIME + n).durable;
    const body = await makeSnapshot({ storage, store, mesh: log.meshId, size: log.size });
    // What others append meanwhile comes first.
    void outside.append(log, [PAUSED], TIME + n);
    await outside.append(log, [{ type: 'log.snapshot', body }], TIME + n).durable;
  }
  await log.close();
}

async function disk(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await (await Log.create({ storage, genesis: GENESIS, key: KEY, time: TIME })).close();
  return storage;
}

const start = (storage: MemoryStorage, store: MemorySnapshotStore): ReturnType<typeof restart<Log>> =>
  restart(storage, store, (at) => Log.open({ storage, key: KEY, limits, ...at }));

test('a crash at any step of a snapshot leaves a start that finds what a reading of the whole log finds (promises 2 and 9)', async () => {
  const calls: string[] = [];
  const note: Step = async (call) => void calls.push(call);
  const quiet = new SteppedStorage(await disk(), (_, call) => void calls.push(call));
  await work(quiet, new SteppedStore(note), new Outside());
  assert.ok(calls.filter((call) => call === 'remove').length >= 2, calls.join(' '));
  assert.ok(calls.filter((call) => call === 'create').length >= 1, calls.join(' '));
  const seen = { none: 0, entry: 0, fileOnly: 0, torn: 0 };
  for (let step = 1; step <= calls.length + 1; step += 1) {
    for (const kind of CRASH_KINDS) {
      for (const midway of [false, true]) {
        const random = new Random(`${kind} at ${step}${midway}`);
        const { promise: reached, resolve } = Promise.withResolvers<void>();
        let count = 0;
        const halt = (call: string): Promise<never> | number | undefined => {
          count += 1;
          if (count < step) return undefined;
          if (count === step && midway && call === 'write') return MIDWAY_BYTES;
          resolve();
          return new Promise<never>(() => undefined);
        };
        const dying = await disk();
        const outside = new Outside();
        const store = new SteppedStore(async (call) => void (await halt(call)));
        const storage = new SteppedStorage(dying, (_, call) => halt(call));
        await Promise.race([work(storage, store, outside), reached]);
        outside.dies();
        const after = dying.crash(kind, () => random.next());
        const left = new MemorySnapshotStore();
        for (const [size, bytes] of store.files) left.files.set(size, bytes);
        const begun = await start(after, left);
        await outside.holds(begun.log);
        outside.trusts(begun.log);
        assert.equal(begun.contradictions, []);
        const newest = Math.max(0, ...left.files.keys());
        assert.is(begun.spared, newest, `${begun.passedOver.map(({ why }) => why)}`);
        const all = await start(after.crash('process'), new MemorySnapshotStore());
        assert.equal([all.spared, all.contradictions], [0, []]);
        assert.equal(stateDigests(begun.state), stateDigests(all.state));
        const last = await lastAnnounced(begun.log);
        if (begun.log.cut !== null) seen.torn += 1;
        if (newest === 0) seen.none += 1;
        else seen[last === newest ? 'entry' : 'fileOnly'] += 1;
        // It goes on, with the next snapshot too.
        await outside.append(begun.log, [PAUSED], TIME + 9).durable;
        const { size } = await makeSnapshot({
          storage: after,
          store: left,
          mesh: begun.log.meshId,
          size: begun.log.size,
        });
        assert.is(size, begun.log.size);
        assert.ok(left.files.size <= 2);
        await Promise.all([begun.log.close(), all.log.close()]);
      }
    }
  }
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 10, `${what}: ${times}`);
});

async function lastAnnounced(log: Log): Promise<number> {
  let size = 0;
  for await (const { type, body } of log.entries()) {
    if (type === 'log.snapshot') ({ size } = body as { size: number });
  }
  return size;
}

test.run();
