/** The endpoint as its clients see it: npm `ollama`, npm `openai` and bare HTTP, over this machine's models and another member's. */
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import { AllModels } from '../../../node/infer/all-models.ts';
import { openEndpoint, READ_BY } from '../../../node/infer/endpoint.ts';
import { OfferedModels } from '../../../node/infer/offered.ts';
import { inferRequestBytesMax } from '../../../protocol/infer.ts';
import type { ScriptedBody, Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { type Net, withNet } from '../network/hosts.ts';
import { borrowing, lending, MODEL } from './lender.ts';

const LOCAL = 'mine:1b';

/** A machine with a small model, in a mesh with one that has a larger. */
async function desk(net: Net, token: string | null = null) {
  const far = await lending(net, 'far');
  const near = await new ScriptedOllama([LOCAL]).listen();
  net.onStop(() => near.close());
  const me = await net.member();
  const brain = new OllamaBrain({ url: near.url });
  const models = new AllModels({
    me: () => ({ peer: me.peer, name: 'desk' }),
    local: new OfferedModels(async () => [brain], new Speeds()),
    mesh: borrowing(me, [far.lender]),
  });
  const endpoint = await openEndpoint({ models, port: 0, token, version: '1.2.3' });
  net.onStop(() => endpoint.close());
  const url = endpoint.url;
  return {
    far,
    near,
    me,
    url,
    ollama: new Ollama({ host: url }),
    openai: new OpenAI({ baseURL: `${url}/v1`, apiKey: token ?? 'none', maxRetries: 0 }),
    post: (path: string, body: unknown, headers: Record<string, string> = {}) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers,
      }),
  };
}

const hello = { role: 'user' as const, content: 'hello' };
const tool = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'of a city',
    parameters: { type: 'object' as const, properties: { city: { type: 'string' } } },
  },
};
const calling: Step[] = [
  { do: 'thinking', text: 'where?' },
  { do: 'call', name: 'weather', arguments: { city: 'Bern' }, id: 'w1' },
];

test(
  'the ollama client lists, shows, chats and generates, streaming and not, here and on another member',
  withNet(async (net) => {
    const { ollama, far, near } = await desk(net);
    const { models } = await ollama.list();
    assert.equal(
      models.map(({ name }) => name),
      [LOCAL, MODEL],
    );
    assert.is((await ollama.version()).version, '1.2.3');
    assert.equal((await ollama.show({ model: MODEL })).capabilities, ['completion', 'tools']);
    const missing = await ollama.show({ model: 'none' }).catch((error: Error) => error);
    assert.match((missing as Error).message, /not found/);

    near.script = () => [{ do: 'text', text: 'from here' }];
    const here = await ollama.chat({ model: LOCAL, messages: [hello] });
    assert.equal([here.message.content, here.done, here.done_reason], ['from here', true, 'stop']);
    assert.ok(here.eval_count > 0 && here.prompt_eval_count > 0);

    far.ollama.script = () => [
      { do: 'text', text: 'from ' },
      { do: 'text', text: 'there' },
    ];
    const pieces: string[] = [];
    let done = false;
    for await (const part of await ollama.chat({ model: MODEL, messages: [hello], stream: true })) {
      pieces.push(part.message.content);
      done = part.done;
    }
    assert.equal([pieces.join('|'), done], ['from |there|', true]);
    const generated = await ollama.generate({ model: MODEL, prompt: 'x', system: 'short' });
    assert.is(generated.response, 'from there');
    let streamed = '';
    for await (const part of await ollama.generate({ model: MODEL, prompt: 'x', stream: true }))
      streamed += part.response;
    assert.is(streamed, 'from there');
    const last = far.ollama.to('/api/chat').at(-1)!.body as ScriptedBody;
    assert.equal(
      last.messages.map(({ role, content }) => [role, content]),
      [['user', 'x']],
    );
  }),
);

