import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { OpenAIBrain } from '../../../node/brain/openai.ts';
import { measure, measured, Speeds } from '../../../node/brain/speed.ts';
import type { Usage } from '../../../node/brain/types.ts';
import type { Counts } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { all, fails, never, request } from './support.ts';

const MODEL = 'qwen2.5-coder:7b';
const usage = (change: Partial<Usage>): Usage => ({
  promptTokens: null,
  promptFreshTokens: null,
  generatedTokens: null,
  promptMs: null,
  generateMs: null,
  ...change,
});
const generated = (generatedTokens: number, generateMs: number): Usage =>
  usage({ generatedTokens, generateMs });
const near = (got: number | null | undefined, wanted: number): void =>
  assert.ok(Math.abs((got ?? Number.NaN) - wanted) < 1e-6 * wanted, `${got} is not ${wanted}`);

test('nothing measured is unknown, and each server and model has its own speed', () => {
  const speeds = new Speeds();
  assert.is(speeds.of('s', 'm'), null);
  speeds.note('s', 'm', generated(100, 1_000));
  assert.equal(speeds.of('s', 'm'), { promptTokensPerSecond: null, generateTokensPerSecond: 100 });
  assert.is(speeds.of('s', 'other'), null);
  assert.is(speeds.of('other', 'm'), null);
});

test('an answer weighs as long as it took, and 0.8 of that after the next one', () => {
  const speeds = new Speeds();
  speeds.note('s', 'm', generated(100, 1_000));
  speeds.note('s', 'm', generated(100, 4_000));
  near(speeds.of('s', 'm')?.generateTokensPerSecond, (1_000 * (80 + 100)) / (800 + 4_000));
});

test('only tokens that were read now tell the speed of reading', () => {
  const speeds = new Speeds();
  speeds.note('s', 'm', usage({ promptTokens: 10_000, promptFreshTokens: 100, promptMs: 500 }));
  near(speeds.of('s', 'm')?.promptTokensPerSecond, 200);
  speeds.note('s', 'm', usage({ promptTokens: 10_000, promptMs: 1 }));
  near(speeds.of('s', 'm')?.promptTokensPerSecond, 200);
});

test('what is uncounted, too short or timeless changes nothing', () => {
  const speeds = new Speeds();
  for (const nothing of [usage({}), generated(7, 100), generated(100, 0), usage({ generatedTokens: 100 })]) {
    speeds.note('s', 'm', nothing);
    assert.is(speeds.of('s', 'm'), null);
  }
});

test('the mean stays between the slowest and the fastest, and comes to what lasts', () => {
  const rate = fc.record({
    tokens: fc.integer({ min: 8, max: 4_000 }),
    ms: fc.integer({ min: 1, max: 100_000 }),
  });
  fc.assert(
    fc.property(fc.array(rate, { minLength: 1, maxLength: 20 }), (answers) => {
      const speeds = new Speeds();
      for (const { tokens, ms } of answers) speeds.note('s', 'm', generated(tokens, ms));
      const mean = speeds.of('s', 'm')!.generateTokensPerSecond!;
      const rates = answers.map(({ tokens, ms }) => (1_000 * tokens) / ms);
      assert.ok(mean >= Math.min(...rates) * 0.999_999 && mean <= Math.max(...rates) * 1.000_001);
      for (let time = 0; time < 200; time++) speeds.note('s', 'm', generated(400, 1_000));
      assert.ok(Math.abs(speeds.of('s', 'm')!.generateTokensPerSecond! - 400) < 1);
    }),
  );
});

test('entries are bounded, and the one longest without an answer goes first', () => {
  const speeds = new Speeds();
  for (let index = 0; index < 1_024; index++) speeds.note('s', `m${index}`, generated(100, 1_000));
  speeds.note('s', 'm0', generated(100, 1_000));
  speeds.note('s', 'new', generated(100, 1_000));
  assert.is(speeds.of('s', 'm1'), null);
  assert.ok(speeds.of('s', 'm0') !== null && speeds.of('s', 'new') !== null);
});

const counts: Partial<Counts> = { promptTokens: 120, promptMs: 60, generatedTokens: 64, generateMs: 3_200 };

test('one measurement asks a fixed prompt that no cache can answer', async () => {
  const server = new ScriptedOllama([MODEL], () => [
    { do: 'text', text: 'def' },
    { do: 'end', counts },
  ]);
  await server.listen();
  try {
    const brain = new OllamaBrain({ url: server.url });
    const speeds = new Speeds();
    const speed = await measure(brain, MODEL, speeds, 'first', never);
    near(speed?.promptTokensPerSecond, 2_000);
    near(speed?.generateTokensPerSecond, 20);
    assert.equal(speeds.of(server.url, MODEL), speed);
    await measure(brain, MODEL, speeds, 'second', never);
    const prompts = server
      .to('/api/chat')
      .map(({ body }) => (body as { messages: [{ content: string }] }).messages[0].content);
    assert.ok(prompts[0]!.startsWith('first\n') && prompts[1]!.startsWith('second\n'));
    assert.is(prompts[0]!.slice(5), prompts[1]!.slice(6));
    await fails(measure(brain, 'gone', speeds, 'third', never), 'model');
  } finally {
    await server.close();
  }
});

test('answers of every day keep it current', async () => {
  const server = new ScriptedOpenAI([MODEL], () => [{ do: 'end', counts }], 'llama.cpp');
  await server.listen();
  try {
    const speeds = new Speeds();
    await all(measured(new OpenAIBrain({ url: server.url }), speeds), request());
    assert.equal(speeds.of(server.url, MODEL), { promptTokensPerSecond: 2_000, generateTokensPerSecond: 20 });
  } finally {
    await server.close();
  }
});

test('where a server tells no times, those of this machine stand for generating', async () => {
  const server = new ScriptedOpenAI([MODEL], () => [
    { do: 'text', text: 'a' },
    { do: 'end', counts: { promptTokens: 120, generatedTokens: 65 } },
  ]);
  await server.listen();
  try {
    const speeds = new Speeds();
    const times = [1_000, 3_000];
    await all(
      measured(new OpenAIBrain({ url: server.url }), speeds, () => times.shift()!),
      request(),
    );
    assert.equal(speeds.of(server.url, MODEL), { promptTokensPerSecond: null, generateTokensPerSecond: 32 });
  } finally {
    await server.close();
  }
});

test.run();
