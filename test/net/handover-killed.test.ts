// limit: 300 s
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, Page, TaskDetail } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';
import type { Daemon } from './mesh.ts';

/** A handover during which one of the two machines loses its process, at moments spread over all of its steps. */
type Name = 'hub' | 'r1';
const ARGS: Record<Name, string[]> = {
  hub: ['--port', String(await freePort())],
  r1: ['--port', String(await freePort())],
};
const fleet = await Fleet.start({
  hub: { slots: 0, lease: '3s', heartbeat: '1s' },
  hubArgs: ARGS.hub,
  members: { w1: { slots: 1 } },
});
test.after(() => fleet.close());

const words = ['invite', '--role', 'worker', '--role', 'replica', '--role', 'operator'];
const { token } = await fleet.json<{ token: string }>(words);
fleet.configure('r1', { slots: 0 });
await (await fleet.joinWith('r1', token)).end('SIGTERM');

const daemons: Partial<Record<Name, Daemon>> = { hub: fleet.hubDaemon! };
/** As a service would: always by the command that it was made with, whatever the folder has become. */
const start = async (name: Name): Promise<void> => {
  daemons[name] =
    name === 'hub' ? await fleet.startFounder(ARGS.hub) : await fleet.startMember('r1', ARGS.r1);
};
await start('r1');

const clientOf = (name: Name): Client => new Client({ dir: fleet.dir(name), startHint: 'mesh-hub start' });
const asked = <T>(name: Name, path: string): Promise<T | null> =>
  clientOf(name)
    .get<T>(path)
    .catch(() => null);
const kindOf = (name: Name): string =>
  JSON.parse(readFileSync(join(fleet.dir(name), 'config.json'), 'utf8')).kind;
const otherOf = (name: Name): Name => (name === 'hub' ? 'r1' : 'hub');

/** Waits until the two agree on who leads, and the other one holds all of its log; answers with who and the epoch. */
async function agreed(): Promise<{ leader: Name; epoch: number }> {
  let found: { leader: Name; epoch: number } | null = null;
  await fleet.untilAsked(async () => {
    const kinds = [kindOf('hub'), kindOf('r1')];
    if (kinds[0] === kinds[1]) return false;
    const leader: Name = kinds[0] === 'hub' ? 'hub' : 'r1';
    const [one, two] = await Promise.all([
      asked<MeshObject>('hub', '/v1/status'),
      asked<MeshObject>('r1', '/v1/status'),
    ]);
    if (one === null || two === null || one.epoch !== two.epoch || one.founder !== two.founder) return false;
    const nodes = await asked<Page<NodeObject>>(leader, '/v1/nodes');
    const follower = nodes?.items.find(({ name }) => name === otherOf(leader));
    if (follower?.lag !== 0) return false;
    found = { leader, epoch: one.epoch };
    return true;
  }, 'one of the two leads and the other follows');
  return found!;
}

const tasks: string[] = [];
const MOMENTS = [5, 20, 40, 80, 160, 320, 640];

for (const victim of ['founder', 'successor'] as const) {
  test(`the ${victim} is killed in the midst of a handover: one founder is left, and no entry is lost (promises 8 and 16)`, async () => {
    let done = 0;
    for (const ms of MOMENTS) {
      const { leader, epoch } = await agreed();
      const task = await clientOf(leader).post<{ id: string }>('/v1/tasks', {
        spec: { kind: 'command', argv: ['true'] },
        bundle: null,
      });
      tasks.push(task.id);
      const handover = (async () => {
        const lines = clientOf(leader).lines('POST', '/v1/handover', undefined, { node: otherOf(leader) });
        for await (const _ of lines);
      })().catch(() => {});
      // Any moment will do, and all of them are wanted.
      await delay(ms);
      const killed = victim === 'founder' ? leader : otherOf(leader);
      await daemons[killed]!.end('SIGKILL');
      await handover;
      await start(killed);
      const after = await agreed();
      const changed = after.leader !== leader;
      assert.is(after.epoch, epoch + (changed ? 1 : 0), `killed after ${ms} ms: an epoch for each founder`);
      if (changed) done += 1;
      for (const id of tasks) {
        assert.ok(await asked<TaskDetail>(after.leader, `/v1/tasks/${id}`), `${id} after ${ms} ms`);
      }
    }
    console.log(`${victim} killed ${MOMENTS.length} times, handed over all the same ${done} times`);
    assert.ok(done > 0, 'some came after the fence');
  });
}

test('every task that was acknowledged meanwhile is delivered', async () => {
  const { leader } = await agreed();
  for (const id of tasks) {
    await fleet.untilAsked(
      async () => (await asked<TaskDetail>(leader, `/v1/tasks/${id}`))?.state === 'delivered',
      `${id} is delivered`,
    );
  }
});

test.run();
