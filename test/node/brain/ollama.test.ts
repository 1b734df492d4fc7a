import { createServer } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import type { BrainFault, ChatEvent, Message } from '../../../node/brain/types.ts';
import type { Script, Step } from '../../model-server/script.ts';
import { ScriptedOllama, type ScriptedOllamaModel } from '../../model-server/scripted-ollama.ts';
import { all, fails, never, READ, request, textOf } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';

const scripted = (
  name: string,
  script: Script | Step[],
  run: (brain: OllamaBrain, server: ScriptedOllama) => Promise<void>,
  models: (string | ScriptedOllamaModel)[] = [MODEL],
): void =>
  test(name, async () => {
    const server = new ScriptedOllama(models, typeof script === 'function' ? script : () => script);
    await server.listen();
    const brain = new OllamaBrain({ url: server.url });
    await run(brain, server).finally(() => server.close());
  });

scripted(
  'an answer comes as thinking, text, calls and an end with what the server counted',
  [
    { do: 'thinking', text: 'hm' },
    { do: 'text', text: 'I read ' },
    { do: 'text', text: 'it.' },
    { do: 'call', name: 'read', arguments: { path: 'sum.js' } },
    { do: 'end', counts: { promptTokens: 40, promptMs: 20, generatedTokens: 8, generateMs: 160 } },
  ],
  async (brain) => {
    assert.equal(await all(brain, request({ tools: [READ] })), [
      { type: 'thinking', text: 'hm' },
      { type: 'text', text: 'I read ' },
      { type: 'text', text: 'it.' },
      {
        type: 'call',
        call: { id: 'call-1', name: 'read', arguments: { path: 'sum.js' }, text: '{"path":"sum.js"}' },
      },
      {
        type: 'end',
        reason: 'stop',
        usage: {
          promptTokens: 40,
          promptFreshTokens: null,
          generatedTokens: 8,
          promptMs: 20,
          generateMs: 160,
        },
      },
    ]);
  },
);

scripted(
  'the request asks for what was wished, and never lets a prompt be cut unseen',
  [],
  async (brain, server) => {
    const call = { id: 'call-1', name: 'read', arguments: { path: 'a' }, text: '{"path":"a"}' };
    const messages: Message[] = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Fix it.' },
      {
        role: 'assistant',
        content: '',
        calls: [call, { ...call, id: 'call-2', arguments: null, text: '{"pa' }],
      },
      { role: 'tool', call: 'call-1', name: 'read', content: 'one' },
    ];
    const format = { type: 'object', properties: { done: { type: 'boolean' } } };
    const wished = {
      messages,
      format,
      tools: [READ],
      contextTokens: 8_192,
      temperature: 0,
      keepAliveMs: 90_000,
    };
    await all(brain, request(wished));
    assert.equal(server.to('/api/chat')[0]!.body, {
      model: MODEL,
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Fix it.' },
        {
          role: 'assistant',
          content: 'read: {"pa',
          tool_calls: [{ function: { name: 'read', arguments: { path: 'a' } } }],
        },
        { role: 'tool', content: 'one', tool_name: 'read' },
      ],
      stream: true,
      truncate: false,
      shift: false,
      tools: [{ type: 'function', function: READ }],
      format,
      keep_alive: '90000ms',
      options: { num_predict: 256, num_ctx: 8_192, temperature: 0 },
    });
  },
);

scripted(
  'a call without an id of the server gets one the conversation does not have',
  [{ do: 'call', name: 'read', arguments: {} }],
  async (brain) => {
    const call = { id: 'call-7', name: 'read', arguments: {}, text: '{}' };
    const messages: Message[] = [{ role: 'assistant', content: '', calls: [call] }];
    const [event] = await all(brain, request({ messages }));
    assert.is(event!.type === 'call' && event!.call.id, 'call-8');
  },
);

scripted(
  'a malformed call is the text the server passes on',
  [{ do: 'malformed-call', name: 'read', text: '{"pa' }],
  async (brain) => {
    const events = await all(brain, request({ tools: [READ] }));
    assert.equal(
      events.map((event) => event.type),
      ['text', 'end'],
    );
    assert.match(textOf(events), '"arguments": {"pa');
  },
);

scripted('an answer cut at its bound says so', [{ do: 'end', reason: 'length' }], async (brain) => {
  const [end] = await all(brain, request());
  assert.is(end!.type === 'end' && end!.reason, 'length');
});

scripted(
  'counts a server leaves out are unknown',
  [{ do: 'end', counts: { promptTokens: null, generatedTokens: null } }],
  async (brain) => {
    const [end] = await all(brain, request());
    assert.equal(end!.type === 'end' && Object.values(end!.usage), [null, null, null, null, null]);
  },
);

scripted(
  'words in any script arrive whole, wherever the bytes are cut',
  () => {
    const line = `${JSON.stringify({ message: { role: 'assistant', content: 'déjà 漢字 🐙' }, done: false })}\n`;
    const bytes = Buffer.from(line);
    return [...bytes].map((_, index) => ({ do: 'nonsense', bytes: bytes.subarray(index, index + 1) }));
  },
  async (brain) => assert.is(textOf(await all(brain, request())), 'déjà 漢字 🐙'),
);

