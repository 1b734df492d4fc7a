// limit: 120 s
// timed: it tells a machine that answers from one that does not
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeObject } from '../../node/api/objects.ts';
import { Fleet, wake } from './fleet.ts';

/** A cloned disk: two processes with one key, each with a data folder of its own. */
const fleet = await Fleet.start({ hub: { slots: 0 }, members: { m1: { slots: 1 } } });
test.after(() => fleet.close());

const state = async (): Promise<string | undefined> =>
  (await fleet.client.get<NodeObject>('/v1/nodes/m1')).state;
const online = (): Promise<void> =>
  fleet.untilAsked(async () => (await state()) === 'online', 'm1 is online');
const warnings = async (): Promise<string[]> =>
  (await fleet.client.get<{ warnings: string[] }>('/v1/status')).warnings;
const sessionsOf = (log: string): number => log.split('the founder answers').length - 1;

function clone(): void {
  cpSync(fleet.dir('m1'), fleet.dir('copy'), {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => !path.endsWith('.sock'),
  });
  rmSync(join(fleet.dir('copy'), 'run'), { recursive: true, force: true });
}

test('a cloned disk: the copy is refused in words (exit 4), the machine keeps its work, the operator is warned', async () => {
  await fleet.daemon('m1').end('SIGTERM');
  clone();
  fleet.members.set('m1', await fleet.startMember('m1'));
  await online();
  const task = await fleet.submit(['sh', '-c', 'sleep 600; : mark-kept']);
  await fleet.about(task, 'attempt.started');
  const copy = await fleet.node('copy', ['start', '--json', '--port', '0']);
  assert.is(copy.code, 4, copy.stderr);
  assert.is(copy.stdout, '', 'it was never ready');
  const line = copy.stderr.split('\n').find((text) => text.startsWith('{"error":'))!;
  const { error } = JSON.parse(line) as { error: { code: string; message: string; hint: string } };
  assert.is(error.code, 'SF_REFUSED');
  assert.match(error.message, /another machine, .*\(127\.0\.0\.1\), which keeps it/);
  assert.match(error.hint, /mesh-node join TOKEN --dir/);
  const warning = (await warnings()).find((text) => text.includes('two machines have the identity of m1'));
  assert.ok(warning, 'status warns');
  assert.is(sessionsOf(fleet.daemon('m1').log), 1, 'its session was never broken');
  await wake('mark-kept');
  const ended = await fleet.ended(task);
  assert.equal([ended.state, ended.attempts], ['delivered', 1]);
});

test('SIGKILL and a start at once is no clone', async () => {
  const before = (await warnings()).length;
  await fleet.daemon('m1').end('SIGKILL');
  const began = performance.now();
  fleet.members.set('m1', await fleet.startMember('m1'));
  await online();
  const ms = performance.now() - began;
  console.log(`killed and started at once: online after ${Math.round(ms)} ms`);
  const task = await fleet.submit(['true']);
  assert.is((await fleet.ended(task)).executor?.name, 'm1');
  assert.is((await warnings()).length, before, 'no new warning');
});

test('a machine that was hung and replaced by its copy: the copy works, the old one is refused when it wakes', async () => {
  const old = fleet.daemon('m1');
  old.child.kill('SIGSTOP');
  const copy = await fleet.startMember('copy');
  await online();
  const task = await fleet.submit(['true']);
  assert.is((await fleet.ended(task)).state, 'delivered');
  old.child.kill('SIGCONT');
  await old.until(
    () => (old.log.includes('which keeps it') || undefined) as true | undefined,
    'the old one hears that the other keeps the identity',
  );
  assert.not.ok(old.exited, 'one that was in waits for its turn');
  assert.is(sessionsOf(copy.log), 1, 'the two do not take turns');
  await copy.end('SIGTERM');
  await fleet.untilAsked(
    async () => (await state()) === 'online',
    'when the other has gone, the one that waits is in',
  );
});

test.run();
