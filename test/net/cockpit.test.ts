// limit: 150 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { has, Screen, SH } from '../terminal.ts';
import { Fleet, runs } from './fleet.ts';

/** `task why` and `status` of a mesh of real processes, as a person reads them. */

const HUB = join(import.meta.dirname, '../../scripts/mesh-hub');
const fleet = await Fleet.start({ hub: { slots: 1 }, members: { m1: { slots: 1 } } });
test.after(() => fleet.close());

async function run(...args: string[]): Promise<string> {
  const done = await fleet.hub(['task', 'run', '--no-repo', ...args]);
  assert.is(done.code, 0, done.stderr);
  return done.stdout.trim();
}
const why = async (id: string): Promise<string> => (await fleet.hub(['task', 'why', id])).stdout;

test('task why tells apart what holds up each of the tasks of a mesh', async () => {
  const mark = 'mark-cockpit';
  const busy = await run('--on', 'hub', '--', 'sh', '-c', `sleep 600; : ${mark}`);
  await runs(mark);
  assert.match(await why(busy), /^running: attempt 1 is with hub: running its command, for \d+ s$/m);

  const next = await run('--on', 'hub', '--', 'true');
  const text = await why(next);
  assert.match(text, /^queued: every machine that fits has its slots taken; 0 tasks are before it$/m);
  assert.match(text, /^hub +has no free slot$/m);
  assert.match(text, /^m1 +is not hub$/m);

  const unfit = await why(await run('--label', 'gpu=a100', '--allow-waiting', '--', 'true'));
  assert.match(
    unfit,
    /none fits[\s\S]*^m1 +has no label gpu$[\s\S]*^try: a machine that fits: label gpu=a100$/m,
  );

  const secret = await why(await run('--secret', 'TOKEN', '--', 'true'));
  assert.match(secret, /the secret TOKEN is not set[\s\S]*^try: mesh-hub secret set TOKEN$/m);

  assert.is((await fleet.hub(['node', 'drain', 'm1'])).code, 0);
  const drained = await run('--on', 'm1', '--', 'true');
  assert.match(await why(drained), /^m1 +is draining$[\s\S]*^try: mesh-hub node eligible m1$/m);
  assert.is((await fleet.hub(['node', 'eligible', 'm1'])).code, 0);
  assert.is((await fleet.ended(drained)).state, 'delivered');
  assert.match(await why(drained), /^delivered; unverified: the task has no checks$/m);

  assert.is((await fleet.node('m1', ['pause'])).code, 0);
  const owners = await run('--on', 'm1', '--', 'true');
  assert.match(
    await why(owners),
    /^m1 +is paused by its owner$[\s\S]*^try: its owner gives it back: on m1, mesh-node resume$/m,
  );
  assert.is((await fleet.node('m1', ['resume'])).code, 0);
  await fleet.ended(owners);

  const status = await fleet.hub(['status']);
  assert.match(status.stdout, /^ {2}1 all machines that fit are busy$/m);
  assert.match(status.stdout, /^ {2}1 fit no machine$/m);
  assert.match(status.stdout, /^ {2}1 task waits for the secret TOKEN: mesh-hub secret set TOKEN$/m);
  assert.match(status.stdout, new RegExp(`^  ${busy}  run +\\d+s +on hub$`, 'm'));
  assert.not.match(status.stdout, /\x1b/, 'no colours where no terminal reads them');

  assert.is((await fleet.hub(['pause'])).code, 0);
  assert.match(await why(next), /the mesh is paused[\s\S]*^try: mesh-hub resume$/m);
  await fleet.hub(['task', 'stop', busy]);
  assert.is((await fleet.hub(['resume'])).code, 0);
});

test('status --watch follows the mesh on a narrow terminal until Ctrl-C', async () => {
  if (!has('tmux')) {
    console.log('SKIP status --watch: tmux is not installed');
    return;
  }
  const screen = await Screen.open({
    rows: 40,
    columns: 40,
    joined: false,
    shell: SH,
    env: { MESH_HOME: fleet.dir('hub'), NO_COLOR: '1' },
  });
  try {
    await screen.line(`clear; ${HUB} status --watch`);
    await screen.sees(/^ {2}m1 +online +0\/1$/m);
    await fleet.hub(['node', 'drain', 'm1']);
    const text = await screen.sees(/^ {2}m1 +draining +0\/1$/m);
    assert.is(text.match(/^machines /gm)?.length, 1, 'it is written over, not below');
    assert.not.match(await screen.text(true), /\x1b/, 'no colours with NO_COLOR');
    await screen.press('C-c');
    await screen.line('echo "code $?"');
    await screen.sees(/^(?:\$ )?code 130$/m);
  } finally {
    await screen.close();
  }
});

test.run();
