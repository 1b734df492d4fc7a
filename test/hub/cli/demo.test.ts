// limit: 240 s
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { demoFolder } from '../../../hub/cli/demo.ts';
import { demoGoal, demoLabel, demoTasks } from '../../../hub/cli/demo-tasks.ts';
import type { NodeObject, TaskDetail } from '../../../node/api/objects.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { Fleet } from '../../net/fleet.ts';

interface Demo {
  mesh: string;
  repository: string;
  correlation: string;
  tasks: { name: string; about: string; id: string }[];
}

let fleet: Fleet;
test.before(async () => {
  fleet = await Fleet.start({ hub: { slots: 0 } });
});
const server = await new ScriptedOllama(['scripted-coder:7b'], () => [
  { do: 'call', name: 'edit', arguments: { path: 'greet.sh', old: 'Helo', new: 'Hello' } },
  { do: 'call', name: 'finish', arguments: { summary: 'Spelt right.' } },
]).listen();
test.after(async () => {
  await fleet.close();
  await server.close();
});

test('a mesh without a machine that takes work is no place for a demo: said with what to do, nothing made', async () => {
  const refused = await fleet.hub(['demo']);
  assert.is(refused.code, 2, refused.stderr);
  assert.match(refused.stderr, /no machine of this mesh can take a task[\s\S]*mesh-hub invite/);
  assert.not.ok(existsSync(demoFolder(fleet.dir('hub'))));
  const none = await fleet.hub(['demo', '--stop', '--json']);
  assert.equal(JSON.parse(none.stdout), { stopped: [], folder: null });
});

test('a demo is real work of every kind, each task ends as it says, and --stop leaves nothing behind', async () => {
  await Promise.all(
    ['m1', 'm2'].map((name) => fleet.member(name, { args: ['--port', '0', '--slots', '3'] })),
  );
  const lent = await fleet.node('m1', ['models', 'add', server.url]);
  assert.is(lent.code, 0, lent.stderr);
  await fleet.untilAsked(
    async () => (await fleet.client.get<NodeObject>('/v1/nodes/m1')).models.includes('scripted-coder:7b'),
    'm1 offers a model',
  );
  const demo = await fleet.json<Demo>(['demo']);
  assert.is(demo.tasks.length, demoTasks.length + 1);
  const again = await fleet.hub(['demo']);
  assert.is(again.code, 2);
  assert.match(again.stderr, /demo --stop/);
  const id = (name: string): string => demo.tasks.find((task) => task.name === name)!.id;
  const ended = async (name: string): Promise<TaskDetail> => fleet.ended(id(name));

  const mended = await ended('mended');
  assert.equal([mended.state, mended.verified], ['delivered', true]);
  const [red, failing, late, retried, artifacts, unchanged, unchecked] = await Promise.all(
    ['red', 'failing', 'late', 'retried', 'artifacts', 'unchanged', 'unchecked'].map(ended),
  );
  assert.equal([red!.state, red!.reason], ['failed', 'check']);
  assert.equal([failing!.state, failing!.reason, failing!.exitCode], ['failed', 'task', 7]);
  assert.equal([late!.state, late!.reason], ['failed', 'timeout']);
  assert.equal([retried!.state, retried!.attempts], ['failed', 2]);
  assert.equal(artifacts!.artifacts.map(({ path }) => path).sort(), ['out/sorted.txt', 'out/unique.txt']);
  assert.equal([unchanged!.state, unchanged!.commit], ['delivered', null]);
  assert.equal([unchecked!.state, unchecked!.verified], ['delivered', false]);

  const goal = await ended(demoGoal.name);
  assert.equal([goal.state, goal.verified, goal.executor?.name], ['delivered', true, 'm1']);

  // What it says to look at is there.
  const why = await fleet.hub(['task', 'why', id('waiting')]);
  assert.match(why.stdout, Object.keys(demoLabel)[0]!);
  const diff = await fleet.hub(['task', 'diff', id('mended'), '--repo', demo.repository]);
  assert.match(diff.stdout, /^\+echo "Hello, \$1!"$/m);
  const receipt = join(demoFolder(fleet.dir('hub')), 'receipt.json');
  assert.is((await fleet.hub(['receipt', 'show', id('mended'), '--output', receipt])).code, 0);
  const verified = await fleet.hub(['receipt', 'verify', receipt, '--mesh', demo.mesh]);
  assert.is(verified.code, 0, verified.stdout);
  assert.ok(readFileSync(receipt).length > 0);

  const stopped = await fleet.json<{ stopped: string[] }>(['demo', '--stop']);
  assert.ok(stopped.stopped.includes(id('waiting')));
  assert.not.ok(existsSync(demoFolder(fleet.dir('hub'))));
  assert.is((await ended('waiting')).state, 'cancelled');
  assert.is((await fleet.json<{ queue: { queued: number } }>(['status'])).queue.queued, 0);
});

test('where no machine offers a model, the demo says what it would do with one', async () => {
  assert.is((await fleet.node('m1', ['models', 'remove', server.url])).code, 0);
  const offered = async (): Promise<string[]> => (await fleet.client.get<NodeObject>('/v1/nodes/m1')).models;
  await fleet.untilAsked(async () => !(await offered()).includes('scripted-coder:7b'), 'the model is gone');
  const found = (await offered()).length > 0;
  const demo = await fleet.hub(['demo']);
  assert.is(demo.code, 0, demo.stderr);
  if (found) console.log('skipped: a model server runs on this machine, so there is a model');
  else
    assert.match(
      demo.stdout,
      /offers a model\. With one[\s\S]*mesh-hub task code '.*' --check 'sh test.sh' --repo/,
    );
  assert.is((await fleet.hub(['demo', '--stop'])).code, 0);
});

test.run();
