import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { choose, noModel, type Offer, unnarrowed, type Wishes } from '../../../node/brain/choose.ts';
import { BrainError, type Model } from '../../../node/brain/types.ts';

const model = (name: string, change: Partial<Model> = {}): Model => ({
  name,
  contextTokens: 32_768,
  tools: true,
  bytes: 4e9,
  parameters: 7e9,
  ...change,
});
const offer = (name: string, change: Partial<Model> = {}, rest: Partial<Offer> = {}): Offer => ({
  brain: 'ollama',
  place: 'local',
  server: 'http://127.0.0.1:11434',
  model: model(name, change),
  speed: null,
  ...rest,
});
const speed = (generateTokensPerSecond: number | null) => ({
  promptTokensPerSecond: null,
  generateTokensPerSecond,
});
const wishes = (change: Partial<Wishes> = {}): Wishes => ({
  model: null,
  brain: null,
  contextTokens: null,
  tools: 'own',
  cloud: false,
  ...change,
});
const order = (offers: Offer[], wished: Partial<Wishes> = {}): string[] =>
  choose(offers, wishes(wished)).candidates.map(({ offer: { model: chosen } }) => chosen.name);

test('the smallest model that fits goes first, then upward', () => {
  const offers = [
    offer('large', { parameters: 70e9 }),
    offer('tiny', { parameters: 1e9, contextTokens: 4_096 }),
    offer('small', { parameters: 3e9, tools: false }),
    offer('middle', { parameters: 14e9 }),
  ];
  assert.equal(order(offers, { contextTokens: 16_384 }), ['middle', 'large']);
  assert.equal(order(offers, { tools: 'none' }), ['tiny', 'small', 'middle', 'large']);
});

test('a cloud comes last, however small, and only where it is allowed', () => {
  const offers = [
    offer('cloud', { parameters: 1e9 }, { place: 'cloud', brain: 'openai' }),
    offer('unknown', { parameters: null, bytes: null, contextTokens: null, tools: null }),
    offer('local', { parameters: 70e9 }),
  ];
  assert.equal(order(offers), ['local', 'unknown']);
  assert.equal(order(offers, { cloud: true }), ['local', 'unknown', 'cloud']);
});

test('this machine goes before others of the mesh, whose smaller models do not narrow what its own hold', () => {
  const lent = (name: string, contextTokens: number | null) =>
    offer(name, { parameters: 1e9, contextTokens }, { place: 'mesh', brain: 'mesh', server: 'the mesh' });
  const offers = [
    lent('narrow', 4_096),
    lent('wide', 131_072),
    lent('untold', null),
    offer('own', { parameters: 70e9, contextTokens: 16_384 }),
  ];
  const { candidates } = choose(offers, wishes());
  const names = (of: typeof candidates) => of.map(({ offer: { model: chosen } }) => chosen.name);
  assert.is(names(candidates)[0], 'own');
  assert.equal(names(unnarrowed(candidates, 32_768)).sort(), ['own', 'untold', 'wide']);
  const borrowed = candidates.filter(({ offer: { place } }) => place === 'mesh');
  assert.equal(names(unnarrowed(borrowed, 32_768)).sort(), ['narrow', 'untold', 'wide']);
});

test('what is unknown sorts behind what is known', () => {
  const offers = [
    offer('no-size', { parameters: null, bytes: null }),
    offer('bytes-only', { parameters: null, bytes: 1 }),
    offer('no-context', { contextTokens: null, parameters: 1 }),
    offer('no-tools', { tools: null, parameters: 1 }),
    offer('all', { parameters: 70e9 }),
  ];
  assert.equal(order(offers, { contextTokens: 8_192 }), [
    'all',
    'bytes-only',
    'no-size',
    'no-context',
    'no-tools',
  ]);
});

test('of two of one size the faster goes first, and one not measured last', () => {
  const offers = [
    offer('a-unmeasured'),
    offer('b-slow', {}, { speed: speed(5) }),
    offer('c-fast', {}, { speed: speed(50) }),
    offer('d-untold', {}, { speed: speed(null) }),
  ];
  assert.equal(order(offers), ['c-fast', 'b-slow', 'a-unmeasured', 'd-untold']);
});

test('models that call no tools come last where the form of an answer will do, and say so', () => {
  const offers = [offer('plain', { tools: false, parameters: 1 }), offer('own', { parameters: 70e9 })];
  assert.equal(
    choose(offers, wishes({ tools: 'any' })).candidates.map(({ byFormat }) => byFormat),
    [false, true],
  );
  assert.equal(order(offers, { tools: 'any' }), ['own', 'plain']);
});

test('a model or brain asked for by name is the only one, and a name without a tag is its latest', () => {
  const offers = [offer('llama3.2:latest'), offer('llama3.2:1b'), offer('x', {}, { brain: 'openai' })];
  assert.equal(order(offers, { model: 'llama3.2' }), ['llama3.2:latest']);
  assert.equal(order(offers, { model: 'llama3.2:1b' }), ['llama3.2:1b']);
  assert.equal(order(offers, { brain: 'openai' }), ['x']);
});

