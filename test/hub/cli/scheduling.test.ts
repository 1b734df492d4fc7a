import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FounderConfig } from '../../../hub/core/config.ts';
import type { TaskDetail } from '../../../node/api/objects.ts';
import { socketPath } from '../../../node/api/socket.ts';
import { TestHub } from '../api/hub.ts';

async function withHub(
  body: (hub: TestHub) => Promise<void>,
  config: Partial<FounderConfig> = {},
): Promise<void> {
  const hub = await new TestHub(undefined, config).listen();
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

test('a full queue says in its header and its error when to come back', () =>
  withHub(
    async (hub) => {
      const m = hub.fleet.join('m1');
      const spec = { checks: [] };
      for (let at = 0; at < 3; at += 1) {
        hub.fleet.submit(spec);
        hub.fleet.advance(2_000);
        hub.fleet.finish(m, hub.fleet.running(m));
      }
      hub.fleet.submit(spec);
      hub.fleet.advance(2_000);
      const asked = request({
        socketPath: socketPath(hub.dir),
        path: '/v1/tasks',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
      });
      asked.end(JSON.stringify({ spec: { kind: 'command', argv: ['true'] } }));
      const [answer] = (await once(asked, 'response')) as [IncomingMessage];
      answer.resume();
      assert.is(answer.statusCode, 429);
      assert.is(answer.headers['retry-after'], '2');
      const said = await hub.run(run('--json'));
      assert.is(said.code, 4);
      assert.is(said.error().retryAfterMs, 2_000);
      assert.match(said.error().hint as string, /again in about 2s/);
    },
    { openTasksMax: 1 },
  ));

test.run();
