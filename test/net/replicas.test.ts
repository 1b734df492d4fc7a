// limit: 120 s
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { MeshObject, NodeObject, Page, StatusObject } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';

// The same port after every start: without mDNS that is where members look for their founder.
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS });
test.after(() => fleet.close());

const { token } = await fleet.json<{ token: string }>([
  'invite',
  '--role',
  'worker',
  '--role',
  'replica',
  '--uses',
  '2',
]);
for (const name of ['r1', 'r2']) fleet.configure(name, { slots: 1 });
const [r1, r2] = await Promise.all([fleet.joinWith('r1', token), fleet.joinWith('r2', token)]);

const lag = async (name: string): Promise<number | null> => {
  const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
  return items.find((node) => node.name === name)!.lag;
};
const mesh = (): Promise<MeshObject> => fleet.client.get<MeshObject>('/v1/status');
const inStep = (name: string): Promise<void> =>
  fleet.untilAsked(async () => (await lag(name)) === 0, `${name} holds the whole log`);

test('replicas hold the whole log a moment after the founder, and the founder says how far each is (promise 6)', async () => {
  for (const name of ['r1', 'r2']) await inStep(name);
  assert.not.match((await mesh()).warnings.join(), /replica/);
  const { replicas } = await fleet.json<StatusObject>(['status']);
  assert.equal(replicas.map(({ name, lag }) => [name, lag]).sort(), [
    ['r1', 0],
    ['r2', 0],
  ]);
  const task = await fleet.submit(['true']);
  await fleet.ended(task);
  for (const name of ['r1', 'r2']) await inStep(name);
  const { size, root } = await mesh();
  for (const name of ['r1', 'r2']) {
    const report = await verifyLog(new FileStorage(join(fleet.dir(name), 'log')));
    assert.equal([report.size, report.root], [size, root], name);
  }
});

test('replicas cosign what they have verified and synced: a proof file carries their word', async () => {
  const file = join(fleet.home, 'proof.json');
  await fleet.untilAsked(async () => {
    rmSync(file, { force: true });
    const made = await fleet.hub(['ledger', 'prove', '0', '--output', file]);
    assert.is(made.code, 0, made.stderr);
    const { checkpoint } = JSON.parse(readFileSync(file, 'utf8')) as { checkpoint: string };
    return checkpoint.split('\n').filter((line) => line.startsWith('— 12D3KooW')).length === 2;
  }, 'two cosignatures of the newest checkpoint');
  const verified = await fleet.hub(['proof', 'verify', file, '--mesh', (await mesh()).mesh]);
  assert.is(verified.code, 0, verified.stderr);
  assert.is(verified.stdout.match(/cosigned that at/g)?.length, 2, verified.stdout);
});

test('a replica that was killed goes on where its own copy ends', async () => {
  await r1.end('SIGKILL');
  await fleet.untilAsked(async () => (await lag('r1')) === null, 'the founder sees that r1 follows no more');
  const before = (await mesh()).size;
  for (let n = 0; n < 3; n += 1) await fleet.ended(await fleet.submit(['true']));
  assert.ok((await mesh()).size > before);
  await fleet.startMember('r1');
  await inStep('r1');
  const { size, root } = await mesh();
  const report = await verifyLog(new FileStorage(join(fleet.dir('r1'), 'log')));
  assert.equal([report.size, report.root], [size, root]);
});

test('a replica follows a founder that was killed and came back', async () => {
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(ARGS);
  await fleet.ended(await fleet.submit(['true']));
  for (const name of ['r1', 'r2']) await inStep(name);
});

test('a founder with a damaged log takes it back from a replica', async () => {
  const { mesh: id, size } = await mesh();
  await fleet.hubDaemon!.end('SIGTERM');
  const segment = join(fleet.dir('hub'), 'log', '0000000000000000.jsonl');
  const whole = readFileSync(segment);
  const damaged = Buffer.from(whole);
  damaged[Math.floor(damaged.length / 2)]! ^= 1;
  writeFileSync(segment, damaged);
  // A start need not read what a snapshot vouches for; a verification does.
  assert.is((await fleet.hub(['ledger', 'verify'])).code, 5);
  const { addresses } = r2.lines.find(({ event }) => event === 'ready') as unknown as { addresses: string[] };
  const address = addresses.find((text) => text.startsWith('/ip4/127.0.0.1/'))!;
  const done = await fleet.hub(['ledger', 'repair', '--from', address, '--json']);
  assert.is(done.code, 0, done.stderr);
  const report = JSON.parse(done.stdout) as { mesh: string; size: number; taken: number; lost: number };
  assert.equal([report.mesh, report.lost], [id, 0]);
  assert.ok(report.taken > 0 && report.size >= size);
  assert.ok(readFileSync(segment).subarray(0, whole.length).equals(whole));
  await fleet.up(ARGS);
  assert.is((await fleet.hub(['ledger', 'verify'])).code, 0);
});

test.run();
