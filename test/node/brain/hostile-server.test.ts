/** Servers of models that flood, lie and do not end: what is held of them is bounded (promise 18), and no figure of theirs is shown that cannot be (promise 20). */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { OpenAIBrain } from '../../../node/brain/openai.ts';
import type { Brain, ChatEvent } from '../../../node/brain/types.ts';
import { withoutTools } from '../../../node/brain/without-tools.ts';
import type { Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { all, fails, READ, request, textOf } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';

async function asked(steps: Step[], of: (brain: Brain) => Brain = (brain) => brain): Promise<ChatEvent[]> {
  const server = await new ScriptedOllama([MODEL], () => steps).listen();
  try {
    const events = await all(of(new OllamaBrain({ url: server.url })), request({ tools: [READ] }));
    const [chat] = server.to('/api/chat');
    assert.ok(['left', 'answered'].includes(await chat!.ended), 'the request is closed');
    return events;
  } finally {
    await server.close();
  }
}

const flood = (step: Step): Step[] => [...Array.from({ length: 2000 }, () => step), { do: 'hang' }];
const end = (events: ChatEvent[]): unknown => {
  const last = events.at(-1);
  return last?.type === 'end' ? [last.reason, last.usage.promptTokens, last.usage.generatedTokens] : last;
};

test('words and thoughts without end are cut where the tokens asked for end, and nothing is counted of them', async () => {
  for (const kind of ['text', 'thinking'] as const) {
    const events = await asked(flood({ do: kind, text: 'x'.repeat(1000) }));
    assert.equal(end(events), ['length', null, null]);
    assert.ok(events.length < 20, `${events.length} pieces`);
  }
  const whole = await asked(flood({ do: 'text', text: 'x'.repeat(1000) }), withoutTools);
  assert.equal(end(whole), ['length', null, null]);
  assert.ok(textOf(whole).length < 20_000);
});

test('of calls without end the first 64 are taken', async () => {
  const events = await asked(flood({ do: 'call', name: 'read', arguments: { path: 'a' } }));
  assert.equal(end(events), ['length', null, null]);
  assert.is(events.filter(({ type }) => type === 'call').length, 64);
});

test('a call with a name or arguments of megabytes is not taken', async () => {
  for (const call of [
    { do: 'call', name: 'n'.repeat(1_000_000), arguments: {} },
    { do: 'call', name: 'write', arguments: { content: 'c'.repeat(4_000_000) } },
  ] as const) {
    assert.equal(await asked([call]), [
      {
        type: 'end',
        reason: 'length',
        usage: {
          promptTokens: null,
          promptFreshTokens: null,
          generatedTokens: null,
          promptMs: null,
          generateMs: null,
        },
      },
    ]);
  }
});

test('arguments nested without end are no arguments', async () => {
  const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
  const line = `{"message":{"role":"assistant","tool_calls":[{"function":{"name":"read","arguments":${deep}}}]},"done":false}\n`;
  const [call] = await asked([{ do: 'nonsense', bytes: line }]);
  assert.equal(call?.type === 'call' && [call.call.arguments, call.call.text], [null, '[…]']);

  const server = await new ScriptedOpenAI([MODEL], () => [
    { do: 'malformed-call', name: 'read', text: deep },
  ]).listen();
  try {
    const brain = new OpenAIBrain({ url: server.url });
    const [first] = await all(brain, request({ tools: [READ], maxTokens: 4096 }));
    assert.equal(first?.type === 'call' && first.call.arguments, null);
  } finally {
    await server.close();
  }
});

test('counts that cannot be are none, and no speed is made of them', async () => {
  const counts = { promptTokens: 9e15, generatedTokens: 9e15, promptMs: 1, generateMs: 1 };
  const last = (await asked([{ do: 'end', counts }])).at(-1);
  assert.equal(last?.type === 'end' && last.usage, {
    promptTokens: null,
    promptFreshTokens: null,
    generatedTokens: null,
    promptMs: null,
    generateMs: null,
  });
  const possible = { promptTokens: 500, generatedTokens: 256, promptMs: 1, generateMs: 1 };
  assert.equal(end(await asked([{ do: 'end', counts: possible }])), ['stop', 500, 256]);
});

test('a count below zero, beyond all numbers or of no number is no part of an answer', async () => {
  const server = await new ScriptedOllama([MODEL]).listen();
  try {
    for (const count of ['-1', '1e400', '1.5', '"many"', 'NaN']) {
      const bytes = `{"message":{"content":"x"},"done":true,"eval_count":${count}}\n`;
      server.script = () => [{ do: 'nonsense', bytes }];
      await fails(all(new OllamaBrain({ url: server.url }), request()), 'broken');
    }
  } finally {
    await server.close();
  }
});

test('parts of a token are no count: the founder would take none, and close the session of whoever told it', async () => {
  const counts = { promptTokens: 1.5, generatedTokens: 2.5, promptMs: 1, generateMs: 1 };
  const server = await new ScriptedOpenAI([MODEL], () => [
    { do: 'text', text: 'x' },
    { do: 'end', counts },
  ]).listen();
  try {
    const events = await all(new OpenAIBrain({ url: server.url }), request());
    assert.equal(end(events), ['stop', null, null]);
  } finally {
    await server.close();
  }
});

test('a model whose name no receipt could hold, or a terminal would obey, is none', async () => {
  const names = ['m'.repeat(129), 'a\nb', 'a\u001b[2Jb', 'a\u202eb', ''];
  const ollama = await new ScriptedOllama([...names, MODEL]).listen();
  const openai = await new ScriptedOpenAI([...names, MODEL]).listen();
  try {
    for (const brain of [new OllamaBrain({ url: ollama.url }), new OpenAIBrain({ url: openai.url })]) {
      const models = await brain.models(AbortSignal.timeout(5_000));
      assert.equal(
        models.map(({ name }) => name),
        [MODEL],
      );
    }
  } finally {
    await Promise.all([ollama.close(), openai.close()]);
  }
});

test('what comes after the end is not read', async () => {
  const events = await asked([
    { do: 'end' },
    { do: 'call', name: 'read', arguments: {} },
    { do: 'end' },
    { do: 'hang' },
  ]);
  assert.equal(
    events.map(({ type }) => type),
    ['end'],
  );
});

test.run();
