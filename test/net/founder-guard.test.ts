// limit: 150 s
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { LoggedMesh, MeshObject, NodeObject, Page } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';
import { Daemon, ok } from './mesh.ts';

// The same port after every start: without mDNS that is where members look for their founder.
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1, heartbeat: '300ms' }, hubArgs: ARGS });
test.after(() => fleet.close());
let r: Daemon;
const dir = fleet.dir('hub');
const backup = join(fleet.home, 'backup');

const invite = async (...roles: string[]): Promise<string> =>
  (await fleet.json<{ token: string }>(['invite', ...roles.flatMap((role) => ['--role', role])])).token;
const mesh = (): Promise<MeshObject> => fleet.client.get<MeshObject>('/v1/status');
const online = (name: string): Promise<void> =>
  fleet.untilAsked(async () => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.some((node) => node.name === name && node.state !== 'offline');
  }, `${name} is online`);
const run = async (): Promise<void> => void (await fleet.ended(await fleet.submit(['true'])));

/** Size of the newest checkpoint on a member's disk. */
const seen = (name: string): number =>
  Number(readFileSync(join(fleet.dir(name), 'checkpoint'), 'utf8').split('\n')[1]);

/** As a person copies a folder. */
const copy = async (from: string, to: string): Promise<void> => void (await ok(['cp', '-a', from, to]));

test('a worker, no replica: a founder restored from a backup signs nothing, and says what it waits for (promise 5)', async () => {
  fleet.configure('w', { slots: 1 });
  await fleet.joinWith('w', await invite('worker'));
  await online('w');
  await fleet.hubDaemon!.end('SIGTERM');
  await copy(dir, backup);
  await fleet.up(ARGS);
  await online('w');
  for (let n = 0; n < 3; n += 1) await run();
  const { size } = await mesh();
  await fleet.untilAsked(async () => seen('w') >= size, 'the member has heard of every entry');
  await fleet.hubDaemon!.end('SIGTERM');
  const later = join(fleet.home, 'later');
  renameSync(dir, later);
  await copy(backup, dir);
  const restored = fleet.startFounder(ARGS);
  restored.catch(() => {});
  const daemon = fleet.daemons.at(-1)!;
  await daemon.until(
    () => (daemon.log.includes(`members have seen`) ? true : undefined),
    'what the founder waits for',
  );
  assert.match(daemon.log, /--accept-loss --recovery-key FILE/);
  assert.not.ok(daemon.lines.some(({ event }) => event === 'ready'));
  // What its log tells it tells, with why it does not go on; nothing else.
  const held = await fleet.json<LoggedMesh>(['status']);
  assert.equal(
    [held.asOf.behind, held.nodes, held.size],
    [size - held.size, { online: null, total: 2 }, held.asOf.size],
  );
  assert.match(
    held.warnings.join(),
    /does not go on yet: members have seen \d+ entries and this log holds \d+/,
  );
  assert.match((await fleet.hub(['status'])).stdout, /^warning: the founder does not go on yet/m);
  const listed = await fleet.json<Page<NodeObject>>(['node', 'list']);
  assert.equal(
    listed.items.map(({ name, state }) => [name, state]),
    [
      ['hub', null],
      ['w', null],
    ],
  );
  const refused = await fleet.hub(['pause', '--json']);
  assert.is(refused.code, 5);
  assert.match(refused.stderr, /SF_BEHIND.*does not go on yet/);
  assert.is((await fleet.hub(['stop'])).code, 0);
  await daemon.ended();
  const detached = await fleet.hub(['start', '--detach', ...ARGS, '--json']);
  // Which of the two reasons is known first depends on when the member looks again.
  assert.ok(detached.code === 3 || detached.code === 5, detached.stderr);
  assert.match(
    detached.stderr,
    /waits in the background/,
    'a stop meanwhile makes no next start less careful',
  );
  assert.is((await fleet.hub(['stop'])).code, 0);
  // The right folder goes on at once.
  rmSync(dir, { recursive: true });
  renameSync(later, dir);
  await fleet.up(ARGS);
  assert.is((await mesh()).size >= size, true);
});

