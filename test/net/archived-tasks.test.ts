// limit: 120 s
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { Page, TaskDetail, TaskObject } from '../../node/api/objects.ts';
import { withConstants } from './constants.ts';
import { Fleet, freePort } from './fleet.ts';
import { greeter, type Outcome } from './mesh.ts';

const env = withConstants({ endedTasksMax: 2 });
const hubArgs = ['--port', String(await freePort())];
const fleet = await Fleet.start({
  hub: { slots: 1 },
  hubArgs,
  hubEnv: env,
  members: { m1: { slots: 1 } },
});
test.after(() => fleet.close());

/** Every task, the oldest first. */
const ids: string[] = [];

/** Tasks that push those before them out of the state. */
async function others(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const id = await fleet.submit(['echo', `number ${n}`]);
    ids.push(id);
    await fleet.ended(id);
  }
}

function ok(outcome: Outcome): string {
  assert.is(outcome.code, 0, outcome.stderr);
  return outcome.stdout;
}

/** A task that mends the greeting, sent by `send` from a repository of its own. */
async function mended(
  name: string,
  send: (args: string[], options: { cwd: string }) => Promise<Outcome>,
): Promise<{ id: string; cwd: string }> {
  const cwd = await greeter(join(fleet.home, name));
  const argv = ['sh', '-c', 'sed -i s/Helo/Hello/ greet.sh; echo mended; echo kept > report.txt'];
  const sent = await send(
    ['task', 'run', '--check', 'sh test.sh', '--artifact', 'report.txt', '--json', '--', ...argv],
    { cwd },
  );
  const { id } = JSON.parse(ok(sent)) as { id: string };
  ids.push(id);
  assert.is((await fleet.ended(id)).state, 'delivered');
  return { id, cwd };
}

test('a task that has left the founder’s state can still be had, shown, proved, taken in and done again', async () => {
  const hub = (args: string[], cwd: string): Promise<string> => fleet.hub(args, { cwd }).then(ok);
  const { id, cwd } = await mended('ours', (args, options) => fleet.hub(args, options));
  const before = await fleet.describe(id);
  const history = await fleet.json<Page<Entry>>(['task', 'history', id]);
  await others(3);

  assert.equal(await fleet.describe(id), before);
  assert.equal(await fleet.json(['task', 'history', id]), history);
  assert.match(await hub(['task', 'logs', id], cwd), 'mended');
  assert.match(await hub(['task', 'logs', id, '--follow'], cwd), 'mended');
  assert.match(await hub(['task', 'why', id], cwd), 'delivered');
  assert.match(await hub(['task', 'diff', id], cwd), '+echo "Hello');
  const file = join(fleet.home, 'receipt.json');
  await hub(['receipt', 'show', id, '--output', file], cwd);
  const { mesh } = await fleet.json<{ mesh: string }>(['status']);
  const proved = await hub(['receipt', 'verify', file, '--mesh', mesh], cwd);
  assert.match(proved.trimEnd().split('\n').at(-1)!, /^proved:/);
  await hub(['task', 'get', id], cwd);
  assert.is(execFileSync('cat', [join(cwd, `mesh-${id}`, 'report.txt')], { encoding: 'utf8' }), 'kept\n');
  await hub(['task', 'apply', id], cwd);
  assert.is(execFileSync('sh', ['greet.sh', 'mesh'], { cwd, encoding: 'utf8' }), 'Hello, mesh!\n');
  const applied = await fleet.json<TaskDetail & { applied: object | null }>(['task', 'describe', id]);
  assert.ok(applied.applied, 'that it was applied is known');

  const again = await fleet.json<TaskDetail & { rerunOf: string }>(['task', 'rerun', id]);
  assert.is(again.rerunOf, id);
  ids.push(again.id);
  assert.is((await fleet.ended(again.id)).state, 'delivered');
  const stop = await fleet.hub(['task', 'stop', id]);
  assert.match(stop.stderr, 'the task has ended');
});

test('a member has what it sent also when that has left the state and the founder has started anew', async () => {
  const node = (args: string[], cwd: string): Promise<string> => fleet.node('m1', args, { cwd }).then(ok);
  const { id, cwd } = await mended('theirs', (args, options) => fleet.node('m1', args, options));
  await others(3);
  await fleet.hubDaemon!.end('SIGTERM');
  await fleet.up(hubArgs, env);
  const online = async (): Promise<boolean> =>
    (await fleet.client.get<{ state: string }>('/v1/nodes/m1')).state === 'online';
  await fleet.untilAsked(online, 'm1 is back');
  assert.match(await node(['task', 'diff', id], cwd), '+echo "Hello');
  await node(['task', 'get', id], cwd);
  assert.match(execFileSync('git', ['branch', '--list', `mesh/${id}`], { cwd, encoding: 'utf8' }), id);
});

test('the list goes on past what the state keeps, page by page, to the first task', async () => {
  const listed: string[] = [];
  for (let cursor: string[] = [], pages = 1; ; pages += 1) {
    const page = await fleet.json<Page<TaskObject>>(['task', 'list', '--limit', '3', ...cursor]);
    assert.ok(page.items.length <= 3);
    listed.push(...page.items.map((task) => task.id));
    if (page.next === null) break;
    assert.ok(pages <= ids.length, 'it ends');
    cursor = ['--cursor', page.next];
  }
  assert.equal(listed, [...ids].reverse());
  const failed = await fleet.json<Page<TaskObject>>(['task', 'list', '--state', 'failed']);
  assert.equal(failed, { items: [], next: null });
});

test('a task that never was is not found', async () => {
  for (const verb of ['describe', 'history', 'logs', 'why', 'rerun']) {
    const outcome = await fleet.hub(['task', verb, 'abcdefghijkl', '--json']);
    assert.is(outcome.code, 2, verb);
    assert.is(JSON.parse(outcome.stderr.trimEnd().split('\n').at(-1)!).error.code, 'SF_NOT_FOUND', verb);
  }
});

test.run();
