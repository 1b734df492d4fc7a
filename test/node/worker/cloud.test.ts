// limit: 120 s
/** A cloud as the last resort of a goal: scripted servers over real HTTP, with real git, the real sandbox and real tools. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CloudBrain } from '../../../node/brain/cloud.ts';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import type { Brain } from '../../../node/brain/types.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../../node/worker/worker.ts';
import type { AttemptResult } from '../../../protocol/session.ts';
import type { Allowance } from '../../../protocol/usage.ts';
import type { Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun, executorKey, Member, World } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const KEY = 'sk-very-secret-0123456789';
const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  'test.sh': '[ "$(sh greet.sh)" = Hello ] || { echo "greet.sh says $(sh greet.sh)"; exit 1; }\n',
});
const keyFile = join(world.folder, 'key');
writeFileSync(keyFile, `${KEY}\n`, { mode: 0o600 });

const local = await new ScriptedOllama(['small:7b']).listen();
const provider = await new ScriptedOpenAI(['big-1']).listen();
provider.key = KEY;
const models = [{ name: 'big-1', contextTokens: 32_768, tools: true }];
const config = { name: 'provider', models, keyFile, maxTokensField: 'max_tokens' as const };
const cloud = new CloudBrain({ ...config, url: provider.url });
/** What this machine may ask; a test changes it. */
let brains: () => Brain[] = () => [cloud];
const worker = new ConvergenceWorker({
  brains: async () => brains(),
  speeds: new Speeds(),
  prompts: new Prompts(null),
});
const member = await Member.open(join(world.folder, 'member'), world.founder, 'spare-1', executorKey, worker);
test.after(async () => {
  await member.runner.close();
  await local.close();
  await provider.close();
  await world.remove();
});

const call = (name: string, args: Record<string, unknown>): Step => ({ do: 'call', name, arguments: args });
const read = [call('read', { path: 'greet.sh' })];
const edit = [call('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' })];
const finish = [call('finish', { summary: 'The greeting is spelled right.' })];
const counted = (steps: Step[], promptTokens: number, generatedTokens: number): Step[] => [
  ...steps,
  { do: 'end', counts: { promptTokens, generatedTokens } },
];

/** 3 and 15 of the currency for a million tokens. */
const PRICES = { 'big-1': { in: 3_000_000, out: 15_000_000 } };
const money = (amount: number | null): Allowance => ({
  tokens: null,
  seconds: null,
  money: amount,
  models: {},
  prices: PRICES,
});

/** A goal with answers in turn, by how much of the conversation the model is shown; how often each server was asked. */
async function ran(
  answers: { cloud?: Step[][]; local?: Step[][] },
  asks: boolean,
  allowance?: Allowance,
): Promise<{ result: AttemptResult; log: string; clouds: number; locals: number }> {
  const before = [provider.asked.length, local.asked.length] as const;
  const turn = (of: Step[][] = [], messages: { role: string }[]): Step[] => {
    const said = messages.filter(({ role }) => role === 'assistant').length;
    return of[Math.min(said, of.length - 1)] ?? finish;
  };
  provider.script = ({ messages }) => turn(answers.cloud, messages);
  local.script = ({ messages }) => turn(answers.local, messages);
  const code = { goal: 'greet.sh is to say Hello.', heals: 0, ...(asks ? { cloud: true } : {}) };
  const more = allowance === undefined ? {} : { allowance };
  const assignment = await world.assignment(
    { kind: 'code', code, checks: ['sh test.sh'] },
    { repository, base },
    more,
  );
  const { result, log } = await member.run(assignment);
  assert.not.match(log + JSON.stringify(result), new RegExp(KEY), 'the key is nowhere');
  for (const { body } of provider.asked) assert.not.match(JSON.stringify(body), new RegExp(KEY));
  const count = (all: readonly { path: string }[], from: number, path: RegExp): number =>
    all.slice(from).filter((one) => path.test(one.path)).length;
  return {
    result,
    log,
    clouds: count(provider.asked, before[0], /./),
    locals: count(local.asked, before[1], /chat/),
  };
}

it('a cloud is asked for nothing at all unless the goal says so, and never without a budget of money', async () => {
  brains = () => [cloud];
  for (const [asks, allowance] of [
    [false, money(1_000_000)],
    [true, undefined],
    [true, money(null)],
  ] as const) {
    const { result, clouds } = await ran({}, asks, allowance);
    assert.equal([result.reason, result.fault, clouds], ['environment', 'machine', 0]);
    assert.match(result.detail!, /it is in a cloud, and none is allowed/);
    if (asks) assert.match(result.detail!, /a cloud needs a budget of money, and none is set/);
  }
  const unpriced = await ran({}, true, { ...money(1_000_000), prices: {} });
  assert.equal([unpriced.result.reason, unpriced.clouds], ['budget', 0]);
  assert.match(unpriced.result.detail!, /big-1 has no price/);
});

