// limit: 120 s
// timed: its leases are short
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { appears, childless, descendants, Fleet, sizeOf, wake } from './fleet.ts';

const LEASE_MS = 4_000;
/** Beside the lease: the founder looks four times a second, and the next attempt is prepared. */
const MARGIN_MS = 1_500;

const fleet = await Fleet.start({
  hub: { slots: 0, lease: '4s', heartbeat: '500ms', grace: '1s' },
  members: { m1: { slots: 2 }, m2: { slots: 2 } },
});
test.after(() => fleet.close());

const accepted = (task: string): number =>
  fleet.entries.filter(({ type, body }) => type === 'task.executed' && body.task === task).length;

/** Freezes the member that runs the task, past its lease; answers its name and how long it took to be missed. */
async function freeze(task: string): Promise<{ name: string; ms: number }> {
  const name = (await fleet.describe(task)).executor!.name!;
  const from = fleet.next;
  const at = performance.now();
  fleet.daemon(name).child.kill('SIGSTOP');
  const again = await fleet.about(task, 'attempt.started', from);
  return { name, ms: again.at - at };
}

test('a member frozen in mid-task loses it after one lease, and stops it by itself when it goes on (promise 10)', async () => {
  const task = await fleet.submit(['sh', '-c', 'sleep 600; : mark-frozen']);
  await fleet.about(task, 'attempt.started');
  const { name, ms } = await freeze(task);
  console.log(`member frozen: running elsewhere after ${Math.round(ms)} ms, at a lease of ${LEASE_MS} ms`);
  assert.ok(ms < LEASE_MS + MARGIN_MS, `running elsewhere after ${ms} ms`);
  assert.ok(ms > LEASE_MS - 600, `not before its lease, less a heartbeat: ${ms} ms`);
  const { pid, child } = fleet.daemon(name);
  assert.ok(descendants(pid).length > 0, 'its task goes on beside the frozen process');
  child.kill('SIGCONT');
  await childless(pid, 1_000);
  await wake('mark-frozen');
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered');
  assert.is.not(ended.executor!.name, name);
  assert.is(accepted(task), 1);
});

test('a result that comes after its lease is kept as evidence and not accepted (promise 10)', async () => {
  const task = await fleet.submit(['sh', '-c', 'head -c 64M /dev/urandom > large'], { artifacts: ['large'] });
  await fleet.about(task, 'attempt.started');
  const incoming = join(fleet.dir('hub'), 'blobs', 'incoming');
  await appears(incoming, (path) => path.endsWith('.part') && sizeOf(path) > 2 ** 20);
  assert.is(accepted(task), 0, 'frozen before its result was all there');
  const { name } = await freeze(task);
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered');
  assert.is.not(ended.executor!.name, name);
  fleet.daemon(name).child.kill('SIGCONT');
  const late = await fleet.about(task, 'task.evidence');
  assert.is(late.body.attempt, 1);
  assert.is.not(late.body.receipt, ended.receipt, 'another receipt than the accepted one');
  assert.match(String(late.body.why), /lease/);
  const after = await fleet.describe(task);
  assert.is(accepted(task), 1);
  assert.is(after.receipt, ended.receipt);
  assert.is(after.executor!.name, ended.executor!.name);
  const { items } = await fleet.json<{ items: { type: string }[] }>(['task', 'history', task]);
  assert.is(items.filter(({ type }) => type === 'task.evidence').length, 1, 'history shows it');
  assert.is(items.filter(({ type }) => type === 'task.executed').length, 1);
});

test('members that were frozen are given work again', async () => {
  for (const name of fleet.members.keys()) {
    const task = await fleet.submit(['true'], { on: name });
    assert.is((await fleet.ended(task)).executor!.name, name);
  }
});

test.run();
