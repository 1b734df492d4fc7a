// limit: 120 s
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet, gone, runs, wake } from './fleet.ts';

const fleet = await Fleet.start({
  hub: { slots: 1 },
  members: { drained: { slots: 2 }, leaver: { slots: 2 }, revoked: { slots: 2 } },
});
test.after(() => fleet.close());

interface Node {
  name: string;
  state: string;
}
const node = async (name: string): Promise<Node | undefined> =>
  (await fleet.client.get<{ items: Node[] }>('/v1/nodes')).items.find((one) => one.name === name);

test('a drained member keeps what runs and gets nothing new; eligible, it gets work again', async () => {
  const running = await fleet.submit(['sh', '-c', 'sleep 600; : mark-of-the-drained'], { on: 'drained' });
  await fleet.about(running, 'attempt.started');
  assert.is((await fleet.json<Node>(['node', 'drain', 'drained'])).state, 'draining');
  const waiting = await fleet.submit(['true'], { on: 'drained' });
  await wake('mark-of-the-drained');
  assert.is((await fleet.ended(running)).executor!.name, 'drained', 'what ran went on');
  assert.is((await fleet.describe(waiting)).state, 'queued');
  assert.match((await fleet.hub(['task', 'why', waiting])).stdout, /drained\s+is draining/);
  assert.is((await fleet.json<Node>(['node', 'eligible', 'drained'])).state, 'online');
  assert.is((await fleet.ended(waiting)).executor!.name, 'drained');
});

/** Gone, or ended and not yet collected by its parent, which is this test. */
function hasEnded(pid: number): boolean {
  try {
    return /\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}

test('a member that leaves stops its work, ends, and its tasks go elsewhere; it may join again', async () => {
  const mark = 'mark-of-the-leaver';
  const task = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`], { on: 'leaver' });
  await runs(mark);
  const left = await fleet.node('leaver', ['leave']);
  assert.is(left.code, 0, left.stderr);
  const leaver = fleet.daemon('leaver');
  assert.ok(hasEnded(leaver.pid), 'the command returns when the process is gone');
  // Our own word of it comes a moment later.
  if (!leaver.exited) await once(leaver.child, 'exit');
  assert.is(leaver.child.exitCode, 0);
  await gone(mark, 100);
  assert.is(await node('leaver'), undefined, 'it is no member any more');
  const end = await fleet.about(task, 'attempt.ended');
  assert.is(end.body.fault, 'person');
  assert.is((await fleet.describe(task)).state, 'queued', 'its task waits for one of that name');
  const start = await fleet.node('leaver', ['start', '--json']);
  assert.is(start.code, 2, start.stderr);
  assert.match(start.stderr, /has joined no mesh/);
  const { token } = await fleet.json<{ token: string }>(['invite']);
  fleet.members.set('leaver', await fleet.joinWith('leaver', token));
  await wake(mark);
  assert.is((await fleet.ended(task)).executor!.name, 'leaver');
});

test('a revoked member loses its leases at once, and its key is refused for good', async () => {
  const mark = 'mark-of-the-revoked';
  const task = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`], { on: 'revoked' });
  await runs(mark);
  const from = fleet.next;
  const daemon = fleet.daemon('revoked');
  const exit = new Promise<number | null>((resolve) => daemon.child.once('exit', resolve));
  const done = await fleet.hub(['node', 'revoke', 'revoked', '--reason', 'it was sold']);
  assert.is(done.code, 0, done.stderr);
  assert.is(await exit, 4, daemon.log);
  await gone(mark, 1_000);
  const end = await fleet.about(task, 'attempt.ended', from);
  assert.is(end.body.fault, 'person');
  assert.is((await node('revoked'))!.state, 'revoked');
  const start = await fleet.node('revoked', ['start', '--json']);
  assert.is(start.code, 4, start.stderr);
  assert.match(start.stderr, /SF_REVOKED/);
  const { token } = await fleet.json<{ token: string }>(['invite']);
  const join = await fleet.node('revoked', ['join', token, '--json']);
  assert.is(join.code, 4, join.stderr);
  assert.match(join.stderr, /SF_REVOKED/);
  const log = fleet.entries.find(({ type }) => type === 'member.revoked')!;
  assert.is(log.body.reason, 'it was sold');
  assert.is((log.body.by as { kind: string }).kind, 'local', 'the log says who did it');
});

test.run();
