import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OpenAIBrain } from '../../../node/brain/openai.ts';
import type { BrainFault, ChatEvent, Message } from '../../../node/brain/types.ts';
import type { Script, Step } from '../../model-server/script.ts';
import { type Dialect, ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { all, fails, never, READ, request } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';

const scripted = (
  name: string,
  script: Script | Step[],
  run: (brain: OpenAIBrain, server: ScriptedOpenAI) => Promise<void>,
  dialect: Dialect = 'openai',
): void =>
  test(name, async () => {
    const server = new ScriptedOpenAI([MODEL], typeof script === 'function' ? script : () => script, dialect);
    await server.listen();
    const brain = new OpenAIBrain({ url: `${server.url}/v1/` });
    await run(brain, server).finally(() => server.close());
  });

scripted(
  'an answer comes as thinking, text, calls put together from their pieces, and an end with its usage',
  [
    { do: 'thinking', text: 'hm' },
    { do: 'text', text: 'I read both.' },
    { do: 'call', id: 'a', name: 'read', arguments: { path: 'sum.js' } },
    { do: 'call', id: 'b', name: 'read', arguments: {} },
    { do: 'end', counts: { promptTokens: 40, generatedTokens: 8 } },
  ],
  async (brain) => {
    assert.equal(await all(brain, request({ tools: [READ] })), [
      { type: 'thinking', text: 'hm' },
      { type: 'text', text: 'I read both.' },
      {
        type: 'call',
        call: { id: 'a', name: 'read', arguments: { path: 'sum.js' }, text: '{"path":"sum.js"}' },
      },
      { type: 'call', call: { id: 'b', name: 'read', arguments: {}, text: '{}' } },
      {
        type: 'end',
        reason: 'stop',
        usage: {
          promptTokens: 40,
          promptFreshTokens: null,
          generatedTokens: 8,
          promptMs: null,
          generateMs: null,
        },
      },
    ]);
  },
);

scripted(
  'the times of llama.cpp are read',
  [{ do: 'end', counts: { promptTokens: 40, promptMs: 20, generatedTokens: 8, generateMs: 160 } }],
  async (brain) => {
    const [end] = await all(brain, request());
    assert.equal(end!.type === 'end' && end!.usage, {
      promptTokens: 40,
      promptFreshTokens: 40,
      generatedTokens: 8,
      promptMs: 20,
      generateMs: 160,
    });
  },
  'llama.cpp',
);

const events = (...chunks: unknown[]): string =>
  chunks
    .map((chunk) => `data: ${typeof chunk === 'string' ? chunk : JSON.stringify(chunk)}\r\n\r\n`)
    .join('');
const delta = (part: object, finish_reason: string | null = null): object => ({
  choices: [{ index: 0, delta: part, finish_reason }],
});

scripted(
  'interleaved and whole calls without an index, comments, and an end without [DONE] are understood',
  (_, number) => [
    {
      do: 'nonsense',
      bytes:
        number === 0
          ? `: keep-alive\n\n${events(
              delta({
                tool_calls: [{ index: 1, id: 'y', function: { name: 'read', arguments: '{"path"' } }],
              }),
              delta({ tool_calls: [{ index: 0, id: 'x', function: { name: 'list', arguments: '' } }] }),
              delta({ tool_calls: [{ index: 1, function: { name: 'read', arguments: ':"a"}' } }] }),
              delta({}, 'tool_calls'),
            )}`
          : events(
              delta({ tool_calls: [{ id: 'x', function: { name: 'list', arguments: '{}' } }] }),
              delta({ tool_calls: [{ id: 'y', function: { name: 'read', arguments: '{"path":"a"}' } }] }),
              delta({}, 'stop'),
            ),
    },
    { do: 'stop' },
  ],
  async (brain) => {
    for (const text of ['', '{}']) {
      const calls = (await all(brain, request())).slice(0, -1);
      assert.equal(calls, [
        { type: 'call', call: { id: 'x', name: 'list', arguments: {}, text } },
        { type: 'call', call: { id: 'y', name: 'read', arguments: { path: 'a' }, text: '{"path":"a"}' } },
      ]);
    }
  },
);

scripted(
  'a malformed call is a call whose arguments are no object, with the text they were',
  [{ do: 'malformed-call', name: 'read', text: '{"path": "a' }],
  async (brain) => {
    const [event] = await all(brain, request({ tools: [READ] }));
    assert.equal(event!.type === 'call' && { ...event!.call, id: '' }, {
      id: '',
      name: 'read',
      arguments: null,
      text: '{"path": "a',
    });
  },
);

scripted('the request asks for what was wished', [], async (brain, server) => {
  const call = { id: 'x', name: 'read', arguments: { path: 'a' }, text: '{"path":"a"}' };
  const messages: Message[] = [
    { role: 'user', content: 'Fix it.' },
    { role: 'assistant', content: '', calls: [call, { ...call, id: 'y', arguments: null, text: '{"pa' }] },
    { role: 'tool', call: 'x', name: 'read', content: 'one' },
    { role: 'assistant', content: 'Done.', calls: [] },
  ];
  const format = { type: 'object' };
  await all(brain, request({ messages, format, tools: [READ], temperature: 0 }));
  const [asked] = server.to('/v1/chat/completions');
  const called = (id: string, text: string): object => ({
    id,
    type: 'function',
    function: { name: 'read', arguments: text },
  });
  assert.equal(asked!.body, {
    model: MODEL,
    messages: [
      { role: 'user', content: 'Fix it.' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [called('x', '{"path":"a"}'), called('y', '{"malformed":"{\\"pa"}')],
      },
      { role: 'tool', tool_call_id: 'x', content: 'one' },
      { role: 'assistant', content: 'Done.' },
    ],
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    tools: [{ type: 'function', function: READ }],
    response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema: format } },
    max_tokens: 256,
  });
});