const failures: [string, Step[], BrainFault, boolean][] = [
  ['a server that refuses', [{ do: 'refuse', status: 403, message: 'policy' }], 'refused', false],
  ['a full queue', [{ do: 'refuse', status: 503, message: 'server busy, please try again' }], 'busy', false],
  [
    'a prompt that does not fit',
    [{ do: 'refuse', status: 400, message: 'the input length exceeds the context length' }],
    'context',
    false,
  ],
  ['a server in trouble', [{ do: 'refuse', status: 500, message: 'CUDA error' }], 'broken', false],
  ['nonsense', [{ do: 'nonsense', bytes: '<html>\n' }], 'broken', false],
  ['a list where an object was to be', [{ do: 'nonsense', bytes: '[1]\n' }], 'broken', false],
  ['an object of another form', [{ do: 'nonsense', bytes: '{"message":"hello"}\n' }], 'broken', false],
  ['bytes that are no text', [{ do: 'nonsense', bytes: new Uint8Array([255, 0, 254, 10]) }], 'broken', false],
  [
    'nonsense in mid-answer',
    [
      { do: 'text', text: 'a' },
      { do: 'nonsense', bytes: 'x\n' },
    ],
    'broken',
    true,
  ],
  [
    'a failure in mid-answer',
    [
      { do: 'text', text: 'a' },
      { do: 'fail', message: 'killed' },
    ],
    'broken',
    true,
  ],
  ['an answer without its end', [{ do: 'text', text: 'a' }, { do: 'stop' }], 'broken', true],
  ['a disconnect before the answer', [{ do: 'disconnect' }], 'broken', false],
  ['a disconnect in mid-answer', [{ do: 'text', text: 'a' }, { do: 'disconnect' }], 'broken', true],
];
for (const [what, steps, fault, begun] of failures) {
  scripted(`${what} is ${fault}`, steps, async (brain) => {
    const heard: ChatEvent[] = [];
    const run = async (): Promise<void> => {
      for await (const event of brain.chat(request(), never)) heard.push(event);
    };
    const error = await fails(run(), fault);
    assert.is(error.begun, begun);
    assert.is(heard.length > 0, begun);
  });
}

scripted('a model the server does not have is the fault model', [], async (brain) => {
  await fails(all(brain, request({ model: 'gone' })), 'model', /model 'gone' not found/);
});

scripted(
  'tools for a model that calls none are refused, in the words of the server',
  [],
  async (brain) => void (await fails(all(brain, request({ tools: [READ] })), 'refused', /not support tools/)),
  [{ name: MODEL, capabilities: ['completion'] }],
);

test('where nobody listens is unreachable', async () => {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  const brain = new OllamaBrain({ url: `http://127.0.0.1:${port}` });
  await fails(all(brain, request()), 'unreachable', /ECONNREFUSED/);
  await fails(brain.models(never), 'unreachable');
});

scripted(
  'silence beyond its bound is a timeout, and closes the request',
  [{ do: 'hang' }],
  async (_, server) => {
    const brain = new OllamaBrain({ url: server.url, silenceMs: 50 });
    await fails(all(brain, request()), 'timeout', /sent nothing for 0.05 s/);
    assert.is(await server.asked[0]!.ended, 'left');
  },
);

scripted('a time limit of the caller is a timeout', [{ do: 'hang' }], async (brain, server) => {
  await fails(all(brain, request(), AbortSignal.timeout(50)), 'timeout');
  assert.is(await server.asked[0]!.ended, 'left');
});

for (const [when, steps] of [
  ['before the first word', [{ do: 'hang' }]],
  ['in mid-answer', [{ do: 'text', text: 'a' }, { do: 'hang' }]],
] as [string, Step[]][]) {
  scripted(`aborting ${when} closes the request, and throws the reason`, steps, async (brain, server) => {
    const stop = new AbortController();
    const reason = new Error('the owner is back');
    const run = (async () => {
      for await (const event of brain.chat(request(), stop.signal))
        if (event.type === 'text') stop.abort(reason);
    })();
    const thrown = run.catch((error: unknown) => error);
    const asked = await server.request('/api/chat');
    if (steps.length === 1) stop.abort(reason);
    assert.is(await thrown, reason);
    assert.is(await asked.ended, 'left');
  });
}

scripted(
  'a reader who stops closes the request',
  [{ do: 'text', text: 'a' }, { do: 'hang' }],
  async (brain, server) => {
    for await (const event of brain.chat(request(), never)) if (event.type === 'text') break;
    assert.is(await server.asked[0]!.ended, 'left');
  },
);

scripted(
  'models are listed with their facts, and those without conversation are left out',
  [],
  async (brain, server) => {
    assert.equal(await brain.models(never), [
      { name: 'a:7b', contextTokens: 32_768, tools: true, bytes: 4_683_087_332, parameters: 7_615_616_512 },
      { name: 'b:1b', contextTokens: 8_192, tools: false, bytes: 1_000, parameters: 1_000_000_000 },
      { name: 'old:7b', contextTokens: 32_768, tools: null, bytes: 4_683_087_332, parameters: 7_615_616_512 },
    ]);
    const shown = server.to('/api/show').length;
    await brain.models(never);
    // Those with facts are not asked about again.
    assert.is(server.to('/api/show').length, shown + 2);
  },
  [
    'a:7b',
    {
      name: 'b:1b',
      capabilities: ['completion'],
      contextTokens: 8_192,
      bytes: 1_000,
      parameters: 1_000_000_000,
    },
    { name: 'embed', capabilities: ['embedding'] },
    { name: 'old:7b', capabilities: null },
  ],
);

scripted('unloading a model frees it at the server', [], async (brain, server) => {
  await all(brain, request());
  assert.ok(server.loaded.has(MODEL));
  await brain.unload(MODEL, never);
  assert.not.ok(server.loaded.has(MODEL));
  await fails(brain.unload('gone', never), 'model');
});

test.run();
