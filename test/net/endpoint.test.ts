// limit: 180 s
/** Models across real processes: two machines lend theirs, one has none and offers an endpoint. The models are scripted servers. */
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { EndpointObject, ModelObject, NodeObject, Page } from '../../node/api/objects.ts';
import { READ_BY } from '../../node/infer/endpoint.ts';
import type { Script, ScriptedBody, Step } from '../model-server/script.ts';
import { ScriptedOllama } from '../model-server/scripted-ollama.ts';
import { Fleet, freePort } from './fleet.ts';
import { greeter } from './mesh.ts';

const MODEL = 'scripted-lent:7b';
const hello = { role: 'user' as const, content: 'hello' };

/** Says `text`, at so many tokens a second, as it counts. */
const atSpeed =
  (text: string, perSecond: number): Script =>
  () => [
    { do: 'text', text },
    {
      do: 'end',
      counts: { promptTokens: 200, promptMs: 100, generatedTokens: 50, generateMs: 50_000 / perSecond },
    },
  ];

const fast = await new ScriptedOllama([MODEL], atSpeed('from fast', 100)).listen();
const slow = await new ScriptedOllama([MODEL], atSpeed('from slow', 10)).listen();
const port = await freePort();
const fleet = await Fleet.start({
  hub: { slots: 0 },
  members: {
    fast: { slots: 0, models: [fast.url] },
    slow: { slots: 1, models: [slow.url] },
    desk: { slots: 1 },
  },
});
test.after(async () => {
  await fleet.close();
  await Promise.all([fast.close(), slow.close()]);
});

const url = `http://127.0.0.1:${port}`;
const lent = async (name = 'desk'): Promise<ModelObject[]> => {
  const { stdout } = await fleet.node(name, ['models', '--json']);
  return (JSON.parse(stdout) as Page<ModelObject>).items.filter((model) => model.name === MODEL);
};
const switched = async (...words: string[]): Promise<EndpointObject & { models: ModelObject[] }> => {
  const done = await fleet.node('desk', ['endpoint', ...words, '--json']);
  assert.is(done.code, 0, done.stderr);
  return JSON.parse(done.stdout);
};
/** The last request for an answer that this server got. */
const last = (server: ScriptedOllama) => server.to('/api/chat').at(-1)!;

test('a machine without a model says which it may ask, whose machine reads the prompt, and how fast each was measured', async () => {
  await fleet.untilAsked(
    async () => (await lent()).filter((model) => model.generateTokensPerSecond !== null).length === 2,
    'two lenders whose speed was measured when they started',
  );
  const models = await lent();
  const speeds = Object.fromEntries(
    models.map(({ node, own, promptTokensPerSecond, generateTokensPerSecond }) => [
      node.name,
      [own, promptTokensPerSecond, generateTokensPerSecond],
    ]),
  );
  assert.equal(speeds, { fast: [false, 2000, 100], slow: [false, 2000, 10] });
  assert.is(fast.to('/api/chat').length, 1, 'measured once');
  const told = await fleet.node('desk', ['models']);
  assert.match(told.stdout, /^MODEL +PROMPT READ BY +READS\/S/m);
  assert.match(told.stdout, /^scripted-lent:7b +slow +2000 +10 +32768 +yes$/m);
  const own = await fleet.node('fast', ['models']);
  assert.match(own.stdout, /^scripted-lent:7b +this machine +2000 +100/m);
  const described = await fleet.json<NodeObject>(['node', 'describe', 'fast']);
  assert.equal(described.models.includes(MODEL), true);
});

test('the endpoint is off until its owner switches it on, and is there again after a restart', async () => {
  const off = await switched();
  assert.equal([off.on, off.url, off.token], [false, null, null]);
  assert.match((await fleet.node('desk', ['endpoint'])).stdout, /^off; mesh-node endpoint on$/m);
  const on = await switched('on', '--port', String(port));
  assert.equal([on.url, on.token, on.fault], [url, null, null]);
  assert.equal(
    on.models
      .filter(({ name }) => name === MODEL)
      .map(({ node }) => node.name)
      .sort(),
    ['fast', 'slow'],
  );
  const told = await fleet.node('desk', ['endpoint']);
  assert.match(told.stdout, new RegExp(`OLLAMA_HOST=${url}$`, 'm'));
  assert.match(told.stdout, /token +none: whoever is on this machine may ask/);
  assert.match(told.stdout, /models +scripted-lent:7b.*\(prompts are read by fast\)/);
  const taken = await fleet.node('fast', ['endpoint', 'on', '--port', String(port)]);
  assert.is(taken.code, 6, taken.stderr);
  assert.match(taken.stderr, /belongs to another process/);
  await fleet.daemon('desk').end('SIGTERM');
  fleet.members.set('desk', await fleet.startMember('desk'));
  assert.is((await switched()).url, url);
});

