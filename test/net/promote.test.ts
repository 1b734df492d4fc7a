// limit: 240 s
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { Client } from '../../node/api/client.ts';
import type { MeshObject, NodeObject, Page, TaskDetail } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';
import { type Daemon, type Outcome, run } from './mesh.ts';

const ARGS = ['--port', String(await freePort())];
// Two replicas at ports of their own: without mDNS that is where members find the founder that one of them becomes.
const PORTS = { r1: await freePort(), r2: await freePort() };
const fleet = await Fleet.start({
  hub: { slots: 0, lease: '3s', heartbeat: '1s' },
  hubArgs: ARGS,
  members: { w1: { slots: 1 } },
});
test.after(() => fleet.close());

const KEY = join(fleet.home, 'recovery.key');
const words = ['invite', '--role', 'worker', '--role', 'replica', '--role', 'operator', '--uses', '2'];
const { token } = await fleet.json<{ token: string }>(words);
const replicas: Record<string, Daemon> = {};
const start = (name: 'r1' | 'r2'): Promise<Daemon> =>
  fleet.startMember(name, ['--port', String(PORTS[name])]).then((daemon) => (replicas[name] = daemon));
const joins = async (name: 'r1' | 'r2'): Promise<void> => {
  fleet.configure(name, { slots: 0, port: PORTS[name] });
  replicas[name] = await fleet.joinWith(name, token, PORTS[name]);
};
await Promise.all([joins('r1'), joins('r2')]);

const clientOf = (name: string): Client => new Client({ dir: fleet.dir(name), startHint: 'mesh-node start' });
const mesh = (at: string): Promise<MeshObject> => clientOf(at).get<MeshObject>('/v1/status');
const inStep = (at: string, name: string): Promise<void> =>
  fleet.untilAsked(async () => {
    const found = await clientOf(at)
      .get<Page<NodeObject>>('/v1/nodes')
      .catch(() => null);
    return found?.items.find((node) => node.name === name)?.lag === 0;
  }, `${name} holds the whole log of ${at}`);
/** `mesh-hub …` in the data folder of this machine. */
const hubAt = (name: string, args: string[]): Promise<Outcome> =>
  run([join(import.meta.dirname, '../../scripts/mesh-hub'), ...args], {
    env: { MESH_HOME: fleet.dir(name) },
  });
const promote = (name: string, more: string[] = []): Promise<Outcome> =>
  hubAt(name, ['promote', '--recovery-key', KEY, '--json', ...more]);
const codeOf = ({ stderr }: Outcome): string => JSON.parse(stderr.trim().split('\n').at(-1)!).error.code;
const delivered = async (at: string, task: string): Promise<TaskDetail> => {
  let last: TaskDetail | null = null;
  await fleet.untilAsked(async () => {
    last = await clientOf(at)
      .get<TaskDetail>(`/v1/tasks/${task}`)
      .catch(() => null);
    return last !== null && last.finishedAt !== null;
  }, `${task} ends`);
  assert.is(last!.state, 'delivered', JSON.stringify(last));
  return last!;
};
const kindOf = (name: string): string =>
  JSON.parse(readFileSync(join(fleet.dir(name), 'config.json'), 'utf8')).kind;

let before = '';
let queued: string[] = [];
let lost = '';

test('nobody is promoted over a founder that answers, with another key, or while the replica runs', async () => {
  before = await fleet.submit(['true']);
  await fleet.ended(before);
  await inStep('hub', 'r1');
  await inStep('hub', 'r2');
  const running = await promote('r1');
  assert.equal([codeOf(running), running.code], ['SF_LOCKED', 6]);
  assert.match(running.stderr, /mesh-node stop/);
  await replicas.r1!.end('SIGTERM');
  const answers = await promote('r1');
  assert.equal([codeOf(answers), answers.code], ['SF_REFUSED', 4], answers.stderr);
  writeFileSync(join(fleet.home, 'other.key'), `${Buffer.alloc(32, 7).toString('base64')}\n`);
  const other = await hubAt('r1', ['promote', '--json', '--recovery-key', join(fleet.home, 'other.key')]);
  assert.equal([codeOf(other), other.code], ['SF_NOT_PROVED', 5]);
  const worker = await hubAt('w1', ['promote', '--json', '--recovery-key', KEY]);
  assert.is(codeOf(worker), 'SF_LOCKED');
  assert.is(kindOf('r1'), 'node');
});