it('within its budget it does the work, each call is logged with what it cost, and its key goes nowhere else', async () => {
  brains = () => [cloud];
  const cloudAnswers = [counted(read, 2_000, 20), counted(edit, 2_100, 30), counted(finish, 2_200, 10)];
  const { result, log, clouds } = await ran({ cloud: cloudAnswers }, true, money(1_000_000));
  assert.equal([result.outcome, clouds], ['succeeded', 3]);
  assert.match(log, /a cloud was asked: provider, big-1, 2000 \+ 20 tokens, 0\.006300 of the budget/);
  assert.is(log.match(/a cloud was asked/g)!.length, 3);
  const [row] = result.usage!.rows;
  assert.equal(
    [row!.place, row!.brain, row!.model, row!.calls, row!.promptTokens, row!.generatedTokens, row!.estimated],
    ['cloud', 'provider', 'big-1', 3, 6_300, 60, 0],
  );
  assert.is(provider.asked.at(-1)!.headers.authorization, `Bearer ${KEY}`);
});

it('a local model goes first, and a cloud only where it fails', async () => {
  brains = () => [cloud, new OllamaBrain({ url: local.url })];
  const able = await ran({ local: [edit, finish] }, true, money(1_000_000));
  assert.equal([able.result.outcome, able.clouds, able.locals], ['succeeded', 0, 2]);
  const refusing: Step[] = [{ do: 'refuse', status: 400, message: 'no' }];
  const failed = await ran({ local: [refusing], cloud: [edit, finish] }, true, money(1_000_000));
  assert.equal([failed.result.outcome, failed.clouds], ['succeeded', 2]);
  assert.match(failed.log, /asking big-1 \(provider\) instead/);
});

for (const [how, gone] of [
  ['answers 503', [{ do: 'refuse', status: 503, message: `overloaded, ${KEY}` }]],
  ['breaks off in mid-answer', [{ do: 'text', text: 'I will ' }, { do: 'disconnect' }]],
  ['ends its answer before the end', [{ do: 'text', text: 'I will ' }, { do: 'stop' }]],
] as [string, Step[]][]) {
  it(`a cloud that ${how} in mid-task is left for local models, which are told what was said so far`, async () => {
    // Local models come up while the cloud works.
    const before = provider.asked.length;
    brains = () => (provider.asked.length > before ? [cloud, new OllamaBrain({ url: local.url })] : [cloud]);
    const answers = { cloud: [read, gone], local: [read, edit, finish] };
    const { result, log, locals } = await ran(answers, true, money(1_000_000));
    assert.is(result.outcome, 'succeeded', result.detail ?? log);
    assert.is(locals, 2, 'it goes on after the first call, and does not begin anew');
    assert.match(log, /no answer of big-1 \(provider\)/);
    assert.match(log, /going on with small:7b \(ollama\), which is told all that was said so far/);
    const first = local.asked.filter(({ path }) => /chat/.test(path)).at(-2)!.body as { messages: object[] };
    assert.match(JSON.stringify(first.messages), /echo Helo/, 'what the cloud had read');
  });
}

it('what a call cost may end the money: the second call is not made', async () => {
  brains = () => [cloud];
  // 0.0063 of 0.01 are spent by the first; the next takes about as much.
  const { result, log, clouds } = await ran({ cloud: [counted(read, 2_000, 20), edit] }, true, money(10_000));
  assert.is(clouds, 1, log);
  assert.equal([result.reason, result.fault], ['budget', 'task']);
  assert.equal([result.usage!.short!.of, result.usage!.rows[0]!.calls], ['money', 1]);
  assert.match(result.detail!, /the money for this attempt is 10000 millionths: 6300 are spent/);
});

it('a key that others may read is not used', async () => {
  chmodSync(keyFile, 0o644);
  try {
    brains = () => [cloud];
    const { result, clouds } = await ran({ cloud: [edit, finish] }, true, money(1_000_000));
    assert.equal([result.reason, clouds], ['environment', 0]);
    assert.match(result.detail!, /others may read it: chmod 600/);
  } finally {
    chmodSync(keyFile, 0o600);
  }
});

test.run();