test('the public clients of Ollama and OpenAI list, ask and stream through it, and the faster machine answers', async () => {
  await fleet.untilAsked(async () => (await lent()).length === 2, 'both lenders');
  const ollama = new Ollama({ host: url });
  const { models } = await ollama.list();
  assert.ok(models.some(({ name }) => name === MODEL));
  const pieces: string[] = [];
  for await (const part of await ollama.chat({ model: MODEL, messages: [hello], stream: true }))
    pieces.push(part.message.content);
  assert.is(pieces.join(''), 'from fast');
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  assert.ok((await openai.models.list()).data.some(({ id }) => id === MODEL));
  let streamed = '';
  const stream = await openai.chat.completions.create({ model: MODEL, messages: [hello], stream: true });
  for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? '';
  assert.is(streamed, 'from fast');
  const { data, response } = await openai.chat.completions
    .create({ model: MODEL, messages: [hello] })
    .withResponse();
  assert.is(data.choices[0]?.message.content, 'from fast');
  assert.match(response.headers.get(READ_BY) ?? '', /^fast \(12D3Koo/);
});

test('a client that leaves in mid-stream stops the model on the other machine', async () => {
  const script = fast.script;
  fast.script = () => [{ do: 'text', text: 'and so on' }, { do: 'hang' }];
  const ollama = new Ollama({ host: url });
  const stream = await ollama.chat({ model: MODEL, messages: [hello], stream: true });
  for await (const part of stream) {
    assert.is(part.message.content, 'and so on');
    stream.abort();
    break;
  }
  assert.is(await last(fast).ended, 'left');
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const chunks = await openai.chat.completions.create({ model: MODEL, messages: [hello], stream: true });
  for await (const _ of chunks) break;
  assert.is(await last(fast).ended, 'left');
  fast.script = script;
});

/** The status of a bare request; `headers` go before those of the client. */
const statusOf = (headers: Record<string, string>): Promise<number> =>
  new Promise((resolve, reject) => {
    const asked = httpRequest(`${url}/api/tags`, { headers, agent: false }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode ?? 0));
    });
    asked.on('error', reject);
    asked.end();
  });

test('web pages and names that lead here are refused, and with a token whoever does not know it', async () => {
  assert.is(await statusOf({}), 200);
  assert.is(await statusOf({ origin: 'http://localhost:3000' }), 403);
  assert.is(await statusOf({ host: 'rebound.example:4711' }), 403);
  assert.is(await statusOf({ 'sec-fetch-site': 'same-origin' }), 403);
  const { token } = await switched('on', '--token');
  assert.match(token ?? '', /^[\w-]{32}$/);
  assert.is((await switched()).token, token, 'its owner can read it again');
  assert.is(await statusOf({}), 401);
  assert.is(await statusOf({ authorization: `Bearer ${token}` }), 200);
  assert.is((await switched('on', '--no-token')).token, null);
  assert.is(await statusOf({}), 200);
});

const call = (name: string, args: Record<string, unknown>): Step => ({ do: 'call', name, arguments: args });
const steps = [
  call('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' }),
  call('finish', { summary: 'It says Hello.' }),
];

test('a goal converges on a machine that has no model itself, by that of another', async () => {
  const scripts = [fast.script, slow.script];
  const asked: ScriptedBody[] = [];
  for (const server of [fast, slow]) {
    server.script = (body) => {
      asked.push(body);
      return [steps[Math.min(asked.length, steps.length) - 1]!];
    };
  }
  const cwd = await greeter(join(fleet.home, 'project'));
  const goal = ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--model', MODEL];
  const id = (await fleet.hub([...goal, '--on', 'desk'], { cwd })).stdout.trim();
  const task = await fleet.ended(id);
  assert.equal([task.state, task.verified, task.detail], ['delivered', true, null]);
  assert.equal([task.executor?.name, task.verifier?.name], ['desk', 'slow']);
  assert.is(asked.length, 2);
  [fast.script, slow.script] = scripts as [Script, Script];
});

