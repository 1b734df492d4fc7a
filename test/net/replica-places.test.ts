// limit: 120 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject, NodeObject, OwnNodeObject, Page } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';

// Without mDNS: where replicas are is known from the founder alone.
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS });
test.after(() => fleet.close());

const { token } = await fleet.json<{ token: string }>([
  ...['invite', '--role', 'worker', '--role', 'replica', '--uses', '2'],
]);
for (const name of ['r1', 'r2']) {
  fleet.configure(name, { slots: 1 });
  fleet.members.set(name, await fleet.joinWith(name, token));
}

const lag = async (name: string): Promise<number | null> => {
  const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
  return items.find((node) => node.name === name)!.lag;
};
const inStep = (name: string): Promise<void> =>
  fleet.untilAsked(async () => (await lag(name)) === 0, `${name} holds the whole log`);
async function own(name: string): Promise<NonNullable<OwnNodeObject['replica']>> {
  const { code, stdout, stderr } = await fleet.node(name, ['status', '--json']);
  assert.is(code, 0, stderr);
  return (JSON.parse(stdout) as OwnNodeObject).replica!;
}

test('a replica that starts when the founder is lost finds another one, and gets from it what it missed (promise 6)', async () => {
  for (const name of ['r1', 'r2']) await inStep(name);
  await fleet.daemon('r2').end('SIGTERM');
  for (let n = 0; n < 3; n += 1) await fleet.ended(await fleet.submit(['true']));
  await inStep('r1');
  const { size, root } = await fleet.client.get<MeshObject>('/v1/status');
  await fleet.hubDaemon!.end('SIGKILL');
  // This process of it has never heard of anybody: where r1 is stands on its disk.
  fleet.members.set('r2', await fleet.startMember('r2'));
  await fleet.untilAsked(async () => (await own('r2')).size === size, 'r2 has caught up');
  const { follows, behind } = await own('r2');
  assert.equal([follows?.name, behind], ['r1', 0]);
  await fleet.daemon('r2').end('SIGTERM');
  const report = await verifyLog(new FileStorage(join(fleet.dir('r2'), 'log')));
  assert.equal([report.size, report.root], [size, root]);
});

test.run();
