// limit: 120 s
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { greeter, Mesh, type Outcome, ok, run } from './mesh.ts';

/** What a script written by a stranger may rely on, held against real processes. Other promises: test/hub/cli, test/net. */

const ROOT = resolve(import.meta.dirname, '../..');
const HUB = join(ROOT, 'scripts/mesh-hub');
const NODE = join(ROOT, 'scripts/mesh-node');

const MESH = 'mesh name epoch founder size root paused nodes slots queue warnings'.split(' ');
const INVITE = 'token expiresAt uses roles labels'.split(' ');
const NODE_FIELDS = 'id name owner roles state code slots models tools labels limits lag'.split(' ');
const TASK =
  'id kind state reason verified confidence executor verifier sameOwner attempts base branch commit exitCode receipt submitter correlation submittedAt finishedAt'.split(
    ' ',
  );

type Json = Record<string, unknown>;
interface Task extends Json {
  id: string;
  state: string;
  spec: Json;
}

const mesh = new Mesh();
let repository = '';
/** Of this mesh when the founder was its only machine. */
let alone: Task;

/** Every field is there; what is absent is null. */
function has(object: unknown, fields: string[]): void {
  const missing = fields.filter((field) => (object as Json)[field] === undefined);
  assert.equal(missing, [], `missing of ${JSON.stringify(object).slice(0, 200)}`);
}

/** A document on stdout, one line of it, and nothing else. */
function one<T = Json>(done: Outcome, exit = 0): T {
  assert.is(done.code, exit, done.stderr);
  assert.is(done.stdout.trimEnd().split('\n').length, 1, done.stdout);
  return JSON.parse(done.stdout) as T;
}

function refusal(done: Outcome, exit: number, code: string): Json {
  assert.is(done.code, exit, done.stderr);
  assert.is(done.stdout, '', 'a refusal leaves stdout empty');
  const { error } = JSON.parse(done.stderr.trimEnd().split('\n').at(-1)!) as { error: Json };
  assert.equal(Object.keys(error), ['code', 'message', 'expected', 'got', 'hint']);
  assert.is(error.code, code);
  return error;
}

const inRepository = (args: string[]): Promise<Outcome> => mesh.hub(args, { cwd: repository });
const waited = async (options: string[], argv: string[], exit = 0): Promise<Task> =>
  one<Task>(await inRepository(['task', 'run', '--json', '--wait', ...options, '--', ...argv]), exit);
const MEND = ['sed', '-i', 's/Helo/Hello/', 'greet.sh'];

test.before(async () => {
  await mesh.founder({ args: ['--port', '0', '--log-level', 'error'] });
  repository = await greeter(join(mesh.home, 'greeter'));
  alone = await waited(['--check', 'sh test.sh'], MEND);
  await Promise.all(['m1', 'm2'].map((name) => mesh.member(name)));
});
test.after(() => mesh.close());

test('launchers run by absolute path from any folder, and say what they take', async () => {
  for (const [bin, word] of [
    [HUB, 'task'],
    [NODE, 'join'],
  ] as const) {
    const help = await run([bin, '--help'], { cwd: '/' });
    assert.is(help.code, 0);
    assert.match(help.stdout, new RegExp(`^ +${word}\\b`, 'm'));
    assert.is(help.stderr, '');
  }
});

test('start says one line on stdout when it is ready; status has every field of a mesh', async () => {
  const [hub, m1] = [mesh.daemons[0]!, mesh.daemons[1]!];
  for (const daemon of [hub, m1]) {
    assert.is(daemon.lines.length, 1);
    has(daemon.lines[0], ['event', 'mesh', 'id', 'name', 'addresses']);
  }
  const status = one<Json & { nodes: Json }>(await mesh.hub(['status', '--json']));
  has(status, MESH);
  assert.is(status.mesh, hub.lines[0]!.mesh);
  assert.equal(status.nodes, { online: 3, total: 3 });
  assert.equal(Object.keys(status.slots as Json), ['used', 'total']);
  assert.equal(Object.keys(status.queue as Json), ['queued', 'running']);
});

