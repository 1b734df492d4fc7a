import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../../node/api/objects.ts';
import { TestHub } from '../api/hub.ts';

async function withHub(body: (hub: TestHub) => Promise<void>): Promise<void> {
  const hub = await new TestHub().listen();
  try {
    await body(hub);
  } finally {
    await hub.close();
  }
}

const run = (...flags: string[]): string[] => ['task', 'run', '--no-repo', ...flags, '--', 'true'];

test('what was asked of the queue is in the log, and task describe shows it', () =>
  withHub(async (hub) => {
    const sent = await hub.run(run('--priority', '70', '--group', 'gpu=2', '--need', 'cpus=2'));
    assert.is(sent.code, 0, sent.err);
    const id = sent.out.trim();
    assert.equal(hub.fleet.task(id).schedule, {
      priority: 70,
      group: { name: 'gpu', limit: 2 },
      needs: { cpus: 2 },
    });
    const said = await hub.run(['task', 'describe', id]);
    assert.match(said.out, /^priority +70$/m);
    assert.match(said.out, /^group +gpu, at most 2 at one time$/m);
    const plain = (await hub.run(run())).out.trim();
    assert.is(hub.fleet.task(plain).schedule, undefined);
    assert.not.match((await hub.run(['task', 'describe', plain])).out, /^priority/m);
  }));

test('the same task twice is a note, with --once a refusal, and under one key the same task', () =>
  withHub(async (hub) => {
    const first = (await hub.run(run())).out.trim();
    const again = await hub.run(run());
    assert.match(again.err, new RegExp(`^note: the same task is open already: ${first}`));
    assert.is.not(again.out.trim(), first);
    const once = await hub.run(run('--once', '--json'));
    assert.is(once.code, 2);
    assert.is(once.error().code, 'SF_CONFLICT');
    const keyed = await hub.run(run('--key', 'k'));
    assert.is((await hub.run(run('--key', 'k'))).out, keyed.out);
    assert.is((await hub.run(run('--key', 'k', '--label', 'a=b'))).code, 2);
  }));

test('a schedule that contradicts itself is refused by the founder too', () =>
  withHub(async (hub) => {
    const body = { spec: { kind: 'command', argv: ['true'] }, schedule: { deadlineMs: 5, queueMs: 6 } };
    const thrown = await hub
      .client()
      .post<TaskDetail>('/v1/tasks', body)
      .then(
        () => null,
        (error: Error) => error.message,
      );
    assert.match(thrown ?? '', /queueMs of at most the deadlineMs/);
  }));

test.run();
