// limit: 300 s

import { randomFillSync } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, watch, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { has, Screen } from '../terminal.ts';
import { Fleet } from './fleet.ts';
import { greeter, ok } from './mesh.ts';

/** The programs as a person sees them, on a real terminal: what Ctrl-C leaves, and what the same command does afterwards. */

const SCRIPTS = resolve(import.meta.dirname, '../../scripts');
const ID = '[a-z2-7]{12}';

let fleet: Fleet;
let screen: Screen;
let repository = '';
let temporary = '';
let before = '';

test.before(async () => {
  fleet = await Fleet.start({ members: { m1: { slots: 4 } } });
  repository = await greeter(join(fleet.home, 'my repo, ñ'));
  temporary = join(fleet.home, 'tmp');
  mkdirSync(temporary);
  // Started as root the nodes drop to an account that needs it too.
  chmodSync(temporary, 0o1777);
  screen = await Screen.open({
    cwd: repository,
    env: {
      PATH: `${SCRIPTS}:${process.env.PATH}`,
      MESH_HOME: fleet.dir('hub'),
      TMPDIR: temporary,
      HOME: fleet.home,
    },
  });
  await screen.prompt();
  before = await screen.settings();
});
test.after(async () => {
  await screen?.close();
  await fleet?.close();
});

/** Presses Ctrl-C; the command ends with 130 and leaves the terminal as it was, with no line of progress on it. */
async function interrupt(): Promise<string> {
  await screen.press('C-c');
  assert.is(await screen.prompt(), 130, await screen.text());
  assert.is(await screen.settings(), before);
  assert.ok(await screen.cursor());
  return screen.text();
}

/** Runs a command to its end; answers what is on the screen. */
async function done(command: string, code = 0): Promise<string> {
  await screen.begin(command);
  const got = await screen.prompt();
  const text = await screen.text();
  assert.is(got, code, text);
  return text;
}

test('task run --wait, interrupted while it waits in the queue: says the id, the cause and how to go on', async () => {
  await screen.begin('mesh-hub task run --no-repo --label kind=none --allow-waiting --wait -- true');
  const id = (await screen.shows(new RegExp(`^${ID}$`, 'm')))[0];
  await screen.shows(new RegExp(`${id}: waits: `));
  await screen.shows(new RegExp(`${id}: queued, 0:0[0-9]`));
  // The window made narrow and wide again leaves no piece of the line behind.
  await screen.resize(30, 20);
  await screen.shows(new RegExp(`^${id}: queued, 0:`, 'm'));
  await screen.resize(80, 24);
  const text = await interrupt();
  assert.match(text, new RegExp(`interrupted; task ${id} goes on`));
  assert.match(text, new RegExp(`mesh-hub task get ${id} when`));
  assert.not.match(text, new RegExp(`${id}: queued`));
  assert.match(await done(`mesh-hub task why ${id}`), /kind/);
  assert.match(await done(`mesh-hub task stop ${id}`), /cancelled/);
});

test('task run --wait, interrupted while it runs: the task goes on, and get brings it when it has ended', async () => {
  await screen.begin(`mesh-hub task run --wait -- sh -c 'while [ ! -e go ]; do sleep 1; echo > go; done'`);
  const [, id] = await screen.shows(new RegExp(`(${ID}): running on m1`));
  const text = await interrupt();
  assert.match(text, new RegExp(`task ${id} goes on`));
  await fleet.ended(id!);
  assert.match(await done(`mesh-hub task get ${id}`), new RegExp(`branch mesh/${id} at`));
});

test('task run --wait, interrupted while it bundles: nothing was sent, nothing is left, the same command works', async () => {
  const large = join(fleet.home, 'large');
  mkdirSync(large);
  writeFileSync(join(large, 'noise'), randomFillSync(Buffer.alloc(40 * 1024 * 1024)));
  await ok(['git', 'init', '-q', '-b', 'main'], { cwd: large });
  await ok(['git', '-c', 'core.compression=0', 'add', '.'], { cwd: large });
  await ok(['git', '-c', 'user.name=T', '-c', 'user.email=t@example.invalid', 'commit', '-qm', 'large'], {
    cwd: large,
  });
  const tasks = async (): Promise<number> =>
    (await fleet.client.get<{ items: unknown[] }>('/v1/tasks')).items.length;
  const count = await tasks();
  const bundling = new Promise<void>((begun) => {
    const watcher = watch(temporary, (_, name) => {
      if (!String(name).startsWith('superfleet-')) return;
      watcher.close();
      begun();
    });
  });
  const command = `mesh-hub task run --repo '${large}' --wait -- sh -c 'wc -c < noise > size'`;
  await screen.begin(command);
  await bundling;
  await interrupt();
  assert.is(await tasks(), count, 'no task was made');
  assert.equal(readdirSync(temporary), [], 'no bundle is left');
  assert.match(await done(command), /delivered/);
});

test('task logs -f, interrupted: the task goes on', async () => {
  const id = await fleet.submit(['sh', '-c', 'echo begun; sleep 60']);
  await screen.begin(`mesh-hub task logs -f ${id}`);
  await screen.shows(/^begun$/m);
  await interrupt();
  assert.is((await fleet.describe(id)).state, 'running');
  assert.match(await done(`mesh-hub task stop ${id}`), /cancelled/);
});

