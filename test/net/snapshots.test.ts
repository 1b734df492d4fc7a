// limit: 180 s
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { stateDigests } from '../../ledger/snapshots/snapshot.ts';
import { MemorySnapshotStore, snapshotSize } from '../../ledger/snapshots/snapshot-store.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { TaskDetail } from '../../node/api/objects.ts';
import { withConstants } from './constants.ts';
import { Fleet, freePort } from './fleet.ts';

const env = withConstants({ snapshotEntries: 10, snapshotRest: 0 });
const hubArgs = ['--port', String(await freePort())];
const KILLS = 6;

const fleet = await Fleet.start({ hub: { slots: 2 }, hubArgs, hubEnv: env });
test.after(() => fleet.close());

const FOLDER = join(fleet.dir('hub'), 'snapshots');
const storage = new FileStorage(join(fleet.dir('hub'), 'log'));
const sizes = (): number[] =>
  readdirSync(FOLDER)
    .map(snapshotSize)
    .filter((size) => size !== null)
    .sort((a, b) => a - b);

/** What the files of a founder that is down give, from its snapshots and from all of its log. */
async function assertOneState(): Promise<number> {
  const start = (store: MemorySnapshotStore | FileSnapshotStore): ReturnType<typeof restart<Log>> =>
    restart(storage, store, (at) => Log.open({ storage, key: null, ...at }));
  const begun = await start(new FileSnapshotStore(FOLDER));
  const all = await start(new MemorySnapshotStore());
  assert.equal([all.spared, all.contradictions], [0, []]);
  assert.equal([begun.passedOver, begun.contradictions], [[], []]);
  assert.equal(stateDigests(begun.state), stateDigests(all.state));
  assert.is(begun.log.checkpoint.root, all.log.checkpoint.root);
  await Promise.all([begun.log.close(), all.log.close()]);
  return begun.spared;
}

test('a founder killed at any moment while it makes snapshots starts from one, with the state that its whole log gives (promises 2 and 9)', async () => {
  const acknowledged: string[] = [];
  const from: number[] = [];
  for (let kill = 0; kill < KILLS; kill += 1) {
    const next = fleet.next;
    // Each brings about six entries, so that a snapshot is being made most of the time.
    acknowledged.push(...(await Promise.all(Array.from({ length: 6 }, () => fleet.submit(['true'])))));
    if (kill === 0) await fleet.entry(({ type }) => type === 'log.snapshot', 'a snapshot');
    await fleet.entry(({ type }) => type === 'attempt.started', 'work going on', next);
    await new Promise((done) => setTimeout(done, 97 * kill));
    await fleet.hubDaemon!.end('SIGKILL');
    from.push(await assertOneState());
    await fleet.up(hubArgs, env);
  }
  for (const task of acknowledged) assert.is((await fleet.ended(task)).state, 'delivered');
  assert.ok(from.filter((size) => size > 0).length >= KILLS - 1, `starts from ${from}`);
  assert.ok(sizes().length <= 2);
  const verified = await fleet.hub(['ledger', 'verify', '--json']);
  assert.is(verified.code, 0, verified.stderr);
  console.log(`${KILLS} kills; the starts spared ${from.join(', ')} entries of ${fleet.next}`);
});

test('what is older than the snapshot is shown, told and found as ever', async () => {
  const first = fleet.entries.find(({ type }) => type === 'task.submitted')!.body.task as string;
  const history = await fleet.json<{ items: unknown[] }>(['task', 'history', first]);
  assert.ok(history.items.length >= 4);
  const { id, state } = await fleet.json<TaskDetail>(['task', 'get', first]);
  assert.equal([id, state], [first, 'delivered']);
  assert.is((await fleet.hub(['ledger', 'verify', '--json'])).code, 0);
});

test('a snapshot that was damaged is passed over with a warning; nothing is lost', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  const [newest] = sizes().slice(-1) as [number];
  const path = new FileSnapshotStore(FOLDER).describe(newest);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
  const daemon = await fleet.up(hubArgs, env);
  assert.match(daemon.log, /a snapshot was not used/);
  assert.is((await fleet.ended(await fleet.submit(['true']))).state, 'delivered');
});

test.run();