test('a key is sent where it was given, and none is taken from the environment', async () => {
  const server = await new ScriptedOpenAI([MODEL]).listen();
  const before = process.env.OPENAI_API_KEY;
  process.env.OPENAI_API_KEY = 'of-somebody';
  try {
    await all(new OpenAIBrain({ url: server.url }), request());
    assert.is(server.asked[0]!.headers.authorization, undefined);
    server.key = 'right';
    await fails(
      all(new OpenAIBrain({ url: server.url, key: 'wrong' }), request()),
      'refused',
      /invalid_api_key/,
    );
    await all(new OpenAIBrain({ url: server.url, key: 'right' }), request());
    assert.is(server.asked.length, 3, 'and nothing is tried twice');
  } finally {
    if (before === undefined) delete process.env.OPENAI_API_KEY;
    else process.env.OPENAI_API_KEY = before;
    await server.close();
  }
});

const refuse = (status: number, message: string, code?: string): Step[] => [
  { do: 'refuse', status, message, ...(code === undefined ? {} : { code }) },
];
const event = (value: unknown): Step => ({ do: 'nonsense', bytes: events(value) });
const failures: [string, Step[], BrainFault, boolean][] = [
  ['a quota used up', refuse(402, 'insufficient quota'), 'refused', false],
  ['too many requests', refuse(429, 'Rate limit reached'), 'busy', false],
  ['a model that is still loading', refuse(503, 'Loading model'), 'busy', false],
  [
    'a prompt beyond llama.cpp',
    refuse(400, 'the request exceeds the available context size'),
    'context',
    false,
  ],
  [
    'a prompt beyond vLLM',
    refuse(400, "This model's maximum context length is 1024 tokens. However, you requested 1029 tokens."),
    'context',
    false,
  ],
  ['a prompt beyond OpenAI', refuse(400, 'too long', 'context_length_exceeded'), 'context', false],
  [
    'a prompt beyond LM Studio',
    [
      {
        do: 'nonsense',
        bytes: `event: error\n${events({ error: { message: 'tokens to keep is greater than the context length' } })}`,
      },
    ],
    'context',
    false,
  ],
  ['a gateway that gave up', refuse(504, ''), 'timeout', false],
  ['a crash', refuse(500, 'boom'), 'broken', false],
  [
    'a page where events were to be',
    [{ do: 'nonsense', bytes: '<html></html>\n\n' }, { do: 'stop' }],
    'broken',
    false,
  ],
  ['an event that is no JSON', [event('{oops')], 'broken', false],
  ['an event of another form', [event({ choices: 'none' })], 'broken', false],
  ['a filtered answer', [event(delta({ content: 'a' }, 'content_filter'))], 'refused', true],
  [
    'a failure in mid-answer',
    [
      { do: 'text', text: 'a' },
      { do: 'fail', message: 'killed' },
    ],
    'broken',
    true,
  ],
  ['a disconnect in mid-answer', [{ do: 'text', text: 'a' }, { do: 'disconnect' }], 'broken', true],
  ['an answer without a reason to end', [{ do: 'text', text: 'a' }, { do: 'stop' }], 'broken', true],
  [
    'calls without end',
    [event(delta({ tool_calls: Array.from({ length: 200 }, (_, index) => ({ index, id: `${index}` })) }))],
    'broken',
    false,
  ],
];
for (const [what, steps, fault, begun] of failures) {
  scripted(`${what} is ${fault}`, steps, async (brain) => {
    const heard: ChatEvent[] = [];
    const run = async (): Promise<void> => {
      for await (const heardNow of brain.chat(request(), never)) heard.push(heardNow);
    };
    assert.is((await fails(run(), fault)).begun, begun);
    assert.not.ok(heard.some(({ type }) => type === 'end' || type === 'call'));
  });
}

