// limit: 120 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import type {
  AsOf,
  LoggedMesh,
  LoggedNode,
  MeshObject,
  OwnNodeObject,
  Page,
  TaskDetail,
  TaskObject,
} from '../../node/api/objects.ts';
import { withConstants } from './constants.ts';
import { Fleet, freePort } from './fleet.ts';
import { greeter, type Outcome } from './mesh.ts';

type Marked<T> = T & { asOf: AsOf };

// The state keeps two tasks that have ended: older ones come from the log.
const env = withConstants({ endedTasksMax: 2 });
const ARGS = ['--port', String(await freePort())];
const fleet = await Fleet.start({ hub: { slots: 1 }, hubArgs: ARGS, hubEnv: env });
test.after(() => fleet.close());

const { token } = await fleet.json<{ token: string }>(['invite', '--role', 'worker', '--role', 'replica']);
fleet.configure('r1', { slots: 1 });
await (await fleet.joinWith('r1', token)).end('SIGTERM');
await fleet.startMember('r1', undefined, env);

const r1 = (args: string[], options: { cwd?: string } = {}): Promise<Outcome> =>
  fleet.node('r1', args, options);
async function said<T>(args: string[]): Promise<T> {
  const { code, stdout, stderr } = await r1([...args, '--json']);
  assert.is(code, 0, stderr);
  return JSON.parse(stdout) as T;
}
const own = (): Promise<OwnNodeObject> => said<OwnNodeObject>(['status']);

/** Every task, the oldest first; the first one has a branch. */
const tasks: string[] = [];
const cwd = await greeter(join(fleet.home, 'greeter'));
{
  const argv = ['sh', '-c', 'sed -i s/Helo/Hello/ greet.sh'];
  const { id } = await fleet.json<{ id: string }>(['task', 'run', '--', ...argv], { cwd });
  tasks.push(id);
  await fleet.ended(id);
}
for (let n = 0; n < 3; n += 1) {
  const id = await fleet.submit(['echo', String(n)]);
  tasks.push(id);
  await fleet.ended(id);
}
const before = {
  mesh: await said<MeshObject>(['mesh']),
  tasks: await said<Page<TaskObject>>(['task', 'list']),
  details: await Promise.all(tasks.map((task) => said<TaskDetail>(['task', 'describe', task]))),
  history: await said<Page<Entry>>(['task', 'history', tasks[0]!]),
};

test('while the founder answers, a replica says what it holds and whom it follows', async () => {
  await fleet.untilAsked(async () => (await own()).replica?.size === before.mesh.size, 'all is there');
  const { replica } = await own();
  assert.equal(replica, {
    size: before.mesh.size,
    root: before.mesh.root,
    from: 0,
    fetched: 0,
    follows: { id: before.mesh.founder, name: 'hub' },
    behind: 0,
  });
  assert.match((await r1(['status'])).stdout, /^copy +\d+ entries of the log, follows hub, in step$/m);
  assert.not.ok('asOf' in before.mesh);
});

test('when it is gone, the replica answers from its copy, and says of what', async () => {
  const { size, root } = before.mesh;
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.untilAsked(async () => 'asOf' in (await said<LoggedMesh>(['mesh'])), 'the copy answers');

  const mesh = await said<LoggedMesh>(['mesh']);
  assert.equal(
    { ...mesh, asOf: null, warnings: [] },
    {
      ...mesh,
      ...pick(before.mesh, ['mesh', 'name', 'epoch', 'founder', 'size', 'root', 'paused']),
      asOf: null,
      warnings: [],
    },
  );
  assert.equal(
    [mesh.nodes, mesh.slots, mesh.queue, mesh.warnings],
    [
      { online: null, total: 2 },
      { used: null, total: null },
      { queued: 0, running: 0 },
      ['founder not reachable'],
    ],
  );
  const { time, ...asOf } = mesh.asOf;
  assert.equal(asOf, { size, root, behind: 0, why: 'founder not reachable' });
  assert.ok(Math.abs(Date.now() - time) < 120_000);

  const list = await said<Marked<Page<TaskObject>>>(['task', 'list']);
  assert.equal(
    { ...list, asOf: null },
    { ...before.tasks, asOf: null },
    'with those that have left the state',
  );
  assert.is(list.asOf.size, size);
  for (const [at, task] of tasks.entries()) {
    const detail = await said<Marked<TaskDetail>>(['task', 'describe', task]);
    assert.equal({ ...detail, asOf: null }, { ...before.details[at], asOf: null });
  }
  const history = await said<Marked<Page<Entry>>>(['task', 'history', tasks[0]!]);
  assert.equal(history.items, before.history.items);
  const nodes = await said<Marked<Page<LoggedNode>>>(['node', 'list']);
  assert.equal(
    nodes.items.map(({ name, state, slots, roles }) => [name, state, slots.total, roles.includes('replica')]),
    [
      ['hub', null, null, true],
      ['r1', null, null, true],
    ],
  );
  assert.is((await said<LoggedNode>(['node', 'describe', 'r1'])).name, 'r1');

  for (const words of [['task', 'list'], ['mesh'], ['node', 'list'], ['task', 'describe', tasks[0]!]]) {
    const { code, stderr } = await r1(words);
    assert.is(code, 0, stderr);
    assert.match(stderr, new RegExp(`^founder not reachable; as of entry ${size - 1}, \\d+[sm] ago$`, 'm'));
  }
  assert.equal((await own()).replica, { size, root, from: 0, fetched: 0, follows: null, behind: 0 });
});

test('what changes something, or needs what only the founder has, is refused in words (exit 3)', async () => {
  const refused = async (args: string[]): Promise<string> => {
    const { code, stderr } = await r1([...args, '--json'], { cwd });
    assert.is(code, 3, args.join(' '));
    const { error } = JSON.parse(stderr.trim().split('\n').at(-1)!) as {
      error: { code: string; message: string };
    };
    assert.is(error.code, 'SF_UNREACHABLE');
    return error.message;
  };
  for (const args of [
    ['task', 'stop', tasks[0]!],
    ['task', 'rerun', tasks[0]!],
    ['task', 'why', tasks[0]!],
    ['task', 'logs', tasks[0]!],
    ['receipt', 'show', tasks[0]!],
  ]) {
    assert.match(await refused(args), /the founder does not answer this machine now/);
  }
  assert.match(await refused(['task', 'get', tasks[0]!]), /lies with the founder/);
  assert.is((await r1(['task', 'get', tasks.at(-1)!])).code, 0, 'nothing of it lies elsewhere');
  const missing = await r1(['task', 'describe', 'zzzzzzzzzzzz', '--json']);
  assert.is(missing.code, 2);
  assert.match(missing.stderr, /SF_NOT_FOUND.*in this copy/);
});

test('when the founder is back it answers again', async () => {
  await fleet.up(ARGS, env);
  await fleet.untilAsked(async () => !('asOf' in (await said<LoggedMesh>(['mesh']))), 'the founder answers');
});

const pick = <T extends object, K extends keyof T>(of: T, keys: readonly K[]): Pick<T, K> =>
  Object.fromEntries(keys.map((key) => [key, of[key]])) as Pick<T, K>;

test.run();
