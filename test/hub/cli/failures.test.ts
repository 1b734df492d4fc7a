import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { classFailuresMax, failures } from '../../../hub/plugins/failures.ts';
import type { FailuresObject, NodeObject, Page, TaskObject } from '../../../node/api/objects.ts';
import type { FailureReason } from '../../../protocol/task.ts';
import { TestHub } from '../api/hub.ts';
import type { TestMember } from '../core/fleet.ts';

async function withHub(body: (hub: TestHub, ada: TestMember) => Promise<void>, agoMs = 0): Promise<void> {
  const hub = await new TestHub(undefined, {}, [failures]).listen({ plugins: { on: [failures], off: [] } });
  hub.fleet.wall = Date.now() - agoMs;
  try {
    await body(hub, hub.fleet.join('ada'));
  } finally {
    await hub.close();
  }
}

/** A task of this program that fails. */
function fails({ fleet }: TestHub, ada: TestMember, program: string, reason: FailureReason = 'task'): string {
  const id = fleet.submit({ argv: [program], checks: [], retries: 0 });
  const words = { outcome: 'failed', reason, fault: 'task', detail: `/w/${id}: it ended with 1` } as const;
  fleet.finish(ada, fleet.running(ada), { ...words, exitCode: 1, commit: null, bundle: null });
  return id;
}

const json = async <T>(hub: TestHub, line: string): Promise<T> => {
  const ran = await hub.run([...line.split(' '), '--json']);
  assert.is(ran.code, 0, ran.err);
  return JSON.parse(ran.out) as T;
};

test('task rerun --failed sends again what failed, in its order, and each once', () =>
  withHub(async (hub, ada) => {
    const [one, two, three] = [fails(hub, ada, 'a'), fails(hub, ada, 'b', 'timeout'), fails(hub, ada, 'c')];
    const sent = await json<Page<TaskObject>>(hub, 'task rerun --failed --reason timeout');
    assert.equal(
      sent.items.map(({ rerunOf }) => rerunOf),
      [two],
    );
    const ran = await hub.run(['task', 'rerun', '--failed', '--since', '1h']);
    assert.is(ran.code, 0, ran.err);
    const lines = ran.out.trim().split('\n');
    assert.match(lines[0]!, new RegExp(`^[a-z2-7]{12} again for ${one}, which failed with task$`));
    assert.match(lines[1]!, new RegExp(`again for ${three}`));
    assert.is(lines.length, 2);
    const none = await hub.run(['task', 'rerun', '--failed']);
    assert.equal([none.code, none.out], [0, '']);
    assert.match(none.err, /no task failed so/);
    for (const assignment of [...ada.running.values()]) hub.fleet.finish(ada, assignment);
    assert.match((await hub.run(['task', 'list', '--state', 'failed'])).out, /failed\/timeout/);
  }));

test('what failed long ago is not meant by --since', () =>
  withHub(async (hub, ada) => {
    fails(hub, ada, 'a');
    assert.equal((await json<Page<TaskObject>>(hub, 'task rerun --failed --since 1h')).items, []);
    assert.is((await json<Page<TaskObject>>(hub, 'task rerun --failed --since 4h')).items.length, 1);
  }, 3 * 3_600_000));

test('task rerun says what it needs', () =>
  withHub(async (hub) => {
    for (const line of [
      '',
      ' --since 1h',
      ' abcdefghijkl --reason task',
      ' abcdefghijkl --failed',
      ' --failed --wait',
    ]) {
      const ran = await hub.run(`task rerun${line}`.split(' '));
      assert.is(ran.code, 2, line);
    }
    assert.match(
      (await hub.run(['task', 'rerun', '--failed', '--reason', 'bad'])).err,
      /one of task, check, /,
    );
  }));

test('failures shows what they have in common, and thaws a class', () =>
  withHub(async (hub, ada) => {
    assert.match((await hub.run(['failures'])).out, /^no attempt has failed$/m);
    for (let count = 0; count < classFailuresMax; count += 1) fails(hub, ada, 'make');
    const found = await json<FailuresObject>(hub, 'failures');
    assert.equal([found.items.length, found.items[0]!.count, found.next], [1, classFailuresMax, null]);
    const id = found.frozen[0]!.id;
    const { out } = await hub.run(['failures']);
    assert.match(
      out,
      new RegExp(
        `frozen since .*: command “make” on app, 20 tasks failed in a row\\ntry: .*failures thaw ${id}`,
      ),
    );
    assert.match(out, /20 +\S+.* task \(task\) +make +ada .* PATH: it ended with N/);
    const waits = hub.fleet.submit({ argv: ['make'], checks: [] });
    assert.match((await hub.run(['task', 'why', waits])).out, /its class is frozen/);
    assert.match((await hub.run(['status'])).out, new RegExp(`failures thaw ${id}`));
    assert.is((await hub.run(['failures', 'thaw', '0000000000'])).code, 2);
    assert.is((await hub.run(['failures', 'thaw', id])).out.trim(), `${id} goes on`);
    assert.is(hub.fleet.task(waits).state, 'assigned');
  }));

test('node drain with a deadline says it, and it passes', () =>
  withHub(async (hub, ada) => {
    const id = hub.fleet.submit({ checks: [] });
    const drained = await json<NodeObject>(hub, 'node drain ada --deadline 10s');
    assert.match(drained.work ?? '', /^is draining; what runs there may until /);
    assert.match((await hub.run(['node', 'describe', 'ada'])).out, /is draining; what runs there may until/);
    hub.fleet.advance(10_250);
    assert.is(hub.fleet.task(id).state, 'queued');
    assert.is((await json<NodeObject>(hub, 'node eligible ada')).work, 'takes tasks');
    assert.is((await hub.run(['node', 'drain', 'ada', '--deadline', 'soon'])).code, 2);
    assert.is(ada.name, 'ada');
  }));

test.run();