test('the machine that answers dies before its first word: another answers, and both are named', async () => {
  await fleet.untilAsked(async () => (await lent()).length === 2, 'both lenders');
  const before = fast.to('/api/chat').length;
  const reached = Promise.withResolvers<void>();
  fast.script = () => {
    reached.resolve();
    return [{ do: 'hang' }];
  };
  const ask = () =>
    fetch(`${url}/api/chat`, {
      method: 'POST',
      body: JSON.stringify({ model: MODEL, messages: [hello], stream: false }),
    });
  const hangs = reached.promise.then(() => true);
  let answer = ask();
  // While it has not yet counted the goal's last request as over, the faster machine has more to do than the other.
  while (!(await Promise.race([hangs, answer.then(() => false)]))) answer = ask();
  await fleet.daemon('fast').end('SIGKILL');
  const response = await answer;
  const body = (await response.json()) as { message: { content: string } };
  assert.is(body.message.content, 'from slow');
  assert.match(response.headers.get(READ_BY) ?? '', /^fast \(.*\), slow \(/);
  assert.is(fast.to('/api/chat').length, before + 1);
  await fleet.untilAsked(async () => (await lent()).length === 1, 'the founder says that one is left');
});

test('the owner of the only lender pauses in mid-goal: the goal waits, and goes on when he lends again', async () => {
  const script = slow.script;
  const reached = Promise.withResolvers<void>();
  slow.script = () => {
    reached.resolve();
    return [{ do: 'hang' }];
  };
  const cwd = await greeter(join(fleet.home, 'again'));
  const goal = ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--model', MODEL];
  const id = (await fleet.hub([...goal, '--on', 'desk'], { cwd })).stdout.trim();
  await reached.promise;
  assert.is((await fleet.node('slow', ['pause'])).code, 0);
  assert.is(await last(slow).ended, 'left', 'his machine is his at once');
  const ended = await fleet.about(id, 'attempt.ended');
  assert.equal([ended.body.reason, ended.body.fault], ['lost', 'machine']);
  const why = await fleet.hub(['task', 'why', id]);
  assert.match(why.stdout, /desk +offers no model \(asked: scripted-lent:7b\)/);
  let asked = 0;
  slow.script = () => [steps[Math.min(asked++, 1)]!];
  assert.is((await fleet.node('slow', ['resume'])).code, 0);
  const task = await fleet.ended(id);
  assert.equal([task.state, task.executor?.name], ['delivered', 'desk']);
  const lost = fleet.entries.filter(
    ({ type, body }) => type === 'attempt.ended' && body.task === id && body.reason === 'lost',
  );
  assert.is(lost.length, 1, 'it was not tried in vain');
  slow.script = script;
});

test('the operator’s pause ends what members lend to each other, and resume gives it back (promise 15)', async () => {
  const script = slow.script;
  const reached = Promise.withResolvers<void>();
  slow.script = () => {
    reached.resolve();
    return [{ do: 'hang' }];
  };
  const ask = (): Promise<Response> =>
    fetch(`${url}/api/chat`, {
      method: 'POST',
      body: JSON.stringify({ model: MODEL, messages: [hello], stream: false }),
    });
  const answer = ask();
  await reached.promise;
  assert.is((await fleet.hub(['pause'])).code, 0);
  assert.is(await last(slow).ended, 'left', 'the model is let go of');
  assert.not.ok((await answer).ok);
  slow.script = script;
  const before = slow.to('/api/chat').length;
  assert.not.ok((await ask()).ok);
  assert.is(slow.to('/api/chat').length, before, 'nor is it asked anew');
  assert.is((await fleet.hub(['resume'])).code, 0);
  await fleet.untilAsked(async () => (await ask()).ok, 'it is lent again');
});

test('an owner who pauses lends nothing, and off is off', async () => {
  assert.is((await fleet.node('slow', ['pause', '10m'])).code, 0);
  await fleet.untilAsked(async () => (await lent()).length === 0, 'nobody lends');
  const refused = await fetch(`${url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({ model: MODEL, messages: [hello], stream: false }),
  });
  assert.is(refused.status, 404);
  assert.is((await switched('off')).url, null);
  assert.is(await statusOf({}).catch((error: NodeJS.ErrnoException) => error.code), 'ECONNREFUSED');
});

test.run();