test('--dir wins over MESH_HOME, before or after the command', async () => {
  const env = { MESH_HOME: '/nonexistent' };
  for (const args of [
    ['--dir', mesh.dir('hub'), 'status', '--json'],
    ['status', '--json', '--dir', mesh.dir('hub')],
  ]) {
    has(one(await run([HUB, ...args], { cwd: '/', env })), MESH);
  }
  refusal(await run([HUB, 'status', '--json'], { cwd: '/', env }), 3, 'SF_UNREACHABLE');
});

test('an invite and a node have every field, absent ones null; lists are items and next', async () => {
  has(one(await mesh.hub(['invite', '--json', '--expires', '2h', '--role', 'viewer'])), INVITE);
  const list = one<{ items: Json[]; next: null }>(await mesh.hub(['node', 'list', '--json']));
  assert.is(list.next, null);
  assert.is(list.items.length, 3);
  for (const node of list.items) has(node, NODE_FIELDS);
  const m1 = list.items.find(({ name }) => name === 'm1')!;
  assert.is(m1.code, null);
  has(one(await mesh.node('m1', ['status', '--json'])), NODE_FIELDS);
  // Wherever a node is named, its name or its peer id will do.
  assert.equal(one(await mesh.hub(['node', 'describe', m1.id as string, '--json'])).id, m1.id);
  assert.is(one(await mesh.hub(['node', 'drain', m1.id as string, '--json'])).state, 'draining');
  assert.is(one(await mesh.hub(['node', 'eligible', 'm1', '--json'])).state, 'online');
  const { executor } = await waited(['--no-repo', '--on', m1.id as string], ['true']);
  assert.equal(executor, { id: m1.id, name: 'm1' });
});