test('the founder is lost: a replica takes what another holds more, members find it, the queue goes on (promises 8 and 16)', async () => {
  // r1 is down: only r2 sees these.
  const long = await fleet.submit(['sh', '-c', 'sleep 1']);
  queued = [long, ...(await Promise.all([1, 2, 3].map(() => fleet.submit(['sh', '-c', 'sleep 0.2']))))];
  await inStep('hub', 'r2');
  await replicas.r2!.end('SIGKILL');
  // And this only the founder: it is acknowledged, and on no other disk.
  lost = await fleet.submit(['true']);
  await fleet.hubDaemon!.end('SIGKILL');
  await start('r2');
  const killedAt = performance.now();
  const done = await promote('r1');
  assert.is(done.code, 0, done.stderr);
  const said = JSON.parse(done.stdout);
  assert.equal([said.epoch, said.founder.name], [2, 'r1']);
  assert.ok(said.taken > 0, 'r2 held more');
  assert.ok(said.asked >= 1);
  const again = await promote('r1');
  assert.equal([codeOf(again), again.code], ['SF_CONFLICT', 2], 'it is a founder’s folder now');
  replicas.r1 = new (replicas.r2!.constructor as typeof Daemon)(
    [join(import.meta.dirname, '../../scripts/mesh-hub'), 'start', '--json', '--port', String(PORTS.r1)],
    null,
    { MESH_HOME: fleet.dir('r1') },
  );
  fleet.daemons.push(replicas.r1);
  await replicas.r1.event('ready');
  for (const task of queued) await delivered('r1', task);
  console.log(
    `from the death of the founder to the end of its queue: ${Math.round(performance.now() - killedAt)} ms`,
  );
  await inStep('r1', 'r2');
  assert.is((await mesh('r1')).epoch, 2);
  const after = (
    await clientOf('r1').post<{ id: string }>('/v1/tasks', {
      spec: { kind: 'command', argv: ['true'] },
      bundle: null,
    })
  ).id;
  await delivered('r1', after);
  const { mesh: id } = await mesh('r1');
  for (const task of [before, queued[0]!, after]) {
    const file = join(fleet.home, `${task}.receipt`);
    const shown = await hubAt('r1', ['receipt', 'show', task, '--output', file]);
    assert.is(shown.code, 0, shown.stderr);
    const proved = await hubAt('r1', ['receipt', 'verify', file, '--mesh', id]);
    assert.match(proved.stdout, /^proved:/m, proved.stderr);
  }
});

test('the founder that was lost comes back: it is fenced before it gives anything out, keeps its own tail aside and follows (promise 8)', async () => {
  const back = fleet.startFounder(ARGS);
  fleet.hubDaemon = await back;
  await fleet.hubDaemon.until(
    () => (/this log was handed over/.test(fleet.hubDaemon!.log) ? true : undefined),
    'it says that it is fenced',
  );
  await inStep('r1', 'hub');
  assert.is(kindOf('hub'), 'node');
  const aside = readdirSync(fleet.dir('hub')).filter((name) => name.startsWith('log.fenced-'));
  assert.equal(aside, ['log.fenced-1']);
  const kept = new FileStorage(join(fleet.dir('hub'), aside[0]!));
  assert.is((await verifyLog(kept)).mesh, (await mesh('r1')).mesh, 'its own history is whole');
  const bytes = readdirSync(join(fleet.dir('hub'), aside[0]!))
    .filter((name) => name.endsWith('.jsonl'))
    .map((name) => readFileSync(join(fleet.dir('hub'), aside[0]!, name), 'utf8'))
    .join('');
  assert.ok(bytes.includes(lost), 'what only it had is kept');
  const entries: Entry[] = [];
  for await (const entry of clientOf('r1').lines<Entry>('GET', '/v1/ledger/entries?from=0&follow=0'))
    entries.push(entry);
  assert.is(entries.filter(({ type }) => type === 'epoch.handover').length, 1);
  assert.not.ok(JSON.stringify(entries).includes(lost));
  assert.not.ok(existsSync(join(fleet.dir('hub'), 'log.key')));
  const again = await promote('hub');
  assert.is(codeOf(again), 'SF_LOCKED');
});

test.run();
