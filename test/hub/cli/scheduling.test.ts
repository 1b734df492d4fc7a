import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FounderConfig } from '../../../hub/core/config.ts';
import type { TaskDetail } from '../../../node/api/objects.ts';
import { socketPath } from '../../../node/api/socket.ts';
import { Sandbox } from '../../node/submit/repositories.ts';
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

test('what no machine can ever take is refused at once, queued with --allow-waiting, and waited for where a machine may come', () =>
  withHub(async (hub) => {
    const early = await hub.run(run('--label', 'gpu=1'));
    assert.is(early.code, 0, 'a mesh without workers is not never');
    assert.match(early.err, /^note: it waits: no member can take it: none fits/m);
    const m = hub.fleet.join('m1', { roles: ['worker'] });
    const size = hub.fleet.entries.length;
    const refused = await hub.run(run('--label', 'gpu=1', '--json'));
    assert.is(refused.code, 4);
    assert.is(refused.error().code, 'SF_UNMET');
    assert.match(refused.error().got as string, /^m1 has no label gpu$/);
    assert.match(refused.error().hint as string, /--allow-waiting/);
    hub.fleet.disconnect(m);
    assert.is((await hub.run(run('--tool', 'cobol'))).code, 4, 'offline, and heard before: known');
    assert.is(hub.fleet.entries.length, size);
    const queued = await hub.run(run('--label', 'gpu=1', '--allow-waiting'));
    assert.is(queued.code, 0, queued.err);
    assert.match(queued.err, /^note: it waits: no member can take it: none fits/m);
    const model = await hub.run(run('--model', 'qwen:7b'));
    assert.is(model.code, 0, 'a model may be pulled');
    hub.fleet.restart();
    assert.is(
      (await hub.run(run('--tool', 'cobol', '--label', 'a=b'))).code,
      0,
      'not heard since the start: not known',
    );
  }));

test('a secret that is not set is waited for, and said', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    const sent = await hub.run(run('--secret', 'TOKEN'));
    assert.is(sent.code, 0);
    assert.match(sent.err, /^note: it waits: the secret TOKEN is not set/m);
  }));

test('--dry-run says what would come of it, machine by machine, and sends nothing', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    hub.fleet.join('m2', { labels: { gpu: '1' } });
    const first = hub.fleet.submit({ checks: [] });
    const size = hub.fleet.entries.length;
    const told = await hub.run(run('--dry-run', '--label', 'gpu=1'));
    assert.is(told.code, 0, told.err);
    assert.match(told.out, /^queued: it is next$/m);
    assert.match(told.out, /^m1 +has no label gpu$/m);
    assert.match(told.out, /^m2 +can take it$/m);
    const json = (await hub.run(run('--dry-run', '--json', '--after', first, '--label', 'gpu=1'))).json();
    assert.is(json.wait, 'others');
    assert.is(json.task, null);
    assert.is(json.unmet, null);
    assert.match((json.reasons as string[]).join(), new RegExp(`it comes after task ${first}`));
    assert.is((json.members as object[]).length, 3);
    const never = await hub.run(run('--dry-run', '--tool', 'cobol'));
    assert.is(never.code, 4);
    assert.match(never.err, /it would be refused: m1 has no cobol/);
    assert.is((await hub.run(run('--dry-run', '--tool', 'cobol', '--allow-waiting'))).code, 0);
    const grouped = await hub.run(run('--dry-run', '--group', 'g'));
    assert.not.match(grouped.out, /of its group/);
    hub.fleet.submit({ checks: [] }, { schedule: { group: { name: 'g', limit: 1 } } });
    const later = (await hub.run(run('--dry-run', '--group', 'g'))).out;
    assert.match(later, /1 open tasks? of its group g/);
    assert.is(hub.fleet.entries.filter(({ type }) => type === 'task.submitted').length, 2);
    assert.ok(hub.fleet.entries.length >= size);
  }));

test('a matrix is sent at once, listed by its correlation, and waited for to its end', () =>
  withHub(async (hub) => {
    const m = hub.fleet.join('m1');
    const matrix = ['--matrix', 'os=linux,bsd', '--matrix', 'n=1,2', '--env', 'N={n}'];
    const words = ['task', 'run', '--no-repo', '--no-check', ...matrix, '--', 'make', '{os}'];
    const told = (await hub.run([...words.slice(0, 2), '--dry-run', '--json', ...words.slice(2)])).json();
    assert.is((told.items as object[]).length, 4);
    assert.is(hub.fleet.core.state.tasks.count, 0);
    const sent = await hub.run(words);
    assert.is(sent.code, 0, sent.err);
    const ids = sent.out.trim().split('\n');
    assert.equal(
      ids.map((id) => (hub.fleet.task(id).spec as { argv: string[] }).argv[1]),
      ['linux', 'linux', 'bsd', 'bsd'],
    );
    const [, correlation = ''] = /task list --correlation (\S+)/.exec(sent.err) ?? [];
    hub.fleet.submit();
    const listed = (await hub.run(['task', 'list', '--json', '--correlation', correlation])).json();
    assert.equal(new Set((listed.items as { id: string }[]).map(({ id }) => id)), new Set(ids));
    const waited = hub.run([
      'task',
      'run',
      '--no-repo',
      '--wait',
      '--json',
      '--matrix',
      'x=good,bad',
      '--',
      '{x}',
    ]);
    let ended = 0;
    const work = (): void => {
      for (const found of [...m.running.values()]) {
        hub.fleet.start(m, found);
        const failed = {
          outcome: 'failed' as const,
          reason: 'task' as const,
          detail: 'it failed',
          exitCode: 1,
        };
        const bad = (found.spec as { argv: string[] }).argv[0] === 'bad';
        hub.fleet.finish(m, found, bad ? failed : {});
        ended += 1;
      }
    };
    while (ended < 7) {
      work();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const said = await waited;
    assert.is(said.code, 1, said.err);
    const states = (said.json().items as TaskDetail[]).map(({ state }) => state);
    assert.equal(states, ['delivered', 'failed']);
  }));

test('task submit sends the tasks of a file, all or none', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    using box = new Sandbox();
    const file = join(box.path, 'nightly.yaml');
    writeFileSync(file, '- {name: build, run: [make]}\n- {run: [./ship], after: build, priority: 60}\n');
    const sent = await hub.run(['task', 'submit', 'nightly.yaml', '--no-repo', '--correlation', 'n-1'], {
      cwd: box.path,
    });
    assert.is(sent.code, 0, sent.err);
    const [build, ship] = sent.out.trim().split('\n');
    assert.equal(hub.fleet.task(ship!).schedule, { priority: 60, after: [build!] });
    assert.is(hub.fleet.task(ship!).correlation, 'n-1');
    const size = hub.fleet.entries.length;
    writeFileSync(file, '- {name: a, run: [x], after: b}\n- {name: b, run: [x], after: a}\n');
    const circle = await hub.run(['task', 'submit', file, '--no-repo', '--json']);
    assert.is(circle.code, 2);
    assert.is(circle.error().got, 'a after b after a');
    assert.is(hub.fleet.entries.length, size);
    assert.is((await hub.run(['task', 'submit', 'nowhere.yaml', '--no-repo'])).code, 2);
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