test('names are unique in a mesh; a code waits in node list with the words of the contract', async () => {
  const { token } = one<{ token: string }>(await mesh.hub(['invite', '--json']));
  mesh.place('twin', join(mesh.home, 'twin'));
  const joins = (name: string): Promise<Outcome> =>
    run([NODE, 'join', token, '--name', name, '--port', '0', '--detach', '--json'], {
      env: { MESH_HOME: mesh.dir('twin') },
    });
  const taken = await joins('m1');
  assert.is(taken.code, 2, taken.stderr);
  assert.match(taken.stderr, /"SF_EXISTS".*the name m1 is taken/);
  const ready = one(await joins('twin'));
  assert.equal([ready.event, ready.name], ['ready', 'twin']);
  const left = one(await mesh.node('twin', ['leave', '--json']));
  assert.is(left.left, true);
  const gone = await mesh.node('twin', ['stop', '--json']);
  assert.equal(one(gone), { stopped: false, pid: null });

  const address = (mesh.daemons[0]!.lines[0]!.addresses as string[])[0]!;
  const applicant = mesh.applicant('late', { args: ['--port', '0', '--founder', address] });
  const pending = await applicant.event('pending');
  assert.match(pending.code as string, /^\d{3}-\d{3}-\d{3}$/);
  const { items } = one<{ items: Json[] }>(await mesh.hub(['node', 'list', '--json']));
  const waiting = items.find(({ state }) => state === 'pending')!;
  has(waiting, NODE_FIELDS);
  assert.equal([waiting.name, waiting.code], ['late', pending.code]);
  assert.is((await mesh.hub(['node', 'reject', pending.code as string, '--json'])).code, 0);
  await new Promise<void>((resolve) => {
    if (applicant.exited) resolve();
    applicant.child.once('exit', () => resolve());
  });
  assert.is(applicant.child.exitCode, 4, applicant.log);
  assert.match(applicant.log, /^\{"error":\{"code":"SF_REJECTED"/m);
});

test('a task has every field from its submission to its end, in each answer that shows it', async () => {
  const submitted = await mesh.hub([
    'task',
    'run',
    '--json',
    '--no-repo',
    '--label',
    'never=there',
    '--allow-waiting',
    '--',
    'true',
  ]);
  const { id } = one<Task>(submitted);
  const queued = one<Task>(await mesh.hub(['task', 'describe', id, '--json']));
  for (const task of [one(submitted), queued, alone]) has(task, TASK);
  assert.equal(
    [queued.state, queued.attempts, queued.finishedAt, queued.executor],
    ['queued', 0, null, null],
  );
  const why = one<{ reasons: string[]; members: { name: string; why: string }[] }>(
    await mesh.hub(['task', 'why', id, '--json']),
  );
  assert.equal(why.members.map(({ name }) => name).sort(), ['hub', 'm1', 'm2'], 'a line for each member');
  assert.match(why.members[0]!.why, /no label never/);
  const waiting = mesh.hub(['task', 'rerun', id, '--wait', '--json']);
  const list = one<{ items: Task[]; next: unknown }>(
    await mesh.hub(['task', 'list', '--limit', '1', '--json']),
  );
  has(list.items[0], TASK);
  assert.type(list.next, 'string', 'a cursor, where there is more');
  const next = one<{ items: Task[] }>(
    await mesh.hub([
      'task',
      'list',
      '--cursor',
      list.next as string,
      '--json',
      '--state',
      'queued,delivered',
    ]),
  );
  for (const task of next.items) has(task, TASK);
  has(one(await mesh.hub(['task', 'stop', id, '--json'])), TASK);
  for (;;) {
    const { items } = await mesh.client.get<{ items: Task[] }>('/v1/tasks?state=queued');
    if (items.length === 0) {
      await delay(20);
      continue;
    }
    await mesh.hub(['task', 'stop', items[0]!.id]);
    break;
  }
  const cancelled = one<Task>(await waiting, 1);
  assert.equal([cancelled.state, cancelled.reason, cancelled.exitCode], ['cancelled', null, null]);
  has(cancelled, TASK);
  const history = one<{ items: Json[]; next: null }>(await mesh.hub(['task', 'history', id, '--json']));
  assert.equal(
    history.items.map(({ type }) => type),
    ['task.submitted', 'task.cancelled', 'task.converged'],
  );
});

test('confidence: 0.1 without checks, 0.3 by the executor alone, 0.9 where another party verified', async () => {
  assert.equal(
    [alone.state, alone.verified, alone.confidence, alone.verifier],
    ['delivered', false, 0.3, null],
  );
  const [unchecked, verified] = await Promise.all([
    waited([], ['touch', 'unchecked']),
    waited(['--check', 'sh test.sh'], MEND),
  ]);
  assert.equal([unchecked.state, unchecked.verified, unchecked.confidence], ['delivered', false, 0.1]);
  assert.equal([verified.state, verified.verified, verified.confidence], ['delivered', true, 0.9]);
  assert.is(verified.sameOwner, true, 'one owner suffices, and is said');
  const [executor, verifier] = [verified.executor as Json, verified.verifier as Json];
  assert.is.not(executor.id, verifier.id, 'the verifier is another machine');
  assert.is(verified.branch, `mesh/${verified.id}`);
  assert.is(
    (await ok(['git', 'rev-parse', `mesh/${verified.id}`], { cwd: repository })).trim(),
    verified.commit,
  );
  assert.match(verified.receipt as string, /^[0-9a-f]{64}$/);
  assert.equal([verified.kind, verified.attempts, verified.exitCode], ['command', 1, 0]);
});

test('why a task failed: task, check, environment, timeout; exit 1 with --wait', async () => {
  const [task, check, environment, timeout] = await Promise.all([
    waited([], ['sh', '-c', 'exit 7'], 1),
    waited(['--check', 'true', '--check', 'exit 3', '--check', 'touch never'], ['true'], 1),
    waited(['--check', 'no-such-tool --version'], ['true'], 1),
    waited(['--timeout', '500ms'], ['sleep', '60'], 1),
  ]);
  assert.equal([task!.state, task!.reason, task!.exitCode], ['failed', 'task', 7]);
  assert.equal([check!.reason, check!.exitCode], ['check', 0], 'in order, until one is red');
  assert.is(environment!.reason, 'environment');
  assert.match(environment!.detail as string, /no-such-tool/);
  assert.is(timeout!.reason, 'timeout');
});

test('what follows -- is argv and no shell; --check is a shell line; --env is public', async () => {
  const argv = ['printf', '%s|', '$HOME', '*', 'a b', '--json', ''];
  const task = await waited(
    ['--env', 'COLOUR=a b', '--check', 'test "$COLOUR" = "a b" && echo $((6 * 7)) | grep -q 42'],
    argv,
  );
  assert.is(task.state, 'delivered');
  assert.equal(task.spec.argv, argv);
  assert.equal(task.spec.env, { COLOUR: 'a b' });
  const { log } = one<{ log: string }>(await mesh.hub(['task', 'logs', task.id, '--json']));
  assert.match(log, '$HOME|*|a b|--json||');
  assert.match(readFileSync(join(mesh.dir('hub'), 'log/0000000000000000.jsonl'), 'utf8'), '"COLOUR":"a b"');
});

test('defaults, durations and sizes are those of the contract', async () => {
  const { spec } = alone;
  assert.equal([spec.timeoutMs, spec.checkTimeoutMs, spec.retries], [1_800_000, 1_800_000, 0]);
  const forms: [string, string, string, number][] = [
    ['--timeout', '500ms', 'timeoutMs', 500],
    ['--timeout', '30s', 'timeoutMs', 30_000],
    ['--check-timeout', '5m', 'checkTimeoutMs', 300_000],
    ['--check-timeout', '2h', 'checkTimeoutMs', 7_200_000],
    ['--timeout', '1d', 'timeoutMs', 86_400_000],
  ];
  const sizes: [string, number][] = [
    ['65536KiB', 65_536 * 1024],
    ['100MiB', 100 * 1024 ** 2],
    ['2GiB', 2 * 1024 ** 3],
  ];
  const made = await Promise.all([
    ...forms.map(([flag, text]) =>
      mesh.hub(['task', 'run', '--no-repo', flag, text, '--json', '--', 'true']),
    ),
    ...sizes.map(([text]) =>
      mesh.hub(['task', 'run', '--no-repo', '--memory', text, '--json', '--', 'true']),
    ),
  ]);
  const specs = made.map((done) => one<Task>(done).spec);
  forms.forEach(([, , field, value], at) => {
    assert.is(specs[at]![field], value);
  });
  sizes.forEach(([, value], at) => {
    assert.is((specs[forms.length + at]!.limits as Json).memoryBytes, value);
  });
});

test('a secret the founder does not have makes the task wait, and why says so; checks get none', async () => {
  const line = 'test -z "$API_KEY"';
  const running = inRepository([
    ...['task', 'run', '--json', '--wait', '--secret', 'API_KEY', '--check', line, '--', 'sh', '-c'],
    'test "$API_KEY" = hunter2',
  ]);
  for (;;) {
    const { items } = await mesh.client.get<{ items: Task[] }>('/v1/tasks?state=queued');
    const queued = await Promise.all(items.map(({ id }) => mesh.client.get<Task>(`/v1/tasks/${id}`)));
    const found = queued.find(({ spec }) => (spec.secrets as string[]).includes('API_KEY'));
    if (found === undefined) {
      await delay(20);
      continue;
    }
    assert.match((await mesh.hub(['task', 'why', found.id])).stdout, /the secret API_KEY is not set/);
    break;
  }
  assert.is((await mesh.hub(['secret', 'set', 'API_KEY'], { input: 'hunter2' })).code, 0);
  const task = one<Task>(await running);
  assert.equal([task.state, task.spec.secrets], ['delivered', ['API_KEY']]);
});

test('--follow --json is a line for each event, the last one the whole task', async () => {
  const done = await mesh.hub(['task', 'run', '--no-repo', '--follow', '--json', '--', 'echo', 'live']);
  assert.is(done.code, 0, done.stderr);
  const lines = done.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Json);
  const whole = lines.pop()!;
  has(whole, TASK);
  assert.ok(lines.length > 2 && lines.every(({ event }) => typeof event === 'string'));
  const output = lines.filter(({ event }) => event === 'output').map(({ text }) => text);
  assert.match(output.join(''), /^live$/m);
  const logs = await mesh.hub(['task', 'logs', '-f', whole.id as string, '--json']);
  has(JSON.parse(logs.stdout.trimEnd().split('\n').at(-1)!), TASK);
});

test('without --json stdout is the result alone: the id, the patch, the token', async () => {
  const done = await inRepository(['task', 'run', '--wait', '--check', 'sh test.sh', '--', ...MEND]);
  assert.match(done.stdout, /^[a-z2-7]{12}\n$/);
  const id = done.stdout.trim();
  const diff = await inRepository(['task', 'diff', id]);
  assert.is(diff.stderr, '');
  await ok(['git', 'apply', '--check', '-'], { cwd: repository, input: diff.stdout });
  await ok(['git', 'branch', '-D', `mesh/${id}`], { cwd: repository });
  const got = await inRepository(['task', 'get', id]);
  assert.match(got.stdout, new RegExp(`^branch mesh/${id} at `));
  const applied = one(await inRepository(['task', 'apply', id, '--json']));
  assert.is((await ok(['git', 'rev-parse', 'HEAD'], { cwd: repository })).trim(), applied.head);
  await ok(['sh', 'test.sh'], { cwd: repository });
  await ok(['git', 'reset', '-q', '--hard', 'HEAD~1'], { cwd: repository });
  assert.match((await mesh.hub(['invite'])).stdout, /^sfi1_\S+\n$/);
});

test('Ctrl-C while it waits is exit 130, and the task goes on', async () => {
  const child = spawn(HUB, ['task', 'run', '--no-repo', '--wait', '--', 'sleep', '100'], {
    env: { ...process.env, MESH_HOME: mesh.dir('hub') },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [bytes] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGINT');
  assert.equal(await once(child, 'exit'), [130, null]);
  const stopped = one<Task>(await mesh.hub(['task', 'stop', String(bytes).trim(), '--json']));
  assert.is(stopped.state, 'cancelled', 'it was still there to be stopped');
});

test('receipt verify: proved, not proved, signer unknown; exit 0 and 5, in both bins', async () => {
  const task = await waited(['--check', 'sh test.sh'], MEND);
  const file = join(mesh.home, 'receipt.json');
  assert.is((await mesh.hub(['receipt', 'show', task.id, '--output', file])).code, 0);
  const id = mesh.daemons[0]!.lines[0]!.mesh as string;
  const last = (done: Outcome): string => done.stdout.trimEnd().split('\n').at(-1)!;
  const env = { MESH_HOME: '/nonexistent' };
  const forged = join(mesh.home, 'forged.json');
  writeFileSync(forged, readFileSync(file, 'utf8').replace('"sig": "', '"sig": "A'));
  for (const bin of [HUB, NODE]) {
    const verify = (...args: string[]): Promise<Outcome> => run([bin, 'receipt', 'verify', ...args], { env });
    const [proved, unknown, wrong, bad] = await Promise.all([
      verify(file, '--mesh', id),
      verify(file),
      verify(file, '--mesh', 'f'.repeat(64)),
      verify(forged, '--mesh', id),
    ]);
    assert.match(last(proved!), /^proved: /);
    assert.is(last(unknown!), 'signature good, signer unknown');
    for (const done of [wrong!, bad!]) assert.match(last(done), /^not proved: /);
    assert.equal([proved!.code, unknown!.code, wrong!.code, bad!.code], [0, 5, 5, 5]);
  }
  const facts = one(await run([NODE, 'receipt', 'verify', file, '--mesh', id, '--json'], { env }));
  assert.equal([facts.proved, facts.task, facts.sameOwner], [true, task.id, true]);
});

test('a member that may submit has the same verbs, is recorded as its peer, and sees what it sent', async () => {
  const at = { cwd: repository };
  const done = await mesh.node(
    'm1',
    ['task', 'run', '--json', '--wait', '--check', 'sh test.sh', '--', ...MEND],
    at,
  );
  const task = one<Task>(done);
  has(task, TASK);
  assert.equal([task.state, task.verified], ['delivered', true]);
  const { id: peer } = mesh.daemons.find(({ lines }) => lines[0]?.name === 'm1')!.lines[0] as { id: string };
  assert.equal(task.submitter, { kind: 'peer', peer });
  assert.equal((alone.submitter as Json).kind, 'local');
  assert.is((alone.submitter as Json).claimed, true);
  await ok(['git', 'branch', '-D', `mesh/${task.id}`], at);
  const said = await Promise.all(
    ['get', 'diff', 'logs', 'history', 'why', 'describe'].map((verb) =>
      mesh.node('m1', ['task', verb, task.id, '--json'], at),
    ),
  );
  for (const answer of said) assert.is(answer.code, 0, answer.stderr);
  assert.match((await mesh.node('m1', ['receipt', 'show', task.id])).stdout, /superfleet-receipt\/1/);
  const { items } = one<{ items: Task[] }>(await mesh.node('m1', ['task', 'list', '--json']));
  assert.equal(
    items.map(({ id }) => id),
    [task.id],
  );
  const refused = await Promise.all(
    ['describe', 'logs', 'stop', 'rerun', 'history'].map((verb) =>
      mesh.node('m2', ['task', verb, task.id, '--json']),
    ),
  );
  for (const answer of refused) refusal(answer, 4, 'SF_REFUSED');
  refusal(
    await mesh.node('m2', ['task', 'run', '--no-repo', '--secret', 'API_KEY', '--json', '--', 'env']),
    4,
    'SF_REFUSED',
  );
});

test('artifacts come back to --output, and never over what is there without --force', async () => {
  const output = join(mesh.home, 'brought');
  const options = ['--no-repo', '--artifact', 'out/**', '--output', output];
  const task = await waited(options, ['sh', '-c', 'mkdir -p out/deep; echo 1 > out/deep/a']);
  assert.is(readFileSync(join(output, 'out/deep/a'), 'utf8'), '1\n');
  refusal(await mesh.hub(['task', 'get', task.id, '--output', output, '--json']), 2, 'SF_EXISTS');
  rmSync(join(output, 'out/deep/a'));
  assert.is((await mesh.hub(['task', 'get', task.id, '--output', output, '--force'])).code, 0);
  assert.ok(existsSync(join(output, 'out/deep/a')));
});

test('the log is verified, tailed and exported as documents', async () => {
  const report = one(await mesh.hub(['ledger', 'verify', '--json']));
  has(report, ['mesh', 'size', 'root', 'checkpoints', 'segments']);
  const tail = one<{ items: Json[]; next: null }>(
    await mesh.hub(['ledger', 'tail', '--from', '0', '--json']),
  );
  assert.equal(Object.keys(tail.items[0]!), ['index', 'epoch', 'time', 'type', 'body']);
  assert.ok(tail.items.length >= (report.size as number));
  const exported = (await mesh.hub(['ledger', 'export'])).stdout;
  assert.is(exported.split('\n')[0], JSON.stringify(tail.items[0]));
  const output = join(mesh.home, 'exported');
  assert.equal(one(await mesh.hub(['ledger', 'export', '--output', output, '--json'])), { output });
  assert.is(readFileSync(output, 'utf8').split('\n')[0], exported.split('\n')[0]);
});

test('stop returns when the process is gone; SIGTERM ends one in order', async () => {
  const [hub, m1] = [mesh.daemons[0]!, mesh.daemons.find(({ lines }) => lines[0]?.name === 'm1')!];
  const began = performance.now();
  const { pid, stopped } = one(await mesh.node('m1', ['stop', '--json']));
  assert.equal([pid, stopped], [m1.pid, true]);
  // The process is gone; our own word of it may come a moment later.
  if (!m1.exited) await once(m1.child, 'exit');
  assert.is(m1.child.exitCode, 0);
  assert.ok(performance.now() - began < 5_000);
  refusal(await mesh.node('m1', ['status', '--json']), 3, 'SF_UNREACHABLE');
  await hub.end('SIGTERM');
  assert.is(hub.child.exitCode, 0);
  refusal(await mesh.hub(['status', '--json']), 3, 'SF_UNREACHABLE');
});

test.run();
