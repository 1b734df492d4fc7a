// limit: 180 s
/** Goals across real processes: typed on one machine, pursued on one with a model, verified on another. The model is a scripted server. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../hub/core/answers/why-answer.ts';
import type { NodeObject, StatusObject, TaskDetail } from '../../node/api/objects.ts';
import { answers, call, goalFleet, MODEL, mend } from './goal-fleet.ts';

const finish = call('finish', { summary: 'The greeting is spelled right.' });

const { fleet, hubArgs, server, repository, close } = await goalFleet();
test.after(close);

test('a goal waits for a machine with a model, converges there, is verified elsewhere, and comes back as a branch', async () => {
  const asked = answers(server, [[call('read', { path: 'greet.sh' })], [mend], [finish]]);
  const { token } = await fleet.client.post<{ token: string }>('/v1/invites', {
    roles: ['worker', 'submitter'],
    policy: 'always',
  });
  fleet.configure('laptop', { slots: 0 });
  await fleet.joinWith('laptop', token);
  const sent = await fleet.node(
    'laptop',
    ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--model', MODEL],
    {
      cwd: repository,
    },
  );
  assert.is(sent.code, 0, sent.stderr);
  const id = sent.stdout.trim();
  const why = JSON.parse((await fleet.node('laptop', ['task', 'why', id, '--json'])).stdout) as Why;
  assert.is(why.wait, 'noFit');
  assert.ok(
    why.members.every(({ why: reason }) =>
      /offers no model|does not offer the model|takes no tasks|no slot/.test(reason),
    ),
    JSON.stringify(why.members),
  );

  const lent = await fleet.node('thinker', ['models', 'add', server.url]);
  assert.is(lent.code, 0, lent.stderr);
  const task = await fleet.ended(id);
  assert.equal([task.state, task.verified, task.confidence, task.detail], ['delivered', true, 0.9, null]);
  assert.equal([task.executor?.name, task.verifier?.name], ['thinker', 'checker']);
  assert.is(asked.length, 3);

  const got = await fleet.node('laptop', ['task', 'get', id], { cwd: repository });
  assert.is(got.code, 0, got.stderr);
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: repository, encoding: 'utf8' }).trim();
  assert.is(git('diff', '--name-status', `mesh/${id}^`, `mesh/${id}`), 'M\tgreet.sh');
  assert.is(git('log', '-1', '--format=%s', `mesh/${id}`), 'greet.sh is to say Hello');

  const logs = await fleet.node('laptop', ['task', 'logs', id]);
  assert.match(logs.stdout, /turn 2, scripted-coder:7b, .* calls edit/);
  assert.match(logs.stdout, /the model is done: The greeting is spelled right\./);
  const described = await fleet.hub(['task', 'describe', id]);
  assert.match(described.stdout, /^goal +greet\.sh is to say Hello$/m);
  const receipt = join(fleet.home, 'receipt.json');
  assert.is((await fleet.hub(['receipt', 'show', id, '--output', receipt])).code, 0);
  const mesh = (await fleet.json<{ mesh: string }>(['status'])).mesh;
  const proved = await fleet.hub(['receipt', 'verify', receipt, '--mesh', mesh]);
  assert.is(proved.code, 0, proved.stdout);
  assert.match(proved.stdout, /The goal was: .greet\.sh is to say Hello./);
  assert.match(proved.stdout, /scripted-coder:7b/);
});

test('the owner who pauses the machine has the memory of its model back', async () => {
  assert.ok(server.loaded.has(MODEL));
  assert.is((await fleet.node('thinker', ['pause', '10m'])).code, 0);
  await fleet.untilAsked(async () => !server.loaded.has(MODEL), 'the model is let go');
  assert.is((await fleet.node('thinker', ['resume'])).code, 0);
});

test('one that is not reached fails with its reason, and one of another model waits and says why', async () => {
  answers(server, [[finish]]);
  const red = await fleet.hub(
    [
      'task',
      'code',
      'do nothing',
      '--check',
      'sh test.sh',
      '--model',
      MODEL,
      '--heals',
      '0',
      '--wait',
      '--json',
    ],
    {
      cwd: repository,
    },
  );
  assert.is(red.code, 1, red.stderr);
  assert.is((JSON.parse(red.stdout) as TaskDetail).reason, 'check');

  const other = await fleet.hub(['task', 'code', 'x', '--model', 'bigger:70b'], { cwd: repository });
  const why = await fleet.hub(['task', 'why', other.stdout.trim()]);
  assert.match(why.stdout, /thinker +does not offer the model bigger:70b, but .*scripted-coder:7b/);
  assert.is((await fleet.hub(['task', 'stop', other.stdout.trim()])).code, 0);
});

test('a model that asks is answered from the machine that sent the goal, by nobody else, and goes on with the answer', async () => {
  const asked = answers(server, [
    [call('signal', { signal: 'clarification_needed', text: 'Which spelling: Hello or Hallo?' })],
    [mend],
    [finish],
  ]);
  const goal = ['task', 'code', 'mend the greeting', '--check', 'sh test.sh', '--model', MODEL];
  const id = (await fleet.node('laptop', goal, { cwd: repository })).stdout.trim();
  await fleet.untilAsked(
    async () => (await fleet.client.get<TaskDetail>(`/v1/tasks/${id}`)).question != null,
    'it asks',
  );
  const why = await fleet.node('laptop', ['task', 'why', id]);
  assert.match(why.stdout, /waits for a person’s answer: Which spelling: Hello or Hallo\?/);
  assert.match(why.stdout, new RegExp(`try: mesh-node .*task answer ${id} TEXT`));
  assert.match((await fleet.hub(['task', 'list'])).stdout, new RegExp(`^${id} +queued/asks `, 'm'));
  assert.match((await fleet.hub(['task', 'describe', id])).stdout, /^question +Which spelling/m);
  assert.is((await fleet.node('checker', ['task', 'answer', id, 'Hallo'])).code, 4);
  assert.is((await fleet.node('laptop', ['task', 'answer', id, ' '])).code, 2);
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(hubArgs);
  await fleet.untilAsked(async () => {
    const { nodes } = await fleet.client.get<StatusObject>('/v1/status');
    return nodes.online === nodes.total;
  }, 'all machines are back');
  const answered = await fleet.node('laptop', ['task', 'answer', id, 'Hello, as in English']);
  assert.is(answered.code, 0, answered.stderr);
  const task = await fleet.ended(id);
  assert.equal([task.state, task.verified, task.attempts], ['delivered', true, 2]);
  const told = asked[1]!.messages.map(({ content }) => content).join('\n');
  assert.match(told, /It was asked:\nWhich spelling[\s\S]*answers:\nHello, as in English/);
  const late = await fleet.node('laptop', ['task', 'answer', id, 'late']);
  assert.is(late.code, 2);
  assert.match(late.stderr, `try: mesh-node task why ${id}`);
  const after = await fleet.node('laptop', ['task', 'describe', id]);
  assert.match(after.stdout, /^detail +-\n[\s\S]*^asked +Which spelling.*\nanswered +Hello, as in English$/m);
});

test('what a model leaves half done is continued from where it was sent, on one base: one commit, verified, with both parts', async () => {
  const asked = answers(server, [
    [call('write', { path: 'part.txt', content: 'half\n' })],
    [call('signal', { signal: 'partial_completion', text: 'The spelling is left.' })],
    [mend],
    [finish],
  ]);
  const goal = ['task', 'code', 'mend the greeting', '--check', 'sh test.sh', '--model', MODEL, '--wait'];
  const half = await fleet.node('laptop', goal, { cwd: repository });
  assert.is(half.code, 1, half.stderr);
  const id = half.stdout.trim();
  const goesOn = new RegExp(`mesh-node .*task continue ${id} \\[TEXT\\]$`, 'm');
  assert.match(half.stderr, goesOn);
  assert.match((await fleet.node('laptop', ['task', 'diff', id])).stderr, goesOn);
  assert.match((await fleet.node('laptop', ['task', 'describe', id])).stdout, /^partial +[0-9a-f]{12}; /m);
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(hubArgs);
  await fleet.untilAsked(async () => {
    const { nodes } = await fleet.client.get<StatusObject>('/v1/status');
    return nodes.online === nodes.total;
  }, 'all machines are back');
  const goOn = ['task', 'continue', id, 'now the spelling'];
  assert.is((await fleet.node('checker', goOn)).code, 4);
  const sent = await fleet.node('laptop', goOn, { cwd: repository });
  assert.is(sent.code, 0, sent.stderr);
  const whole = sent.stdout.trim();
  const task = await fleet.ended(whole);
  assert.equal([task.state, task.verified, task.confidence, task.detail], ['delivered', true, 0.9, null]);
  const told = asked[2]!.messages.map(({ content }) => content).join('\n');
  assert.match(told, /mend the greeting\s+now the spelling[\s\S]*The spelling is left\./);
  const described = await fleet.node('laptop', ['task', 'describe', whole]);
  assert.match(described.stdout, /^goal +mend the greeting now the spelling$/m);
  assert.match(described.stdout, new RegExp(`^continues +${id}, from [0-9a-f]{12}$`, 'm'));
  const got = await fleet.node('laptop', ['task', 'get', whole], { cwd: repository });
  assert.is(got.code, 0, got.stderr);
  const diff = ['diff', '--name-status', `mesh/${whole}^`, `mesh/${whole}`];
  assert.is(execFileSync('git', diff, { cwd: repository, encoding: 'utf8' }), 'M\tgreet.sh\nA\tpart.txt\n');
  const history = await fleet.hub(['task', 'history', id]);
  assert.match(history.stdout, /task\.partial .*left=The spelling is left\./);
  const bare = await fleet.node('laptop', ['task', 'continue', whole]);
  assert.is(bare.code, 2);
  assert.match(bare.stderr, /left nothing to continue/);
});

test('a task that is stopped while its model thinks lets go of the model at once', async () => {
  server.script = () => [{ do: 'hang' }];
  const before = server.to('/api/chat').length;
  const sent = await fleet.hub(['task', 'code', 'think', '--check', 'sh test.sh', '--model', MODEL], {
    cwd: repository,
  });
  const id = sent.stdout.trim();
  await fleet.untilAsked(async () => server.to('/api/chat').length > before, 'the model is asked');
  const stopped = await fleet.hub(['task', 'stop', id]);
  assert.is(stopped.code, 0, stopped.stderr);
  assert.is(await server.to('/api/chat').at(-1)!.ended, 'left');
  assert.is((await fleet.ended(id)).state, 'cancelled');
  await fleet.untilAsked(
    async () => (await fleet.client.get<NodeObject>('/v1/nodes/thinker')).slots.used === 0,
    'its slot is free',
  );
});

test.run();