test(
  'tools, thoughts and forms reach the model, and calls come back, through both APIs',
  withNet(async (net) => {
    const { ollama, openai, far } = await desk(net);
    far.ollama.script = () => calling;
    const format = { type: 'object', properties: { a: { type: 'number' } } };
    const said = await ollama.chat({
      model: MODEL,
      messages: [hello],
      tools: [tool],
      format,
      options: { num_predict: 5, num_ctx: 2048, temperature: 0 },
    });
    assert.is(said.message.thinking, 'where?');
    assert.equal(said.message.tool_calls?.[0]?.function, { name: 'weather', arguments: { city: 'Bern' } });
    const [asked] = far.ollama.to('/api/chat');
    const body = asked!.body as ScriptedBody;
    assert.equal(body.format, format);
    assert.equal(body.options, { num_predict: 5, num_ctx: 2048, temperature: 0 });
    assert.is((body.tools as (typeof tool)[])[0]!.function.name, 'weather');

    const completion = await openai.chat.completions.create({
      model: MODEL,
      messages: [{ role: 'developer', content: [{ type: 'text', text: 'be short' }] }, hello],
      tools: [tool],
      max_completion_tokens: 7,
      response_format: { type: 'json_schema', json_schema: { name: 'a', schema: format } },
    });
    const [choice] = completion.choices;
    assert.is(choice?.finish_reason, 'tool_calls');
    const call = choice?.message.tool_calls?.[0];
    assert.ok(call?.type === 'function');
    assert.equal(JSON.parse(call.function.arguments), { city: 'Bern' });
    assert.ok(completion.usage !== undefined && completion.usage.total_tokens > 0);

    far.ollama.script = () => [{ do: 'text', text: 'sunny' }];
    const next = await openai.chat.completions.create({
      model: MODEL,
      messages: [
        hello,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'w1', type: 'function', function: call.function }],
        },
        { role: 'tool', tool_call_id: 'w1', content: '22 degrees' },
      ],
    });
    assert.is(next.choices[0]?.message.content, 'sunny');
    const { messages } = far.ollama.to('/api/chat').at(-1)!.body as ScriptedBody;
    assert.equal([messages[2]!.role, messages[2]!.tool_name], ['tool', 'weather']);
  }),
);

test(
  'the openai client lists and streams, with the usage where it asks for it',
  withNet(async (net) => {
    const { openai, far } = await desk(net);
    const ids: string[] = [];
    for await (const { id } of openai.models.list()) ids.push(id);
    assert.equal(ids, [LOCAL, MODEL]);
    far.ollama.script = () => [{ do: 'text', text: 'one ' }, { do: 'text', text: 'two' }, ...calling];
    let text = '';
    let total = 0;
    const finishes: (string | null)[] = [];
    const names: (string | undefined)[] = [];
    for await (const chunk of await openai.chat.completions.create({
      model: MODEL,
      messages: [hello],
      tools: [tool],
      stream: true,
      stream_options: { include_usage: true },
    })) {
      const [choice] = chunk.choices;
      text += choice?.delta.content ?? '';
      if (choice?.finish_reason) finishes.push(choice.finish_reason);
      for (const piece of choice?.delta.tool_calls ?? []) names.push(piece.function?.name);
      total += chunk.usage?.total_tokens ?? 0;
    }
    assert.equal([text, finishes, names], ['one two', ['tool_calls'], ['weather']]);
    assert.ok(total > 0);
  }),
);

