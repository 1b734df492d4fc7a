// limit: 120 s
// timed: it measures how soon work goes on elsewhere
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { appears, Fleet, gone, runs, sizeOf } from './fleet.ts';

/** Issue and contract: a lost member's task runs elsewhere within this. */
const RECOVERED_MS = 3_000;
/** A process that is no child of the one that died goes with its sandbox. */
const GONE_MS = 1_000;

const fleet = await Fleet.start({
  hub: { slots: 0 },
  members: { m1: { slots: 2 }, m2: { slots: 2 }, m3: { slots: 2 } },
});
test.after(() => fleet.close());

async function kill(name: string): Promise<number> {
  const at = performance.now();
  await fleet.daemon(name).end('SIGKILL');
  return at;
}

/** The killed member comes back with its folder as it lay. */
async function revive(name: string): Promise<void> {
  fleet.members.set(name, await fleet.startMember(name));
}

async function executorOf(task: string): Promise<string> {
  await fleet.about(task, 'attempt.started');
  return (await fleet.describe(task)).executor!.name!;
}

const accepted = (task: string): number =>
  fleet.entries.filter(({ type, body }) => type === 'task.executed' && body.task === task).length;
const finished = (task: string): number =>
  fleet.entries.filter(({ type, body }) => type === 'task.converged' && body.task === task).length;

test('a member killed in mid-task: its task runs on another within 3 s and is delivered once (promise 10)', async () => {
  const mark = 'mark-killed-in-mid-task';
  const task = await fleet.submit(['sh', '-c', `sleep 2; : ${mark}`], {
    repository: await fleet.repository(),
    checks: ['true'],
  });
  const first = await executorOf(task);
  await runs(mark);
  const from = fleet.next;
  const killed = await kill(first);
  const died = await gone(mark, GONE_MS);
  const again = await fleet.about(task, 'attempt.started', from);
  const ms = again.at - killed;
  console.log(
    `member lost: running elsewhere after ${Math.round(ms)} ms; its processes gone after ${Math.round(died)} ms`,
  );
  assert.ok(ms < RECOVERED_MS, `running on another member after ${ms} ms`);
  const done = await fleet.ended(task);
  assert.is(done.state, 'delivered');
  assert.is(done.verified, true);
  assert.is.not(done.executor!.name, first);
  assert.is(done.attempts, 2);
  assert.is(accepted(task), 1);
  assert.is(finished(task), 1);
  const lost = fleet.entries.find(({ type, body }) => type === 'attempt.ended' && body.task === task);
  assert.is(lost!.body.reason, 'lost');
  assert.is(lost!.body.fault, 'machine', 'it costs the task no retry');
  await revive(first);
});

test('a member killed while its result is fetched: another gives the one result, its own is evidence (promise 10)', async () => {
  const task = await fleet.submit(['sh', '-c', 'head -c 64M /dev/urandom > large'], {
    artifacts: ['large'],
    limits: { workspaceBytes: 2 ** 30 },
  });
  const first = await executorOf(task);
  const incoming = join(fleet.dir('hub'), 'blobs', 'incoming');
  await appears(incoming, (path) => path.endsWith('.part') && sizeOf(path) > 2 ** 20);
  assert.is(accepted(task), 0, 'killed before its result was all there');
  const from = fleet.next;
  const killed = await kill(first);
  const again = await fleet.about(task, 'attempt.started', from);
  assert.ok(again.at - killed < RECOVERED_MS, `running on another member after ${again.at - killed} ms`);
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered');
  assert.is.not(ended.executor!.name, first);
  assert.is(accepted(task), 1);
  assert.is(finished(task), 1);
  await revive(first);
  const late = await fleet.about(task, 'task.evidence');
  assert.is(late.body.attempt, 1, 'what it had on its disk is kept as evidence');
  assert.is((await fleet.describe(task)).receipt, ended.receipt, 'and changes nothing');
  await fleet.until(
    () => (readdirSync(incoming).length === 0 ? true : undefined),
    'no half blob on the founder',
  );
});

test('a member killed while it verifies: another verifies, the work is not done again (promise 13)', async () => {
  const mark = 'mark-killed-in-verifying';
  const task = await fleet.submit(['true'], {
    repository: await fleet.repository(),
    checks: [`sleep 1; : ${mark}`],
  });
  const executed = await fleet.about(task, 'task.executed');
  await fleet.about(task, 'attempt.started', executed.index);
  const first = (await fleet.describe(task)).verifier!.name!;
  await runs(mark);
  const from = fleet.next;
  const killed = await kill(first);
  await gone(mark, GONE_MS);
  const again = await fleet.about(task, 'attempt.started', from);
  assert.ok(again.at - killed < RECOVERED_MS, `verified on another member after ${again.at - killed} ms`);
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered');
  assert.is(ended.verified, true);
  assert.is.not(ended.verifier!.name, first);
  assert.is(ended.attempts, 1, 'it was executed once');
  assert.is(accepted(task), 1);
  await revive(first);
});

test('what was killed left nothing on its disk: neither work nor results wait there after a restart', async () => {
  for (const name of fleet.members.keys()) {
    await fleet.until(
      () => (readdirSync(join(fleet.dir(name), 'attempts')).length === 0 ? true : undefined),
      `no attempt on ${name}`,
    );
  }
});

test('a node killed in mid-attempt finds its disk after the restart as it was before: no workspace, no bundle of it, no half blob', async () => {
  const repository = await fleet.repository();
  const parts = ['attempts', 'blobs', 'environments', 'repos'];
  const disk = (): string[] =>
    parts
      .filter((part) => existsSync(join(fleet.dir('m1'), part)))
      .flatMap((part) =>
        readdirSync(join(fleet.dir('m1'), part), { recursive: true, encoding: 'utf8' }).map(
          (name) => `${part}/${name}`,
        ),
      )
      // The database of small blobs names its files as it likes.
      .filter((name) => !name.startsWith('blobs/small'));
  // What the repository's bundle brings into the cache comes with the first task.
  await fleet.ended(await fleet.submit(['true'], { repository, on: 'm1' }));
  await fleet.until(
    () =>
      ['attempts', join('blobs', 'blobs')].every(
        (part) => readdirSync(join(fleet.dir('m1'), part)).length === 0,
      ) || undefined,
    'the first one is settled, and the bundle of its commit gone',
  );
  const before = disk().sort();
  const mark = 'mark-killed-with-a-bundle';
  const checks = [`sleep 60; : ${mark}`];
  const task = await fleet.submit(['sh', '-c', 'echo new >new'], { repository, checks, on: 'm1' });
  // The bundle of its commit is put while the checks run, before there is a result.
  await appears(join(fleet.dir('m1'), 'blobs', 'blobs'), (path) => !before.some((one) => path.endsWith(one)));
  await runs(mark);
  await kill('m1');
  await gone(mark);
  const left = disk().filter((name) => !before.includes(name));
  assert.ok(
    left.some((name) => name.startsWith('blobs/blobs/')) && left.some((name) => name.includes('work')),
  );
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  await revive('m1');
  assert.equal(disk().sort(), before);
});

test.run();