test('with a replica it takes back every entry before it goes on (promises 2 and 5)', async () => {
  fleet.configure('r', { slots: 1 });
  r = await fleet.joinWith('r', await invite('worker', 'replica'));
  await online('r');
  await fleet.hubDaemon!.end('SIGTERM');
  rmSync(backup, { recursive: true });
  await copy(dir, backup);
  await fleet.up(ARGS);
  await online('r');
  for (let n = 0; n < 3; n += 1) await run();
  await fleet.untilAsked(async () => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.find((node) => node.name === 'r')!.lag === 0;
  }, 'the replica holds all');
  const before = await mesh();
  await fleet.hubDaemon!.end('SIGKILL');
  rmSync(dir, { recursive: true });
  await copy(backup, dir);
  const daemon = await fleet.up(ARGS);
  assert.match(daemon.log, /entries lost here were taken back/);
  const after = await mesh();
  assert.ok(after.size >= before.size, `${after.size} entries, ${before.size} before`);
  const entries: Entry[] = [];
  for await (const entry of fleet.client.lines<Entry>('GET', '/v1/ledger/entries?from=0'))
    entries.push(entry);
  for (const { index, type, body } of fleet.entries) {
    assert.equal(
      { type: entries[index]!.type, body: entries[index]!.body },
      { type, body },
      `entry ${index}`,
    );
  }
  await run();
  assert.is((await fleet.hub(['ledger', 'verify'])).code, 0);
});

test('a founder that was killed hears its members and goes on', async () => {
  await fleet.hubDaemon!.end('SIGKILL');
  const began = performance.now();
  await fleet.up(ARGS);
  console.log(`killed, and up again after ${Math.round(performance.now() - began)} ms`);
  await run();
});

test('a copy that starts beside its original signs nothing and says which to use (promise 5)', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  const twin = join(fleet.home, 'twin');
  await copy(dir, twin);
  await fleet.up(ARGS);
  await online('r');
  const words = [join(fleet.program, 'scripts/mesh-hub'), 'start', '--port', '0', '--json'];
  const copied = new Daemon(words, null, { MESH_HOME: twin });
  fleet.daemons.push(copied);
  const { size } = await mesh();
  await run();
  await copied.until(
    () => (copied.log.includes('use that one and stop this') ? true : undefined),
    'which of the two to use',
  );
  // It has had the time of a whole task to think otherwise, and more than it hears its members for.
  await run();
  await delay(2_000);
  assert.not.ok(copied.exited);
  assert.not.ok(copied.lines.some(({ event }) => event === 'ready'));
  await copied.end('SIGKILL');
  assert.ok((await mesh()).size > size, 'the original goes on');
  assert.not.ok(existsSync(join(dir, 'equivocation.json')));
});

test('what nobody holds any more is given up by the recovery key alone, in an epoch that members follow (promises 2 and 8)', async () => {
  const { size } = await mesh();
  await fleet.untilAsked(async () => seen('w') >= size, 'the worker has heard of every entry');
  await r.end('SIGKILL');
  await fleet.hubDaemon!.end('SIGTERM');
  rmSync(dir, { recursive: true });
  await copy(backup, dir);
  const key = join(fleet.home, 'recovery.key');
  const daemon = await fleet.up([...ARGS, '--accept-loss', '--recovery-key', key]);
  assert.match(daemon.log, /what was lost is given up/);
  const after = await mesh();
  assert.is(after.epoch, 2);
  assert.ok(after.size < size);
  await online('w');
  await fleet.untilAsked(async () => seen('w') === (await mesh()).size, 'the worker follows the shorter log');
  // The replica comes back with entries that the mesh went on without: it keeps them aside and follows.
  await fleet.startMember('r');
  await fleet.untilAsked(async () => {
    const { items } = await fleet.client.get<Page<NodeObject>>('/v1/nodes');
    return items.find((node) => node.name === 'r')!.lag === 0;
  }, 'the replica holds the new history');
  assert.ok(
    readdirSync(fleet.dir('r')).some((name) => name.startsWith('log.fenced')),
    'the other one is kept',
  );
});

test.run();
