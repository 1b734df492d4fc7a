import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import type { ChatEvent, Message } from '../../../node/brain/types.ts';
import { withoutTools } from '../../../node/brain/without-tools.ts';
import type { ScriptedBody, Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { all, fails, never, READ, request } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';

/** What a model without tools is asked, and what becomes of its answer. */
async function answered(
  steps: Step[],
  change: Parameters<typeof request>[0] = {},
): Promise<{ events: ChatEvent[]; body: ScriptedBody }> {
  const server = new ScriptedOllama([{ name: MODEL, capabilities: ['completion'] }], () => steps);
  await server.listen();
  try {
    const brain = withoutTools(new OllamaBrain({ url: server.url }));
    const events = await all(brain, request({ tools: [READ], ...change }));
    return { events, body: server.to('/api/chat')[0]!.body as ScriptedBody };
  } finally {
    await server.close();
  }
}

const say = (...parts: string[]): Step[] => parts.map((text) => ({ do: 'text', text }));

test('an answer of the form asked for becomes a call', async () => {
  const { events } = await answered([
    { do: 'thinking', text: 'hm' },
    ...say('{"tool": "read", "argu', 'ments": {"path": "sum.js"}}'),
  ]);
  assert.equal(events.slice(0, 2), [
    { type: 'thinking', text: 'hm' },
    {
      type: 'call',
      call: { id: 'call-1', name: 'read', arguments: { path: 'sum.js' }, text: '{"path":"sum.js"}' },
    },
  ]);
  assert.equal(events[2]!.type, 'end');
});

test('a call in one block of Markdown is a call', async () => {
  const { events } = await answered(say('```json\n{"tool": "read", "arguments": {}}\n```\n'));
  assert.is(events[0]!.type, 'call');
});

test('an answer in words is its text', async () => {
  const { events } = await answered(say('{"answer": "It is done."}'));
  assert.equal(events[0], { type: 'text', text: 'It is done.' });
});

for (const text of [
  '{"tool": "read", "arguments": {"path": "a',
  '{"tool": "erase", "arguments": {}}',
  '{"tool": "read", "arguments": "sum.js"}',
  '{"tool": "read"}',
  '{"answer": 7}',
  '{"tool": "read", "answer": "both"}',
  'I would call {"tool": "read", "arguments": {}}.',
  '[]',
]) {
  test(`what is not of the form stays the text it is: ${text}`, async () => {
    const { events } = await answered(say(text));
    assert.equal(events[0], { type: 'text', text });
    assert.equal(
      events.map(({ type }) => type),
      ['text', 'end'],
    );
  });
}

test('the model is told of the tools in words and held to them by a schema', async () => {
  const messages: Message[] = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Fix it.' },
    {
      role: 'assistant',
      content: '',
      calls: [{ id: 'call-1', name: 'read', arguments: { path: 'a' }, text: '{"path":"a"}' }],
    },
    { role: 'tool', call: 'call-1', name: 'read', content: 'one' },
  ];
  const { body } = await answered(say('{"answer": "ok"}'), { messages });
  assert.is(body.tools, undefined);
  assert.equal(body.format, {
    anyOf: [
      {
        type: 'object',
        properties: { tool: { const: 'read' }, arguments: READ.parameters },
        required: ['tool', 'arguments'],
        additionalProperties: false,
      },
      {
        type: 'object',
        properties: { answer: { type: 'string' } },
        required: ['answer'],
        additionalProperties: false,
      },
    ],
  });
  const [system, ...rest] = body.messages;
  assert.match(
    system!.content!,
    /^Be brief\.\n\nAnswer with one JSON object[\s\S]*- read: Reads a file\. \{"type"/,
  );
  assert.equal(rest, [
    { role: 'user', content: 'Fix it.' },
    { role: 'assistant', content: '{"tool":"read","arguments":{"path":"a"}}' },
    { role: 'user', content: 'Result of read:\none' },
  ]);
});

test('a schema for the answer is kept inside the one for tools', async () => {
  const format = { type: 'object', properties: { sum: { type: 'number' } } };
  const { events, body } = await answered(say('{"answer": {"sum": 7}}'), { format });
  assert.equal(events[0], { type: 'text', text: '{"sum":7}' });
  const { anyOf } = body.format as { anyOf: { properties: { answer?: unknown } }[] };
  assert.equal(anyOf[1]!.properties.answer, format);
});

test('a request without tools passes unchanged', async () => {
  const { events, body } = await answered(say('as', ' is'), { tools: [] });
  assert.is(events.length, 3);
  assert.is(body.format, undefined);
  assert.equal(body.messages, [{ role: 'user', content: 'Fix the sum.' }]);
});

test('failures stay what they are, and a reader who stops closes the request', async () => {
  const server = new ScriptedOllama([MODEL], () => [...say('{"tool"'), { do: 'disconnect' }]);
  await server.listen();
  try {
    const brain = withoutTools(new OllamaBrain({ url: server.url }));
    await fails(all(brain, request({ tools: [READ] })), 'broken');
    server.script = () => [{ do: 'thinking', text: 'hm' }, { do: 'hang' }];
    for await (const event of brain.chat(request({ tools: [READ] }), never))
      if (event.type === 'thinking') break;
    assert.is(await server.asked[1]!.ended, 'left');
  } finally {
    await server.close();
  }
});

test.run();