test(
  'a header says whose machines read the prompt',
  withNet(async (net) => {
    const { post, far, near, me } = await desk(net);
    const readBy = async (model: string, stream: boolean): Promise<string | null> => {
      const answer = await post('/api/chat', { model, messages: [hello], stream });
      await answer.text();
      return answer.headers.get(READ_BY);
    };
    for (const stream of [true, false]) {
      assert.is(await readBy(LOCAL, stream), `desk (${me.peer})`);
      assert.is(await readBy(MODEL, stream), `far (${far.host.peer})`);
    }
    // What failed on this machine, and was answered by another, was read by both.
    near.models.push({ name: MODEL });
    near.script = () => [{ do: 'refuse', status: 503, message: 'server busy' }];
    const both = await desk(net);
    both.near.models.push({ name: MODEL });
    both.near.script = () => [{ do: 'refuse', status: 503, message: 'server busy' }];
    const answer = await both.post('/v1/chat/completions', { model: MODEL, messages: [hello] });
    assert.is(answer.status, 200);
    await answer.text();
    assert.is(answer.headers.get(READ_BY), `desk (${both.me.peer}), far (${both.far.host.peer})`);
  }),
);

test(
  'a client that leaves stops the model on the other machine, before the first word and after it',
  withNet(async (net) => {
    const { ollama, openai, far } = await desk(net);
    far.ollama.script = () => [{ do: 'text', text: 'on and on' }, { do: 'hang' }];
    for await (const part of await ollama.chat({ model: MODEL, messages: [hello], stream: true })) {
      assert.is(part.message.content, 'on and on');
      ollama.abort();
      break;
    }
    assert.is(await far.ollama.to('/api/chat')[0]!.ended, 'left');

    far.ollama.asked.length = 0;
    far.ollama.script = () => [{ do: 'hang' }];
    const leaving = new AbortController();
    const answer = openai.chat.completions
      .create({ model: MODEL, messages: [hello] }, { signal: leaving.signal })
      .catch((error: Error) => error);
    const asked = await far.ollama.request('/api/chat');
    leaving.abort();
    assert.instance(await answer, Error);
    assert.is(await asked.ended, 'left');
  }),
);

test(
  'faults come in the form of each API, before an answer by status and in it as its last word',
  withNet(async (net) => {
    const { ollama, openai, far, post } = await desk(net);
    const gone = await ollama.chat({ model: 'none:1b', messages: [hello] }).catch((error: Error) => error);
    assert.match((gone as Error).message, /none:1b/);
    const missing = await openai.chat.completions
      .create({ model: 'none:1b', messages: [hello] })
      .catch((error: unknown) => error);
    assert.instance(missing, OpenAI.NotFoundError);
    assert.is((missing as InstanceType<typeof OpenAI.NotFoundError>).code, 'model_not_found');

    far.ollama.script = () => [
      { do: 'text', text: 'half' },
      { do: 'fail', message: 'out of memory' },
    ];
    const lines = (await (await post('/api/chat', { model: MODEL, messages: [hello] })).text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { error?: string; message?: { content: string } });
    assert.is(lines[0]!.message?.content, 'half');
    assert.match(lines.at(-1)!.error!, /out of memory/);
    const whole = await post('/api/chat', { model: MODEL, messages: [hello], stream: false });
    assert.is(whole.status, 502);
    const stream = await openai.chat.completions.create({ model: MODEL, messages: [hello], stream: true });
    let text = '';
    try {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      assert.unreachable('it was taken for whole');
    } catch (error) {
      assert.match((error as Error).message, /out of memory/);
    }
    assert.is(text, 'half');
  }),
);

