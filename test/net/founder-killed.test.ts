// limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { Page, TaskObject } from '../../node/api/objects.ts';
import { Fleet, freePort, runs, wake } from './fleet.ts';

const port = String(await freePort());
const ARGS = ['--port', port];
const ROUNDS = 5;
/** Tasks in the hands of the founder while it is killed: twice what the slots hold, so that some always wait. */
const OPEN_MAX = 12;

const fleet = await Fleet.start({
  hub: { slots: 2 },
  hubArgs: ARGS,
  members: { m1: { slots: 1 }, m2: { slots: 1 }, m3: { slots: 2 } },
});
test.after(() => fleet.close());

async function restart(): Promise<number> {
  await fleet.hubDaemon!.end('SIGKILL');
  const at = performance.now();
  await fleet.up(ARGS);
  return performance.now() - at;
}

const count = (task: string, type: string): number =>
  fleet.entries.filter((entry) => entry.type === type && entry.body.task === task).length;

/** Everything that was heard of the log is in it still, byte for byte the same (promise 2). */
async function assertNothingTakenBack(): Promise<void> {
  const entries: Entry[] = [];
  for await (const entry of fleet.client.lines<Entry>('GET', '/v1/ledger/entries?from=0'))
    entries.push(entry);
  for (const heard of fleet.entries) {
    const { type, body } = entries[heard.index]!;
    assert.equal({ type, body }, { type: heard.type, body: heard.body }, `entry ${heard.index}`);
  }
}

async function assertVerifies(): Promise<void> {
  const done = await fleet.hub(['ledger', 'verify', '--json']);
  assert.is(done.code, 0, done.stderr);
}

test('the founder killed: what runs goes on on its member, what waits waits, what is verified is verified (promises 2, 10, 16)', async () => {
  const mark = 'mark-runs-on';
  const repository = await fleet.repository();
  const running = await fleet.submit(['sh', '-c', `sleep 600; : ${mark}`], { on: 'm1' });
  await fleet.about(running, 'attempt.started');
  const queued = await fleet.submit(['true'], { on: 'm1' });
  const verified = await fleet.submit(['true'], { on: 'm2', repository, checks: ['sleep 1.5'] });
  const executed = await fleet.about(verified, 'task.executed');
  await fleet.about(verified, 'attempt.started', executed.index);
  const before = await runs(mark);
  const ms = await restart();
  console.log(`founder killed: up again after ${Math.round(ms)} ms`);
  assert.equal(await runs(mark), before, 'the same processes');
  assert.is((await fleet.describe(queued)).state, 'queued');
  await wake(mark);
  for (const task of [running, queued, verified]) {
    const ended = await fleet.ended(task);
    assert.is(ended.state, 'delivered');
    assert.is(ended.attempts, 1, 'nothing was done twice');
    assert.is(count(task, 'task.executed'), 1);
    assert.is(count(task, 'task.converged'), 1);
  }
  assert.is((await fleet.describe(verified)).verified, true);
  await assertNothingTakenBack();
  await assertVerifies();
});

test('the founder killed again and again at any moment: every acknowledged task is delivered exactly once (promises 1, 2, 10, 16)', async () => {
  const acknowledged = new Set<string>();
  const repository = await fleet.repository();
  let submitting = true;
  const open = (): number => [...acknowledged].filter((task) => count(task, 'task.converged') === 0).length;
  const submitter = (async () => {
    for (let n = 0; submitting; n += 1) {
      if (open() >= OPEN_MAX)
        await fleet.until(() => (open() < OPEN_MAX || !submitting ? true : undefined), 'room');
      // A submission the founder died over may or may not be in the log: nobody was told that it is.
      const argv = ['sh', '-c', `sleep 0.0${n % 10}`];
      await fleet.submit(argv, n % 2 === 0 ? { repository, checks: ['true'] } : {}).then(
        (task) => acknowledged.add(task),
        () => new Promise((resolve) => setTimeout(resolve, 20)),
      );
    }
  })();
  const waits: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const from = fleet.next;
    await fleet.entry(({ type }) => type === 'task.executed', 'work going on', from);
    const wait = Math.floor(Math.random() * 700);
    waits.push(wait);
    await new Promise((resolve) => setTimeout(resolve, wait));
    await restart();
  }
  submitting = false;
  await submitter;
  for (const task of acknowledged) {
    const ended = await fleet.ended(task);
    assert.is(ended.state, 'delivered', `${task} after kills at ${waits}: ${ended.detail}`);
    assert.is(count(task, 'task.executed'), 1, task);
    assert.is(count(task, 'task.converged'), 1, task);
  }
  console.log(`${acknowledged.size} tasks over ${ROUNDS} kills (${waits.join(', ')} ms into work)`);
  const { items } = await fleet.client.get<Page<TaskObject>>('/v1/tasks?limit=1000');
  for (const { id, state } of items) if (state !== 'delivered') await fleet.ended(id);
  assert.ok(items.length >= acknowledged.size);
  await assertNothingTakenBack();
  await assertVerifies();
});

test.run();
