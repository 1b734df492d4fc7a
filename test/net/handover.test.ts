// limit: 180 s
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, Page } from '../../node/api/objects.ts';
import { Fleet, freePort, wake } from './fleet.ts';
import { run } from './mesh.ts';

// Where members look for a founder that was started anew: they have no mDNS here.
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 0 }, hubArgs: ARGS, members: { w1: { slots: 2 } } });
test.after(() => fleet.close());

const { token } = await fleet.json<{ token: string }>([
  'invite',
  '--role',
  'worker',
  '--role',
  'replica',
  '--role',
  'operator',
]);
fleet.configure('r1', { slots: 0 });
const r1 = await fleet.joinWith('r1', token);
const clientOf = (name: string): Client => new Client({ dir: fleet.dir(name), startHint: 'mesh-node start' });
const kindOf = (name: string): string =>
  JSON.parse(readFileSync(join(fleet.dir(name), 'config.json'), 'utf8')).kind;

/** Asked where it runs: on the founder itself, or through a member that hands the question on. */
const mesh = (at: string): Promise<MeshObject | null> =>
  clientOf(at)
    .get<MeshObject>('/v1/status')
    .catch(() => null);
const lagOf = async (at: string, name: string): Promise<number | null> => {
  const { items } = await clientOf(at).get<Page<NodeObject>>('/v1/nodes');
  return items.find((node) => node.name === name)?.lag ?? null;
};
const inStep = (at: string, name: string): Promise<void> =>
  fleet.untilAsked(
    async () => (await lagOf(at, name).catch(() => null)) === 0,
    `${name} holds the whole log of ${at}`,
  );
const log = async (name: string): Promise<Entry[]> => {
  const entries: Entry[] = [];
  for await (const entry of clientOf(name).lines<Entry>('GET', '/v1/ledger/entries?from=0&follow=0'))
    entries.push(entry);
  return entries;
};

test('a mesh is handed over: no task is lost, what runs goes on, and the epoch rises by one (promises 8 and 16)', async () => {
  await inStep('hub', 'r1');
  const kept = await fleet.hub(['secret', 'set', 'TOKEN'], { input: 'open sesame\n' });
  assert.is(kept.code, 0, kept.stderr);
  const before = await fleet.submit(['true']);
  await fleet.ended(before);
  // Two slots: one runs on over the handover, the other is free for what the new founder gives out.
  const long = await fleet.submit(['sh', '-c', 'sleep 600; echo through']);
  await fleet.about(long, 'attempt.started');
  const secret = await fleet.submit(['sh', '-c', 'test "$TOKEN" = "open sesame"'], { secrets: ['TOKEN'] });
  const queued = await Promise.all(Array.from({ length: 6 }, () => fleet.submit(['sh', '-c', 'sleep 0.4'])));
  const done = await fleet.hub(['handover', 'r1', '--json']);
  assert.is(done.code, 0, done.stderr + fleet.hubDaemon!.log);
  const report = JSON.parse(done.stdout);
  assert.equal([report.epoch, report.founder.name, report.taken], [2, 'r1', true]);
  await wake('echo through');
  for (const id of [long, secret, ...queued]) {
    const ended = await fleet.ended(id);
    assert.is(ended.state, 'delivered', JSON.stringify(ended));
  }
  assert.is((await fleet.describe(long)).attempts, 1, 'what ran has run on');
  assert.equal([kindOf('hub'), kindOf('r1')], ['node', 'hub']);
  const entries = await log('r1');
  const handover = entries.find(({ type }) => type === 'epoch.handover')!;
  const next = entries.find(({ type, index }) => type === 'attempt.assigned' && index > handover.index)!;
  const last = entries.findLast(({ type, index }) => type === 'attempt.assigned' && index < handover.index)!;
  console.log(
    `stopped for ${report.heldMs} ms here; from the handover to the next assignment ${next.time - handover.time} ms; last before ${handover.time - last.time} ms`,
  );
  assert.ok(next.time - handover.time < 2_000, `${next.time - handover.time} ms without dispatch`);
  assert.ok(!existsSync(join(`${fleet.dir('hub')}.secrets`, 'secrets.json')), 'the secrets have moved');
});

test('a former founder follows as a replica, and the mesh can be handed back to it; receipts of all epochs are proved', async () => {
  await inStep('r1', 'hub');
  const during = await fleet.submit(['true']);
  await fleet.ended(during);
  const back = await fleet.node('r1', ['status', '--json']);
  assert.is(back.code, 0, back.stderr);
  const done = await run([join(import.meta.dirname, '../../scripts/mesh-hub'), 'handover', 'hub', '--json'], {
    env: { MESH_HOME: fleet.dir('r1') },
  });
  assert.is(done.code, 0, done.stderr + r1.log);
  await fleet.untilAsked(async () => (await mesh('hub'))?.epoch === 3, 'the first founder leads again');
  const after = await fleet.submit(['true']);
  assert.is((await fleet.ended(after)).state, 'delivered');
  await inStep('hub', 'r1');
  assert.equal([kindOf('hub'), kindOf('r1')], ['hub', 'node']);
  const { mesh: id } = (await mesh('hub'))!;
  for (const task of [during, after]) {
    const file = join(fleet.home, `${task}.receipt`);
    await fleet.json(['receipt', 'show', task, '--output', file]);
    const proved = await fleet.hub(['receipt', 'verify', file, '--mesh', id]);
    assert.match(proved.stdout, /^proved:/m, proved.stderr);
  }
  const epochs = (await log('hub')).map(({ epoch }) => epoch);
  assert.equal(
    epochs,
    [...epochs].sort((a, b) => a - b),
    'epochs only rise',
  );
});

test('what cannot be made the founder is refused before anything is stopped', async () => {
  for (const [node, code] of [
    ['nobody', 'SF_NOT_FOUND'],
    ['w1', 'SF_CONFLICT'],
    ['hub', 'SF_CONFLICT'],
  ]) {
    const refused = await fleet.hub(['handover', node!, '--json']);
    assert.is(JSON.parse(refused.stderr.trim().split('\n').at(-1)!).error.code, code, refused.stderr);
    assert.is(refused.code, 2);
  }
  await r1.end('SIGTERM');
  const away = await fleet.hub(['handover', 'r1']);
  assert.match(away.stderr, /r1 does not follow the log now/);
  assert.is((await fleet.ended(await fleet.submit(['true']))).state, 'delivered', 'everything goes on');
});

test.run();
