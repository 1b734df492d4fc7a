// limit: 150 s
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { snapshotSize } from '../../ledger/snapshots/snapshot-store.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject, OwnNodeObject, StatusObject } from '../../node/api/objects.ts';
import { withConstants } from './constants.ts';
import { Fleet, freePort } from './fleet.ts';

const env = withConstants({
  snapshotEntries: 10,
  snapshotRest: 0,
  backfillBytesPerSecond: 2048,
  logPieceBytes: 1024,
});
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS, hubEnv: env });
test.after(() => fleet.close());

const log = join(fleet.dir('r1'), 'log');
const own = async (): Promise<NonNullable<OwnNodeObject['replica']>> => {
  const { stdout } = await fleet.node('r1', ['status', '--json']);
  return (JSON.parse(stdout) as OwnNodeObject).replica!;
};
const line = async () =>
  (await fleet.json<StatusObject>(['status'])).replicas.find(({ name }) => name === 'r1')!;

test('a replica that comes late begins at a snapshot, is killed while it fetches the rest, and becomes whole', async () => {
  for (let n = 0; n < 8; n += 1) await fleet.ended(await fleet.submit(['true']));
  await fleet.entry(({ type }) => type === 'log.snapshot', 'a snapshot');
  const { token } = await fleet.json<{ token: string }>(['invite', '--role', 'worker', '--role', 'replica']);
  fleet.configure('r1', { slots: 1 });
  const joined = await fleet.joinWith('r1', token);
  // Enrolled; now it comes with nothing, and slowly.
  await joined.end('SIGKILL');
  rmSync(log, { recursive: true, force: true });
  const slow = await fleet.startMember('r1', ['--port', '0'], env);
  await fleet.untilAsked(async () => {
    const found = await line();
    return found.lag === 0 && found.from !== null && found.from > 0;
  }, 'r1 follows from a snapshot on');
  const { from } = await line();
  await fleet.untilAsked(async () => (await own()).fetched > 0, 'r1 has some of what is before');
  const copy = await own();
  assert.ok(copy.fetched < from! && copy.from === from, JSON.stringify(copy));
  assert.match(
    (await fleet.hub(['status'])).stdout,
    new RegExp(`holds entries from ${from} on, backfilling`),
  );
  await slow.end('SIGKILL');
  assert.equal(
    readdirSync(log)
      .map(snapshotSize)
      .filter((size) => size !== null),
    [from],
  );

  await fleet.startMember('r1', ['--port', '0']);
  await fleet.untilAsked(async () => (await own()).from === 0, 'r1 holds the whole log');
  await fleet.untilAsked(async () => (await line()).lag === 0, 'r1 is in step');
  await fleet.ended(await fleet.submit(['true']));
  await fleet.untilAsked(async () => (await line()).lag === 0, 'r1 is in step again');
  const { size, root } = await fleet.client.get<MeshObject>('/v1/status');
  const report = await verifyLog(new FileStorage(log));
  assert.equal([report.from, report.size, report.root], [0, size, root]);
});

test.run();
