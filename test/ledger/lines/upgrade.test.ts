import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../../ledger/lines/entry.ts';
import { type Upgrades, upgraded } from '../../../ledger/lines/upgrade.ts';

const entry: Entry = { index: 7, epoch: 2, time: 9, type: 'thing.made', body: { weight: '12 g' } };

/** A type whose form changed twice. */
const steps: Upgrades = {
  'thing.made': (body) => ({
    type: 'thing.made.2',
    body: { grams: Number.parseInt((body as { weight: string }).weight, 10) },
  }),
  'thing.made.2': (body) => ({ type: 'thing.made.3', body: { ...(body as object), colour: null } }),
};

test('an entry of an older form is lifted step by step to the newest, and stays where it is', () => {
  const newest = { ...entry, type: 'thing.made.3', body: { grams: 12, colour: null } };
  assert.equal(upgraded(entry, steps), newest);
  assert.equal(upgraded({ ...newest, type: 'thing.made.2', body: { grams: 12 } }, steps), newest);
  assert.equal(entry.body, { weight: '12 g' }, 'what the log holds is not touched');
});

test('one of the newest form, or of a type that nobody knows, stays as it is', () => {
  for (const type of ['thing.made.3', 'moon.rose', 'constructor.x', 'toString'])
    assert.is(upgraded({ ...entry, type }, steps).type, type);
  assert.is(upgraded(entry), entry, 'no form has changed yet');
});

test.run();
