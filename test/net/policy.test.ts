// limit: 150 s
// timed: it measures how soon work stops
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { descendants, Fleet } from './fleet.ts';
import { Daemon, isRoot } from './mesh.ts';
import { OWN_TERMINALS, TYPIST } from './terminals.ts';

/** A person who comes back waits no longer: a look a second, and the stop itself. */
const YIELDS_MS = 3_000;

const fleet = await Fleet.start();
const children: ChildProcess[] = [];
test.after(async () => {
  await fleet.close();
  for (const child of children) {
    const gone = once(child, 'close');
    child.stdin?.end();
    await gone;
  }
});

const state = async (node: string): Promise<string> =>
  (await fleet.client.get<{ state: string }>(`/v1/nodes/${node}`)).state;

const joining = (name: string, token: string, ...more: string[]): string[] => [
  join(fleet.program, 'scripts', 'mesh-node'),
  ...['join', token, '--name', name, '--json', '--port', '0', ...more],
];

test('typing on a machine that works when idle suspends its task at once, ends it where the typist stays, and it works again by itself', async () => {
  if (!isRoot) {
    console.log('skipped: terminals of its own need root');
    return;
  }
  const typist = spawn('unshare', ['--mount', 'sh', '-c', OWN_TERMINALS, 'sh', TYPIST], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(typist);
  const said = createInterface({ input: typist.stdout })[Symbol.asyncIterator]();
  assert.is((await said.next()).value, 'sits');
  const { token } = await fleet.json<{ token: string }>(['invite']);
  fleet.configure('desk', { evictAfter: '4s' });
  const daemon = new Daemon(
    ['nsenter', '--mount', '--target', String(typist.pid), ...joining('desk', token, '--policy', 'idle=10s')],
    null,
    { MESH_HOME: fleet.dir('desk') },
  );
  fleet.daemons.push(daemon);
  fleet.members.set('desk', daemon);
  await daemon.event('ready');
  const idle = await fleet.node('desk', ['status']);
  assert.match(
    idle.stdout,
    /^work +takes tasks, policy idle=10s \(its owner\): nobody was here for .*\(terminals\)$/m,
  );

  const task = await fleet.submit(['sleep', '600'], { on: 'desk' });
  await fleet.about(task, 'attempt.started');
  const from = fleet.next;
  const began = performance.now();
  typist.stdin.write('\n');
  assert.is((await said.next()).value, 'typed');
  await fleet.untilAsked(
    async () => /desk: suspended, because/.test((await fleet.hub(['task', 'why', task])).stdout),
    'its task is suspended',
  );
  const ms = performance.now() - began;
  console.log(`typed: the task is suspended and the founder has told so after ${Math.round(ms)} ms`);
  const halted = await fleet.node('desk', ['status']);
  assert.match(halted.stdout, /^work +takes no tasks now.*1 task of the mesh is suspended/m);
  assert.ok(descendants(daemon.pid).length > 1, 'it is there still');
  const end = await fleet.about(task, 'attempt.ended', from);
  const stayed = performance.now() - began;
  console.log(`typed: the task is gone and the founder knows after ${Math.round(stayed)} ms`);
  assert.ok(stayed >= 4_000, 'not before the grace is over');
  assert.equal(
    descendants(daemon.pid).filter((pid) => pid !== daemon.pid),
    [],
    'nothing of it is left',
  );
  assert.ok(ms < YIELDS_MS, `it yielded after ${ms} ms`);
  assert.is(end.body.fault, 'person', 'it costs the task nothing');
  assert.match(String(end.body.detail), /policy of the machine’s owner/);

  assert.is(await state('desk'), 'paused');
  const busy = await fleet.node('desk', ['status']);
  assert.match(busy.stdout, /^state +paused$/m);
  assert.match(
    busy.stdout,
    /^work +takes no tasks now, policy idle=10s .*: somebody was here .*\(terminals\); it waits/m,
  );
  const why = await fleet.hub(['task', 'why', task]);
  assert.match(why.stdout, /desk +is in use by its owner \(policy idle\)/);

  await fleet.about(task, 'attempt.started', end.index);
  const again = performance.now() - began;
  assert.ok(again >= 8_000, `not before its time: ${again} ms`);
  console.log(`nobody there: the task runs again ${Math.round(again)} ms after the key`);
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  assert.is((await fleet.ended(task)).state, 'cancelled');
});

test('outside its hours a machine takes nothing, why says so, and the owner may change that', async () => {
  const hour = new Date().getHours();
  const two = (value: number): string => String(value % 24).padStart(2, '0');
  const hours = `hours=${two(hour + 2)}:00-${two(hour + 3)}:00`;
  const { token } = await fleet.json<{ token: string }>(['invite']);
  fleet.configure('night', { policy: hours, inhibitSleep: true, cpuWeight: 50, memoryShare: '50%' });
  fleet.members.set('night', await fleet.joinWith('night', token));
  const task = await fleet.submit(['true'], { on: 'night' });
  const why = await fleet.hub(['task', 'why', task]);
  assert.match(why.stdout, /night +works only at its owner’s hours \(\d\d:00-\d\d:00, by its clock\)/);
  assert.is(await state('night'), 'paused');
  const described = await fleet.hub(['node', 'describe', 'night']);
  assert.ok(described.stdout.includes(hours), described.stdout);
  const tested = await fleet.node('night', ['policy', 'test', 'load=100%,idle=10s,on-mains']);
  assert.is(tested.code, 0, tested.stderr);
  assert.match(tested.stdout, /^load=100% +(holds|does not hold): others take \d+% of the processors/m);
  assert.match(tested.stdout, /^on-mains +(holds|does not hold): it /m);
  assert.match(tested.stdout, /^signs:\nseat /m);
  assert.is((await fleet.node('night', ['policy', 'set', 'mains'])).code, 2);
  const set = await fleet.node('night', ['policy', 'set', 'always', '--json']);
  assert.equal(
    [JSON.parse(set.stdout)].map(({ policy, owner, holds }) => [policy, owner, holds]),
    [['always', 'always', true]],
  );
  assert.is((await fleet.ended(task)).state, 'delivered');
  const kept = await fleet.node('night', ['status']);
  assert.match(kept.stdout, /^cpu weight +50: (cpu\.(weight|shares) of .*, and )?niceness 3/m);
  assert.match(kept.stdout, /^memory share +50% \(\d+\.\d GiB\): /m);
  assert.match(kept.stdout, /^sleep +(may sleep now|kept awake|cannot be kept awake: .)/m);

  // What the mesh asks of all holds besides, from the moment that it is said.
  const from = fleet.next;
  const said = await fleet.hub(['policy', 'default', hours]);
  assert.is(said.code, 0, said.stderr);
  await fleet.entry(({ type, body }) => type === 'mesh.policy' && body.policy === hours, 'it', from);
  await fleet.untilAsked(
    async () => (await state('night')) === 'paused',
    'the founder has heard that it stopped',
  );
  const barred = await fleet.submit(['true'], { on: 'night' });
  assert.match(
    (await fleet.hub(['task', 'why', barred])).stdout,
    /night +works only at the mesh’s hours \(\d\d:00-\d\d:00, by its clock\)/,
  );
  const shown = await fleet.node('night', ['policy', 'show']);
  assert.match(shown.stdout, /^policy +hours=.* \(the mesh\)$/m);
  assert.match(shown.stdout, /^owner +always$/m);
  assert.match(shown.stdout, /^mesh +hours=/m);
  const named = await fleet.node('night', ['policy', 'test', 'always,on-mains']);
  assert.match(named.stdout, /^hours=\S+ \(the mesh\) +does not hold/m);
  await fleet.daemon('night').end('SIGKILL');
  fleet.members.set('night', await fleet.startMember('night', ['--port', '0']));
  assert.match((await fleet.node('night', ['status'])).stdout, /^policy +hours=/m);
  assert.is((await fleet.hub(['policy', 'default', 'none'])).code, 0);
  assert.is((await fleet.ended(barred)).state, 'delivered');
});

test('an invite’s policy comes with the admission, outlives restarts, and the owner can only be stricter', async () => {
  const outside = new Date().getHours() + 2;
  const hours = `hours=${String(outside % 24).padStart(2, '0')}:00-${String((outside + 1) % 24).padStart(2, '0')}:00`;
  const made = await fleet.json<{ token: string; policy: string }>(['invite', '--policy', hours]);
  assert.is(made.policy, hours);
  const logged = await fleet.entry(
    ({ type, body }) => type === 'invite.created' && body.policy === hours,
    'it',
  );
  assert.ok(logged);
  fleet.configure('office', { policy: 'always' });
  fleet.members.set('office', await fleet.joinWith('office', made.token));
  const status = await fleet.node('office', ['status', '--json']);
  assert.is(JSON.parse(status.stdout).policy, hours, 'always of the owner takes nothing away');
  await fleet.daemon('office').end('SIGKILL');
  fleet.members.set('office', await fleet.startMember('office', ['--port', '0', '--policy', 'idle']));
  const again = JSON.parse((await fleet.node('office', ['status', '--json'])).stdout);
  assert.is(again.policy, `${hours},idle`);
  assert.match(again.work, /^takes no tasks now, policy .* \(its owner and the invite\): .* is outside/);
  const task = await fleet.submit(['true'], { on: 'office' });
  assert.match((await fleet.hub(['task', 'why', task])).stdout, /office +works only at its owner’s hours/);
  await fleet.client.post(`/v1/tasks/${task}/stop`);
  const bad = await fleet.hub(['invite', '--policy', 'mains']);
  assert.is(bad.code, 2);
});

test('a policy that is none is refused before anything is made', async () => {
  const bad = await fleet.node('nobody', ['join', 'token', '--policy', 'sometimes']);
  assert.is(bad.code, 2);
  assert.match(bad.stderr, /--policy: this is no policy/);
});

test.run();