test(
  'what is malformed, too large, or more than a mesh can do is refused and reaches no model',
  withNet(async (net) => {
    const { post, url, far, near } = await desk(net);
    const chat = { model: MODEL, messages: [hello] };
    const cases: [string, unknown, number][] = [
      ['/api/chat', '{', 400],
      ['/api/chat', '[]', 400],
      ['/api/chat', { ...chat, messages: 'x' }, 400],
      ['/api/chat', { ...chat, messages: [{ ...hello, images: ['x'] }] }, 400],
      ['/api/chat', { ...chat, options: { stop: ['x'] } }, 400],
      ['/api/generate', { model: MODEL, prompt: 'x', raw: true }, 400],
      ['/v1/chat/completions', { ...chat, n: 2 }, 400],
      ['/v1/chat/completions', { ...chat, tool_choice: 'required' }, 400],
      [
        '/v1/chat/completions',
        { ...chat, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
        400,
      ],
      ['/api/chat', JSON.stringify({ ...chat, x: 'x'.repeat(inferRequestBytesMax) }), 413],
      ['/api/pull', { model: 'x' }, 404],
      ['/v1/embeddings', { model: MODEL, input: 'x' }, 404],
    ];
    for (const [path, body, status] of cases) {
      const answer = await post(path, body);
      const { error } = (await answer.json()) as { error: unknown };
      assert.is(answer.status, status, `${path} ${JSON.stringify(body).slice(0, 100)}`);
      assert.type(error, path.startsWith('/v1/') ? 'object' : 'string');
      if (status === 404)
        assert.match(JSON.stringify(error), `POST ${path} is not answered here: there are /api/tags`);
    }
    for (const loads of ['/api/chat', '/api/generate']) {
      const loaded = (await (await post(loads, { model: MODEL })).json()) as { done_reason: string };
      assert.is(loaded.done_reason, 'load');
    }
    assert.is((await fetch(url)).status, 200);
    assert.is(far.ollama.to('/api/chat').length + near.to('/api/chat').length, 0);
  }),
);

test(
  'one connection brings no more requests at once than there is room for, and who leaves makes room',
  withNet(async (net) => {
    const { url, near } = await desk(net);
    const full = Promise.withResolvers<void>();
    let asked = 0;
    near.script = () => {
      asked += 1;
      if (asked === 32) full.resolve();
      return [{ do: 'hang' }];
    };
    const body = JSON.stringify({ model: LOCAL, messages: [hello] });
    const one = `POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {});
    net.onStop(async () => {
      socket.destroy();
    });
    socket.write(one.repeat(100));
    await full.promise;
    assert.is((await fetch(`${url}/api/version`)).status, 503);
    socket.destroy();
    for (const { ended } of near.to('/api/chat')) assert.is(await ended, 'left');
    assert.is(asked, 32);
    assert.is((await fetch(`${url}/api/version`)).status, 200);
  }),
);

test(
  'no web page, no other name and nobody without the token gets in',
  withNet(async (net) => {
    const { url, post, openai } = await desk(net, 'open sesame');
    const authorization = 'Bearer open sesame';
    const body = { model: LOCAL, messages: [hello], stream: false };
    const status = async (headers: Record<string, string>): Promise<number> => {
      const answer = await post('/api/chat', body, headers);
      assert.is(answer.headers.get('access-control-allow-origin'), null);
      await answer.text();
      return answer.status;
    };
    assert.is(await status({ authorization }), 200);
    assert.is(await status({}), 401);
    assert.is(await status({ authorization: 'Bearer open sesam' }), 401);
    for (const origin of ['http://evil.example', 'null', url])
      assert.is(await status({ authorization, origin }), 403);
    // fetch keeps names of a browser to itself: these go by bare HTTP.
    const bare = (headers: Record<string, string>, method = 'GET'): Promise<number> =>
      new Promise((resolve, reject) => {
        const asked = httpRequest(`${url}/api/tags`, { method, headers, agent: false }, (answer) => {
          answer.resume();
          answer.on('end', () => resolve(answer.statusCode ?? 0));
        });
        asked.on('error', reject);
        asked.end();
      });
    assert.is(await bare({ authorization }), 200);
    assert.is(await bare({ authorization, host: 'evil.example' }), 403, 'a name rebound to this machine');
    assert.is(await bare({ authorization, 'sec-fetch-site': 'cross-site' }), 403);
    assert.ok((await bare({ authorization, origin: 'http://evil.example' }, 'OPTIONS')) >= 400);
    assert.ok((await openai.models.list()).data.length > 0, 'its key is the token');
  }),
);

test.run();
