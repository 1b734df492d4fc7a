// limit: 150 s
/** Budgets across real processes: a day that is used up, raised, and counted over the founder's death. The model is a scripted server. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../hub/core/answers/why-answer.ts';
import type { BudgetObject, StatusObject } from '../../node/api/objects.ts';
import type { Step } from '../model-server/script.ts';
import { ScriptedOpenAI } from '../model-server/scripted-openai.ts';
import { call, goalFleet, MODEL, mend } from './goal-fleet.ts';

const counts: Step = { do: 'end', counts: { promptTokens: 3_000, generatedTokens: 1_000 } };
const counted = (step: Step): Step[] => [step, counts];
const ANSWERS = [
  counted(call('list', { path: '.' })),
  counted(call('read', { path: 'greet.sh' })),
  counted(mend),
  counted(call('finish', { summary: 'The greeting is spelled right.' })),
];

const { fleet, hubArgs, server, repository, close } = await goalFleet();
/** Each goal takes four answers of 4,000 tokens. */
server.script = ({ messages }) => ANSWERS[messages.filter(({ role }) => role === 'assistant').length]!;
test.after(close);

async function send(): Promise<string> {
  const args = ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--model', MODEL];
  const sent = await fleet.hub([...args, '--tokens', '20000'], { cwd: repository });
  assert.is(sent.code, 0, sent.stderr);
  return sent.stdout.trim();
}
const shown = (): Promise<BudgetObject> => fleet.json<BudgetObject>(['budget', 'show']);

test('a day is used up, its goals wait and say why, the founder dies and has lost no count, an operator raises it, they go on', async () => {
  assert.is((await fleet.node('thinker', ['models', 'add', server.url])).code, 0);
  const set = await fleet.hub(['budget', 'set', 'day', '--tokens', '16000']);
  assert.is(set.code, 0, set.stderr);
  assert.match(set.stdout, /^day +tokens +16000 +0 +0 +16000$/m);

  const first = await fleet.ended(await send());
  assert.equal([first.state, first.verified], ['delivered', true]);
  const { today, limits } = await shown();
  assert.equal([today.spent.tokens, today.spent.calls, today.spent.estimated], [16_000, 4, 0]);
  assert.equal(
    today.members.map(({ name }) => name),
    ['thinker'],
    'who verifies asks no model',
  );
  assert.equal([limits[0]!.left!.tokens, limits[0]!.reserved!.tokens], [0, 0]);
  await fleet.entry(({ type }) => type === 'budget.reached', 'that the limit is reached');

  const asked = server.asked.length;
  const second = await send();
  const why = await fleet.json<Why>(['task', 'why', second]);
  assert.is(why.wait, 'held', JSON.stringify(why));
  assert.match(
    why.reasons.join('; '),
    /the budget of the day is used up: 16000 of 16000 tokens; it waits until 20\d\d-/,
  );
  const { needs } = await fleet.json<StatusObject>(['status']);
  assert.ok(
    needs.some(({ command }) => command === 'mesh-hub budget set day --tokens N'),
    JSON.stringify(needs),
  );
  const refused = await fleet.node('checker', ['budget', 'show']);
  assert.is(refused.code, 2, 'it is of the founder’s machine');

  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(hubArgs);
  assert.equal((await shown()).today.spent, today.spent);
  assert.is((await fleet.json<Why>(['task', 'why', second])).wait !== 'turn', true);
  assert.is(server.asked.length, asked, 'no model was asked meanwhile');
  assert.is(fleet.entries.filter(({ type }) => type === 'budget.reached').length, 1);

  // For two calls and no third.
  assert.is((await fleet.hub(['budget', 'set', 'day', '--tokens', '24500'])).code, 0);
  const stopped = await fleet.about(second, 'attempt.ended');
  assert.equal([stopped.body.reason, stopped.body.fault], ['budget', 'person']);
  const short = await fleet.json<Why>(['task', 'why', second]);
  assert.match(
    short.reasons.join('; '),
    /the budget of the day is nearly used up: a call of about \d+ tokens is due, and 500 are left/,
  );
  assert.is((await shown()).today.spent.tokens, 24_000, 'no limit was passed');
  const logs = await fleet.hub(['task', 'logs', second]);
  assert.match(logs.stdout, /the model was stopped \(budget\)/);

  assert.is((await fleet.hub(['budget', 'set', 'day', '--tokens', 'none'])).code, 0);
  const task = await fleet.ended(second);
  assert.equal([task.state, task.verified], ['delivered', true]);
  assert.is((await shown()).today.spent.tokens, 40_000);
});