test('each that is refused has its reason in words, and none at all is an honest refusal', () => {
  const offers = [
    offer('a', { tools: false }),
    offer('b', { contextTokens: 4_096 }),
    offer('c', {}, { place: 'cloud' }),
  ];
  const choice = choose(offers, wishes({ contextTokens: 16_384 }));
  assert.equal(
    choice.refused.map(({ reason }) => reason),
    [
      'it calls no tools',
      'it holds 4096 tokens, and 16384 are needed',
      'it is in a cloud, and none is allowed',
    ],
  );
  const error = noModel(choice);
  assert.instance(error, BrainError);
  assert.is(error.fault, 'model');
  assert.match(error.message, /a \(ollama\): it calls no tools; b .*; c /);
  assert.match(noModel(choose([], wishes())).message, /no brain offers any/);
  const many = Array.from({ length: 20 }, (_, index) => offer(`m${index}`, { tools: false }));
  assert.match(noModel(choose(many, wishes())).message, /and 12 more$/);
});

const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(value, { nil: null });
const anyOffer: fc.Arbitrary<Offer> = fc.record({
  brain: fc.constantFrom('ollama', 'openai'),
  place: fc.constantFrom('local', 'cloud'),
  server: fc.constantFrom('http://a', 'http://b'),
  model: fc.record({
    name: fc.constantFrom('a', 'b', 'c:latest', 'd'),
    contextTokens: maybe(fc.constantFrom(2_048, 8_192, 32_768)),
    tools: maybe(fc.boolean()),
    bytes: maybe(fc.integer({ min: 1, max: 3 })),
    parameters: maybe(fc.integer({ min: 1, max: 3 })),
  }),
  speed: maybe(
    fc.record({
      promptTokensPerSecond: maybe(fc.integer({ min: 1, max: 3 })),
      generateTokensPerSecond: maybe(fc.integer({ min: 1, max: 3 })),
    }),
  ),
});
const anyWishes: fc.Arbitrary<Wishes> = fc.record({
  model: maybe(fc.constantFrom('a', 'c', 'c:latest', 'gone')),
  brain: maybe(fc.constantFrom('ollama', 'openai')),
  contextTokens: maybe(fc.constantFrom(1_000, 8_192, 10_000)),
  tools: fc.constantFrom('none', 'own', 'any'),
  cloud: fc.boolean(),
});
/** A model is offered once by one brain of one server. */
const anyOffers = (maxLength: number): fc.Arbitrary<Offer[]> =>
  fc.uniqueArray(anyOffer, {
    maxLength,
    selector: ({ brain, server, place, model: { name } }) => JSON.stringify([brain, server, place, name]),
  });
const RUNS = { numRuns: 3_000 };

test('every offer is a candidate or refused, and none that is known to lack what was asked for is a candidate', () => {
  fc.assert(
    fc.property(anyOffers(12), anyWishes, (offers, wished) => {
      const { candidates, refused } = choose(offers, wished);
      const seen = [...candidates, ...refused].map((one) => one.offer);
      assert.is(seen.length, offers.length);
      for (const one of offers) assert.ok(seen.includes(one));
      for (const { offer: taken, byFormat } of candidates) {
        assert.ok(wished.cloud || taken.place === 'local', 'a cloud that is not allowed');
        assert.not.ok(wished.tools === 'own' && taken.model.tools === false, 'without tools');
        assert.is(byFormat, wished.tools === 'any' && taken.model.tools === false);
        const { contextTokens } = taken.model;
        assert.ok(
          contextTokens === null || contextTokens >= (wished.contextTokens ?? 0),
          'too little context',
        );
        assert.ok(wished.brain === null || wished.brain === taken.brain, 'another brain');
        if (wished.model !== null)
          assert.ok([wished.model, `${wished.model}:latest`].includes(taken.model.name), 'another model');
      }
      for (const { reason } of refused) assert.ok(reason.length > 5);
    }),
    RUNS,
  );
});

test('the order is total: it does not depend on that of the offers, and every two keep it in any company', () => {
  const shuffled = anyOffers(8).chain((offers) =>
    fc.tuple(
      fc.constant(offers),
      fc.shuffledSubarray(offers, { minLength: offers.length, maxLength: offers.length }),
    ),
  );
  fc.assert(
    fc.property(shuffled, anyWishes, ([offers, others], wished) => {
      const told = (from: Offer[]): Offer[] => choose(from, wished).candidates.map((one) => one.offer);
      const chosen = told(offers);
      assert.equal(told(others), chosen);
      for (let index = 1; index < chosen.length; index++) {
        const pair = [chosen[index]!, chosen[index - 1]!];
        assert.equal(told(pair), [chosen[index - 1], chosen[index]]);
        assert.ok(pair[1]!.place === 'local' || pair[0]!.place === 'cloud', 'a cloud before a local one');
      }
    }),
    RUNS,
  );
});

test.run();
