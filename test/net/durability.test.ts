// limit: 120 s
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { LoggedMesh, NodeObject, Page, StatusObject, TaskObject } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';

const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS });
test.after(() => fleet.close());

const { token } = await fleet.json<{ token: string }>(['invite', '--role', 'replica', '--role', 'worker']);
fleet.configure('r1', { slots: 1 });
fleet.members.set('r1', await fleet.joinWith('r1', token));
const status = (): Promise<StatusObject> => fleet.json<StatusObject>(['status']);
const follows = (is: boolean): Promise<void> =>
  fleet.untilAsked(
    async () => {
      const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
      return (items.find(({ name }) => name === 'r1')!.lag === 0) === is;
    },
    `r1 ${is ? 'is in step' : 'does not follow'}`,
  );

test('as many replicas as follow may be asked for, and what is acknowledged then waits for them', async () => {
  await follows(true);
  assert.is((await fleet.hub(['durability', '2'])).code, 2);
  assert.equal(await fleet.json(['durability', '1']), { replicas: 1, following: 1 });
  assert.match((await fleet.hub(['durability'])).stdout, /on 1 replica; 1 replica follows now/);
  await fleet.ended(await fleet.submit(['true']));
});

test('while it is away work waits and reads are answered; asking for fewer lets it go on', async () => {
  await fleet.daemon('r1').end('SIGKILL');
  await follows(false);
  const sent = fleet.submit(['echo', 'waits']);
  let acknowledged = false;
  sent.then(
    () => (acknowledged = true),
    () => {},
  );
  await fleet.untilAsked(async () => (await status()).queue.queued === 1, 'the task is in the queue');
  const { warnings, waits } = await status();
  assert.match(warnings.join('\n'), /wait for 1 replica and 0 follow: .*: mesh-hub durability 0$/m);
  assert.equal(waits, { replicas: 1 });
  const { items } = await fleet.client.get<Page<TaskObject>>('/v1/tasks');
  let seen = false;
  const watching = (async () => {
    for await (const _ of fleet.client.lines('GET', `/v1/tasks/${items[0]!.id}/watch`)) seen = true;
  })();
  await status();
  assert.not.ok(acknowledged || seen, 'nobody was told');
  assert.equal(await fleet.json(['durability', '0']), { replicas: 0, following: 0 });
  await fleet.ended(await sent);
  await watching;
  assert.ok(acknowledged && seen);
});

test('the founder is killed and its folder wiped right after an acknowledgement: the replica holds it (promises 1 and 2)', async () => {
  fleet.members.set('r1', await fleet.startMember('r1'));
  await follows(true);
  await fleet.json(['durability', '1']);
  // A replica that is slow: it is stopped for a moment while tasks are sent, and the founder dies at an acknowledgement.
  const tasks: string[] = [];
  const acknowledged = Promise.withResolvers<void>();
  const sent = Array.from({ length: 40 }, (_, n) =>
    fleet.submit(['echo', String(n)]).then(
      (task) => {
        tasks.push(task);
        if (tasks.length === 5) acknowledged.resolve();
      },
      () => {},
    ),
  );
  fleet.daemon('r1').child.kill('SIGSTOP');
  setTimeout(() => fleet.daemon('r1').child.kill('SIGCONT'), 300);
  await acknowledged.promise;
  fleet.hubDaemon!.child.kill('SIGKILL');
  await fleet.hubDaemon!.ended();
  await Promise.all(sent);
  rmSync(fleet.dir('hub'), { recursive: true });
  await fleet.untilAsked(async () => 'asOf' in (await own<LoggedMesh>(['mesh'])), 'the copy answers');
  const { items } = await own<Page<TaskObject>>(['task', 'list']);
  const held = new Set(items.map(({ id }) => id));
  assert.equal(
    tasks.filter((task) => !held.has(task)),
    [],
    'every task that was acknowledged',
  );
  await fleet.daemon('r1').end('SIGTERM');
  const { size } = await verifyLog(new FileStorage(join(fleet.dir('r1'), 'log')));
  assert.ok(size > tasks.length);
});

async function own<T>(args: string[]): Promise<T> {
  const { code, stdout, stderr } = await fleet.node('r1', [...args, '--json']);
  assert.is(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

test.run();