test('with the plugin off the mesh works, nothing is counted, and the command says so', async () => {
  assert.is((await fleet.hub(['budget', 'set', 'day', '--tokens', '0'])).code, 0);
  await fleet.hubDaemon!.end('SIGTERM');
  fleet.configure('hub', { plugins: { budget: false } });
  await fleet.up(hubArgs);
  const shut = await fleet.hub(['budget', 'show']);
  assert.is(shut.code, 2, shut.stderr);
  assert.match(shut.stderr, /the plugin budget is switched off here/);
  const spent = fleet.entries.filter(({ type }) => type === 'budget.spent').length;
  const task = await fleet.ended(await send());
  assert.is(task.state, 'delivered');
  assert.is(fleet.entries.filter(({ type }) => type === 'budget.spent').length, spent);
});

test('a machine without a model pursues a goal with its owner’s cloud, once a price and money are set, and not before', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  fleet.configure('hub', { plugins: {} });
  await fleet.up(hubArgs);
  assert.is((await fleet.hub(['budget', 'set', 'day', '--tokens', 'none'])).code, 0);
  const provider = await new ScriptedOpenAI(['big-1']).listen();
  try {
    provider.script = ({ messages }) => ANSWERS[messages.filter(({ role }) => role === 'assistant').length]!;
    const models = [{ name: 'big-1', contextTokens: 32_768 }];
    fleet.configure('payer', { slots: 1, cloud: [{ name: 'provider', url: provider.url, models }] });
    const { token } = await fleet.client.post<{ token: string }>('/v1/invites', {});
    fleet.members.set('payer', await fleet.joinWith('payer', token));
    const goal = ['task', 'code', 'greet.sh is to say Hello', '--check', 'sh test.sh', '--model', 'big-1'];
    const plain = (await fleet.hub(goal, { cwd: repository })).stdout.trim();
    const why = await fleet.json<Why>(['task', 'why', plain]);
    assert.match(why.members.find(({ name }) => name === 'payer')!.why, /model big-1|no model/);
    assert.is((await fleet.hub(['task', 'stop', plain])).code, 0);

    assert.is((await fleet.hub(['budget', 'price', 'big-1', '--in', '3EUR', '--out', '15EUR'])).code, 0);
    assert.is((await fleet.hub(['budget', 'set', 'day', '--money', '1EUR'])).code, 0);
    assert.is(provider.asked.length, 0, 'nothing is asked of a cloud until a goal may');
    const sent = await fleet.hub([...goal, '--cloud', '--tokens', '20000'], { cwd: repository });
    const task = await fleet.ended(sent.stdout.trim());
    assert.equal([task.state, task.verified, task.executor?.name], ['delivered', true, 'payer']);
    assert.equal(
      provider.asked.map(({ path }) => path),
      Array(4).fill('/v1/chat/completions'),
    );
    const { today, currency } = await shown();
    // 3,000 tokens read and 1,000 written, four times.
    assert.equal([today.models.find(({ name }) => name === 'big-1')!.spent.money, currency], [96_000, 'EUR']);
    const text = await fleet.hub(['budget', 'show']);
    assert.match(text.stdout, /^day +money +1\.00 EUR +0\.096 EUR/m);
    const logs = await fleet.hub(['task', 'logs', task.id]);
    assert.match(logs.stdout, /a cloud was asked: provider, big-1, 3000 \+ 1000 tokens, 0\.024000/);
  } finally {
    await provider.close();
  }
});

test.run();
