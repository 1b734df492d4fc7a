import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseHub } from '../../../hub/cli/command.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

const said = (...args: string[]): object => {
  const parsed = parseHub(['budget', ...args], '1');
  assert.ok(parsed.kind === 'command');
  return parsed.command;
};
const refused = (...args: string[]): string => {
  try {
    said(...args);
  } catch (error) {
    assert.instance(error, SuperfleetError);
    return (error as SuperfleetError).expected ?? '';
  }
  return 'accepted';
};

test('limits are read with their units; none takes one away, and what is not named stays', () => {
  assert.equal(said('set', 'day', '--tokens', '5000', '--time', '2h', '--money', '0.25EUR'), {
    verb: 'budget set',
    scope: 'day',
    name: null,
    tokens: 5_000,
    seconds: 7_200,
    money: { amount: 250_000, currency: 'EUR' },
  });
  assert.equal(said('set', 'model', 'qwen3:30b', '--tokens', 'none'), {
    verb: 'budget set',
    scope: 'model',
    name: 'qwen3:30b',
    tokens: null,
  });
  assert.equal(said('set', 'session', '--money', 'none', '--time', 'none'), {
    verb: 'budget set',
    scope: 'session',
    name: null,
    seconds: null,
    money: null,
  });
});

test('a limit that says nothing, or of nobody, is refused in words', () => {
  assert.match(refused('set', 'day'), /--tokens, --time or --money/);
  assert.match(refused('set', 'day', 'lab-7', '--tokens', '1'), /model NAME or member NODE/);
  assert.match(refused('set', 'member', '--tokens', '1'), /model NAME or member NODE/);
  assert.match(refused('set', 'week', '--tokens', '1'), /day, session, model, member/);
  for (const sum of ['5', '5.EUR', '1.1234567EUR', '5eur', '-5EUR', '5EURO'])
    assert.match(refused('set', 'day', `--money=${sum}`), /such as 5EUR or 0\.25USD/, sum);
});

test('a price is of prompts and answers in one currency, or none', () => {
  assert.equal(said('price', 'big-1', '--in', '3EUR', '--out', '15EUR'), {
    verb: 'budget price',
    model: 'big-1',
    price: { in: { amount: 3_000_000, currency: 'EUR' }, out: { amount: 15_000_000, currency: 'EUR' } },
  });
  assert.equal(said('price', 'big-1', '--none'), { verb: 'budget price', model: 'big-1', price: null });
  for (const args of [[], ['--in', '3EUR'], ['--in', '3EUR', '--out', '3USD'], ['--none', '--in', '3EUR']])
    assert.match(refused('price', 'big-1', ...args), /--in and --out, or --none/);
});

test.run();
