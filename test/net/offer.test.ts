// limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeObject } from '../../node/api/objects.ts';
import { Fleet } from './fleet.ts';
import { ScriptedModelServer } from './scripted-model-server.ts';

const ollama = await ScriptedModelServer.listen('ollama', ['llama3:8b', 'qwen2.5-coder:7b']);
const openai = await ScriptedModelServer.listen('openai', ['mistral-small']);
const fleet = await Fleet.start({
  hub: { slots: 0 },
  members: { lender: { slots: 1 }, plain: { slots: 1 } },
});
test.after(async () => {
  await fleet.close();
  await Promise.all([ollama.close(), openai.close()]);
});

const node = (name: string): Promise<NodeObject> => fleet.client.get<NodeObject>(`/v1/nodes/${name}`);
const offered = (name: string, model: string): Promise<void> =>
  fleet.untilAsked(async () => (await node(name)).models.includes(model), `${name} offers ${model}`);

test('models of a server elsewhere are lent, shown, asked for, and outlive a restart', async () => {
  const task = await fleet.submit(['true'], { model: 'qwen2.5-coder:7b' });
  const waiting = await fleet.hub(['task', 'why', task]);
  assert.match(waiting.stdout, /lender +offers no model \(asked: qwen2\.5-coder:7b\)/);
  const added = await fleet.node('lender', ['models', 'add', `${ollama.url}/v1`]);
  assert.is(added.code, 0, added.stderr);
  assert.is(added.stdout, `lends ${ollama.url}: llama3:8b qwen2.5-coder:7b\n`);
  const { executor } = await fleet.ended(task);
  assert.is(executor?.name, 'lender');
  const again = await fleet.node('lender', ['models', 'add', openai.url, '--json']);
  assert.equal(JSON.parse(again.stdout), {
    url: openai.url,
    speaks: 'OpenAI',
    models: ['mistral-small'],
    fault: null,
    from: 'lent',
  });
  await offered('lender', 'mistral-small');
  const list = await fleet.hub(['node', 'list']);
  assert.match(list.stdout, /^NAME .* MODELS /m);
  assert.match(list.stdout, /^lender .* llama3:8b qwen2\.5-coder:7b \+1 /m);
  assert.match((await fleet.hub(['node', 'describe', 'lender'])).stdout, /^models .*mistral-small/m);
  await fleet.daemon('lender').end('SIGKILL');
  fleet.members.set('lender', await fleet.startMember('lender'));
  await offered('lender', 'llama3:8b');
});

test('a lent server that does not answer is told and kept; what is no address, or not lent, is refused', async () => {
  const silent = 'http://127.0.0.1:1';
  const added = await fleet.node('plain', ['models', 'add', silent]);
  assert.is(added.code, 0);
  assert.match(added.stderr, /offers nothing now \(ECONNREFUSED\); it is kept/);
  const list = await fleet.node('plain', ['models', 'list']);
  assert.match(list.stdout, new RegExp(`^${silent} +lent +- +does not answer: ECONNREFUSED$`, 'm'));
  await fleet
    .daemon('plain')
    .until(
      () => (fleet.daemon('plain').log.includes('does not answer') ? true : undefined),
      'a word in the log',
    );
  const removed = await fleet.node('plain', ['models', 'remove', `${silent}/`]);
  assert.is(removed.code, 0, removed.stderr);
  const twice = await fleet.node('plain', ['models', 'remove', silent]);
  assert.is(twice.code, 2);
  assert.match(twice.stderr, /does not lend/);
  for (const bad of ['http://8.8.8.8:11434', 'localhost:11434', 'http://u:p@10.0.0.1']) {
    const refused = await fleet.node('plain', ['models', 'add', bad]);
    assert.is(refused.code, 2, bad);
    assert.match(refused.stderr, /a model server cannot be at this address/);
  }
});

test('models of a server on the machine are found, and seen to change', async () => {
  const found = await ScriptedModelServer.listen('openai', ['tiny'], 1234).catch(() => null);
  if (found === null) {
    console.log('skipped: port 1234 is in use');
    return;
  }
  try {
    await fleet.daemon('plain').end('SIGTERM');
    fleet.members.set('plain', await fleet.startMember('plain'));
    await offered('plain', 'tiny');
    const list = await fleet.node('plain', ['models', 'list']);
    assert.match(list.stdout, /^http:\/\/127\.0\.0\.1:1234 +found +LM Studio +tiny$/m);
  } finally {
    await found.close();
  }
});

test('a task that names a tool goes where it is; one that nobody has waits, and why names what each machine has', async () => {
  const { tools } = await node('lender');
  assert.ok(Object.keys(tools).length > 0);
  const version = tools.git ?? '';
  assert.match(version, /^\d+\.\d+/);
  const done = await fleet.json<{ id: string; state: string }>([
    ...[
      'task',
      'run',
      '--no-repo',
      '--tool',
      'git>=2',
      '--tool',
      'python3',
      '--wait',
      '--',
      'git',
      '--version',
    ],
  ]);
  assert.is(done.state, 'delivered');
  const { id } = await fleet.json<{ id: string }>([
    'task',
    'run',
    '--no-repo',
    '--tool',
    'git>=99',
    '--allow-waiting',
    '--',
    'true',
  ]);
  const why = await fleet.hub(['task', 'why', id]);
  assert.ok(why.stdout.includes(`has git ${version}, not git>=99`), why.stdout);
  await fleet.client.post(`/v1/tasks/${id}/stop`);
  const none = await fleet.json<{ id: string }>([
    'task',
    'run',
    '--no-repo',
    '--tool',
    'cobol',
    '--allow-waiting',
    '--',
    'true',
  ]);
  assert.match((await fleet.hub(['task', 'why', none.id])).stdout, /has no cobol/);
  await fleet.client.post(`/v1/tasks/${none.id}/stop`);
});

test.run();