test('ledger verify, interrupted: its line is gone, and the same command proves the log', async () => {
  // A founder that is held still makes any log a long one.
  const hub = fleet.hubDaemon!;
  hub.child.kill('SIGSTOP');
  try {
    await screen.begin('mesh-hub ledger verify');
    await screen.shows(/^checking the log …$/m);
    const text = await interrupt();
    assert.not.match(text, /checking/);
  } finally {
    hub.child.kill('SIGCONT');
  }
  assert.match(await done('mesh-hub ledger verify'), /^the log of mesh [0-9a-f]{64} holds:/m);
});

test('join, interrupted while it waits for approval: nothing is half done, and the same command goes on', async () => {
  const [address] = (fleet.hubDaemon!.lines[0]!.addresses as string[]).filter((one) =>
    one.includes('127.0.0.1'),
  );
  const dir = fleet.dir('late');
  const command = `mesh-node join --dir '${dir}' --name late --port 0 --founder ${address}`;
  await screen.begin(command);
  const [, first] = await screen.shows(/^code: ([\d-]+)$/m);
  await interrupt();
  const member = async (): Promise<unknown> =>
    (await fleet.client.get<{ items: { name: string; state: string }[] }>('/v1/nodes')).items.find(
      ({ name, state }) => name === 'late' && state !== 'pending',
    );
  assert.is(await member(), undefined);
  // In the background the code is shown with the time that is left.
  await screen.begin(`${command} --detach`);
  const [, second] = await screen.shows(/^code: ([\d-]+)$/m);
  await screen.shows(/^waiting for approval, [0-5]:\d\d left$/m);
  assert.not.match(await interrupt(), /waiting for approval/);
  assert.is(await member(), undefined);
  await screen.begin(command);
  const [, third] = await screen.shows(/^code: ([\d-]+)$/m);
  assert.is(new Set([first, second, third]).size, 3, 'each request has a code of its own');
  assert.is((await fleet.hub(['node', 'approve', third!])).code, 0);
  await screen.shows(/^ready: late/m);
  await screen.press('C-c');
  assert.is(await screen.prompt(), 0, 'a daemon told to end has ended in order');
  assert.is(await screen.settings(), before);
  assert.ok(await member(), 'it stays a member');
});

test('start in the foreground, interrupted: it stops in order, and starts again', async () => {
  const dir = join(fleet.home, 'second');
  assert.match(
    await done(`mesh-hub init --dir '${dir}' --name second --recovery-key '${dir}.key'`),
    /recovery key/,
  );
  for (let time = 0; time < 2; time++) {
    await screen.begin(`mesh-hub start --dir '${dir}' --port 0`);
    await screen.shows(/^ready: second/m);
    await screen.press('C-c');
    assert.is(await screen.prompt(), 0, await screen.text());
    assert.is(await screen.settings(), before);
    assert.not.ok(existsSync(join(dir, 'run', 'api.sock')));
  }
});

test('a bash on this terminal completes task ids and node names of the running mesh', async () => {
  const id = await fleet.submit(['true'], { labels: { kind: 'none' } });
  await done('eval "$(mesh-hub completion bash)"');
  for (const [typed, completed] of [
    [`mesh-hub task stop ${id.slice(0, 4)}`, `mesh-hub task stop ${id}`],
    ['mesh-hub node drain m', 'mesh-hub node drain m1'],
  ] as const) {
    await screen.type(typed);
    await screen.press('Tab');
    await screen.until((text) => text.includes(completed), `${typed} to become ${completed}`);
    await screen.press('C-u');
  }
  await fleet.hub(['task', 'stop', id]);
  await screen.press('Enter');
});

test('colours on a terminal; none with NO_COLOR, TERM=dumb or a pipe, some where forced', async () => {
  const coloured = async (command: string): Promise<boolean> => {
    const from = screen.raw.length;
    await done(command);
    return /\x1b\[3[0-9]m/.test(screen.raw.slice(from));
  };
  assert.ok(await coloured('mesh-hub task list'));
  assert.not.ok(await coloured('NO_COLOR=1 mesh-hub task list'));
  assert.not.ok(await coloured('TERM=dumb mesh-hub task list'));
  assert.not.ok(await coloured('mesh-hub task list | cat'));
  assert.ok(await coloured('FORCE_COLOR=1 mesh-hub task list | cat'));
});

test('demo, interrupted while it sends: nothing of it is left; the same command then fills the mesh', async () => {
  await screen.begin('mesh-hub demo');
  await screen.shows(/sending task \d+ of \d+/);
  const text = await interrupt();
  assert.match(text, /interrupted/);
  assert.not.ok(existsSync(`${fleet.dir('hub')}-demo`));
  const { items } = await fleet.json<{ items: { correlation: string }[] }>([
    'task',
    'list',
    '--state',
    'proposed,queued,assigned,running,executed',
  ]);
  assert.equal(
    items.filter(({ correlation }) => correlation.startsWith('demo-')),
    [],
  );
  assert.match(await done('mesh-hub demo'), /Look around:[\s\S]*task why/);
  assert.match(await done('mesh-hub demo --stop'), /the demo is gone/);
});

if (has('tmux')) test.run();
else console.log('skipped: the programs on a real terminal: tmux is not installed');