scripted('a model the server does not have is the fault model', [], async (brain) => {
  await fails(all(brain, request({ model: 'gone' })), 'model', /does not exist/);
});

scripted('a server of something else is broken', [], async (_, server) => {
  const brain = new OpenAIBrain({ url: `${server.url}/elsewhere` });
  await fails(all(brain, request()), 'broken', /404/);
  await fails(brain.models(never), 'broken');
});

scripted(
  'aborting closes the request, and throws the reason',
  [{ do: 'text', text: 'a' }, { do: 'hang' }],
  async (brain, server) => {
    const stop = new AbortController();
    const reason = new Error('the owner is back');
    const run = async (): Promise<void> => {
      for await (const heard of brain.chat(request(), stop.signal))
        if (heard.type === 'text') stop.abort(reason);
    };
    assert.is(await run().catch((error: unknown) => error), reason);
    assert.is(await server.asked[0]!.ended, 'left');
  },
);

scripted(
  'a reader who stops closes the request',
  [{ do: 'text', text: 'a' }, { do: 'hang' }],
  async (brain, server) => {
    for await (const heard of brain.chat(request(), never)) if (heard.type === 'text') break;
    assert.is(await server.asked[0]!.ended, 'left');
  },
);

for (const [dialect, facts] of [
  ['openai', { contextTokens: null, tools: null, bytes: null, parameters: null }],
  ['vllm', { contextTokens: 16_384, tools: null, bytes: null, parameters: null }],
  ['lmstudio', { contextTokens: 16_384, tools: true, bytes: null, parameters: null }],
  ['llama.cpp', { contextTokens: 16_384, tools: true, bytes: 4_912_898_304, parameters: 8_030_261_312 }],
] as const) {
  scripted(
    `models of ${dialect} are listed with what it tells, and nothing else`,
    [],
    async (brain) => assert.equal(await brain.models(never), [{ name: MODEL, ...facts }]),
    dialect,
  );
}

test.run();
