// limit: 120 s
// timed: it measures how soon work stops
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import type { PausedObject, UnreachedObject } from '../../node/api/objects.ts';
import { leaseMs, ringSlots } from '../../protocol/limits.ts';
import { childless, descendants, Fleet, freePort, gone, processes, runs } from './fleet.ts';

/** Contract: a pause stops all within this. */
const STOPPED_MS = 1_000;
const ARGS = ['--port', String(await freePort())];

const fleet = await Fleet.start({
  hub: { slots: 12 },
  hubArgs: ARGS,
  members: { m1: { slots: 12 }, m2: { slots: 12 } },
});
test.after(() => fleet.close());

const state = async (node: string): Promise<string> =>
  (await fleet.client.get<{ state: string }>(`/v1/nodes/${node}`)).state;

test('pause stops everything on all machines within 1 s, survives a restart of the founder, and resume goes on (promise 15)', async () => {
  const mark = 'mark-paused';
  const tasks = await Promise.all(
    Array.from({ length: ringSlots }, () => fleet.submit(['sh', '-c', `sleep 600; : ${mark}`])),
  );
  for (const task of tasks) await fleet.about(task, 'attempt.started');
  await runs(mark, ringSlots);
  const from = fleet.next;
  const began = performance.now();
  const pause = async (): Promise<UnreachedObject[]> =>
    (await fleet.client.post<PausedObject>('/v1/mesh/pause')).unreached;
  // The answer waits for the members' word; that nothing runs is looked at meanwhile.
  const answer = pause().then(() => performance.now() - began);
  await gone(mark);
  const ms = performance.now() - began;
  const answered = await answer;
  console.log(
    `mesh paused: ${ringSlots} attempts on 3 machines gone after ${Math.round(ms)} ms, answered after ${Math.round(answered)}`,
  );
  assert.ok(ms < STOPPED_MS, `everything stopped after ${ms} ms`);
  await fleet.untilAsked(async () => (await pause()).length === 0, 'all have said so');
  for (const task of tasks) {
    const ended = await fleet.about(task, 'attempt.ended', from);
    assert.is(ended.body.fault, 'person', 'it costs the task nothing');
  }
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(ARGS);
  const status = await fleet.json<{ paused: boolean }>(['status']);
  assert.is(status.paused, true);
  const why = await fleet.hub(['task', 'why', tasks[0]!]);
  assert.match(why.stdout, /the mesh is paused/);
  await Promise.all(
    ['m1', 'm2'].map((node) =>
      fleet.untilAsked(async () => (await state(node)) === 'paused', `${node} is back`),
    ),
  );
  assert.equal(
    processes((text) => text.includes(mark)),
    [],
    'nothing runs while it is paused',
  );
  const resumed = fleet.next;
  await fleet.json(['resume']);
  for (const task of tasks) await fleet.about(task, 'attempt.started', resumed);
  await runs(mark, ringSlots);
  const stopping = performance.now();
  for (const task of tasks) await fleet.client.post(`/v1/tasks/${task}/stop`);
  await gone(mark);
  assert.ok(performance.now() - stopping < STOPPED_MS, 'a cancel stops a task as fast');
  for (const task of tasks) assert.is((await fleet.ended(task)).state, 'cancelled');
});

