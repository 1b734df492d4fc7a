import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { linePlot, rangePlot } from '../../scripts/bench/plot.ts';

const x = { label: 'tasks', ticks: [1, 10, 100] };
const y = { label: 'µs', ticks: [0.1, 1, 10] };

/** Centres of all dots, in order. */
const dots = (svg: string): [x: number, y: number][] =>
  [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, cx, cy]) => [Number(cx), Number(cy)]);

test('a value stands where its logarithm is, and a larger one higher', () => {
  const svg = linePlot('costs', x, y, [
    {
      name: 'one',
      points: [
        [1, 0.1],
        [10, 1],
        [100, 10],
      ],
    },
  ]);
  const [low, middle, high] = dots(svg);
  assert.equal(middle, [(low![0] + high![0]) / 2, (low![1] + high![1]) / 2]);
  assert.ok(low![0] < high![0] && low![1] > high![1]);
});

test('each series has its line, its name and its colour', () => {
  const series = ['a', 'b', 'c'].map((name, at) => ({
    name,
    points: [
      [1, at + 1],
      [100, at + 2],
    ] as const,
  }));
  const svg = linePlot('costs', x, y, series, { name: 'aimed at: 5', at: 5 });
  assert.is(dots(svg).length, 6);
  assert.is(
    new Set([...svg.matchAll(/stroke="(#\w+)" stroke-width="2.5"/g)].map(([, colour]) => colour)).size,
    3,
  );
  for (const text of ['>a<', '>b<', '>c<', '>aimed at: 5<', 'stroke-dasharray'])
    assert.ok(svg.includes(text), text);
});

test('names of lines that end close to each other lie apart', () => {
  const series = ['a', 'b', 'c'].map((name, at) => ({
    name,
    points: [
      [1, 1],
      [100, 1 + at / 100],
    ] as const,
  }));
  const svg = linePlot('costs', x, y, series);
  const heights = ['a', 'b', 'c'].map((name) =>
    Number(new RegExp(`y="([\\d.]+)"[^>]*>${name}<`).exec(svg)![1]),
  );
  for (const [one, two] of [
    [0, 1],
    [1, 2],
    [0, 2],
  ] as const)
    assert.ok(Math.abs(heights[one]! - heights[two]!) >= 15);
});

test('a bar goes from one value to the other', () => {
  const svg = rangePlot('back again', x, [
    { name: 'first', from: 1, to: 10 },
    { name: 'second', from: 10, to: 100 },
  ]);
  const [begin, end, next, last] = dots(svg);
  assert.is(begin![1], end![1]);
  assert.ok(begin![0] < end![0]);
  assert.is(end![0], next![0]);
  assert.ok(last![1] > begin![1]);
});

test('a value that is off the axis is no picture, nor is an axis that does not rise', () => {
  const one = (at: number) => [{ name: 'one', from: 1, to: at }];
  for (const at of [0, 0.5, 101, Number.NaN])
    assert.throws(() => rangePlot('t', x, one(at)), /is not on the axis/);
  assert.throws(() => rangePlot('t', { label: 'x', ticks: [0, 10] }, one(5)), /do not rise/);
});

test('words are escaped', () => {
  assert.ok(linePlot('a < b & c', x, y, []).includes('<title>a &#60; b &#38; c</title>'));
});

test.run();