test('a member that cannot be reached is named, and stops by itself when its lease ends (promise 15)', async () => {
  const mark = 'mark-unreached';
  const task = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`], { on: 'm1' });
  await fleet.about(task, 'attempt.started');
  const member = fleet.daemon('m1').child;
  member.kill('SIGSTOP');
  try {
    const { unreached } = await fleet.json<PausedObject>(['pause']);
    assert.equal(
      unreached.map(({ name, attempts }) => [name, attempts]),
      [['m1', 1]],
    );
    assert.ok(unreached[0]!.within <= leaseMs);
  } finally {
    member.kill('SIGCONT');
  }
  await gone(mark);
  await fleet.json(['resume']);
  await fleet.about(task, 'attempt.started', 0, { attempt: 2 });
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  await fleet.ended(task);
});

test('pause --drain lets what runs finish and gives out nothing more', async () => {
  const running = await fleet.submit(['sleep', '1']);
  await fleet.about(running, 'attempt.started');
  const paused = await fleet.hub(['pause', '--drain']);
  assert.match(paused.stdout, /^draining: nothing more is given out/m);
  const queued = await fleet.submit(['true']);
  assert.is((await fleet.ended(running)).state, 'delivered');
  assert.is((await fleet.describe(queued)).state, 'queued');
  await fleet.json(['resume']);
  assert.is((await fleet.ended(queued)).state, 'delivered');
});

test('the owner’s pause stops a machine at once while the founder is frozen, and nothing of the task is left (promise 15)', async () => {
  // Many, so that their end takes a moment that nobody may skip.
  const many = 'for n in $(seq 300); do sleep 1.5 & done; wait; : mark-of-owner';
  const task = await fleet.submit(['sh', '-c', many], { on: 'm1' });
  const { pid } = fleet.daemon('m1');
  await fleet.untilAsked(async () => descendants(pid).length > 300, 'they run');
  const founder = fleet.hubDaemon!.child;
  founder.kill('SIGSTOP');
  try {
    const owner = new Client({ dir: fleet.dir('m1'), startHint: '' });
    const began = performance.now();
    const paused = await owner.post<{ state: string }>('/v1/node/pause', { ms: null });
    const ms = performance.now() - began;
    assert.equal(descendants(pid), [], 'nothing of it is left when the answer comes');
    assert.is(paused.state, 'paused');
    assert.ok(ms < STOPPED_MS, `stopped after ${ms} ms`);
    console.log(`owner paused, founder frozen: 300 processes gone after ${Math.round(ms)} ms`);
    const again = await fleet.node('m1', ['pause', '--json']);
    assert.is(again.code, 0, 'the command needs no founder either');
    assert.is(JSON.parse(again.stdout).state, 'paused');
  } finally {
    founder.kill('SIGCONT');
  }
  const end = await fleet.about(task, 'attempt.ended');
  assert.is(end.body.fault, 'person');
  assert.is(await state('m1'), 'paused');
  const why = await fleet.hub(['task', 'why', task]);
  assert.match(why.stdout, /m1\s+is paused by its owner/);
  // The owner's word outlives the process.
  await fleet.daemon('m1').end('SIGKILL');
  fleet.members.set('m1', await fleet.startMember('m1'));
  await fleet.untilAsked(async () => (await state('m1')) === 'paused', 'm1 is back, and paused');
  const resumed = await fleet.node('m1', ['resume']);
  assert.is(resumed.code, 0, resumed.stderr);
  assert.is((await fleet.ended(task)).state, 'delivered');
});

test('a pause for a time ends by itself', async () => {
  const paused = await fleet.node('m2', ['pause', '1s']);
  assert.is(paused.code, 0, paused.stderr);
  const task = await fleet.submit(['true'], { on: 'm2' });
  assert.is((await fleet.ended(task)).executor!.name, 'm2');
});

test('the owner of the founder’s machine pauses it like any other: the mesh goes on', async () => {
  const task = await fleet.submit(['sleep', '1'], { on: 'hub' });
  await fleet.about(task, 'attempt.started');
  const paused = await fleet.client.post<{ state: string }>('/v1/node/pause', { ms: null });
  assert.is(paused.state, 'paused');
  await childless(fleet.hubDaemon!.pid, STOPPED_MS);
  const other = await fleet.submit(['true']);
  assert.is.not((await fleet.ended(other)).executor!.name, 'hub');
  await fleet.client.post('/v1/node/resume');
  assert.is((await fleet.ended(task)).state, 'delivered');
});

test.run();
