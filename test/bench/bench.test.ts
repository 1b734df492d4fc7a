// limit: 120 s
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { alternate, median } from '../../scripts/bench/figures.ts';
import { run } from '../net/mesh.ts';

const BENCH = join(import.meta.dirname, '../../scripts/bench.ts');

test('a benchmark prints an array of figures with exactly the fields of the contract', async () => {
  const env = { BENCH_JOIN_MEMBERS: '3', BENCH_JOIN_RUNS: '1' };
  const done = await run([process.execPath, BENCH, 'join', '--json'], { env });
  assert.is(done.code, 0, done.stderr);
  const figures = JSON.parse(done.stdout) as Record<string, unknown>[];
  assert.equal(
    figures.map(({ figure, unit }) => [figure, unit]),
    [
      ['join.rate', '/s'],
      ['join.memory', 'MB'],
    ],
  );
  for (const figure of figures) {
    assert.equal(Object.keys(figure), ['figure', 'ours', 'peer', 'ratio', 'unit', 'runs']);
    assert.type(figure.ours, 'number');
    assert.is(figure.peer, null, 'there is nothing to compare with');
    assert.is(figure.ratio, null);
  }
});

test('a benchmark that does not exist is named, with those there are (exit 2)', async () => {
  const done = await run([process.execPath, BENCH, 'speed', '--json']);
  assert.is(done.code, 2);
  assert.is(done.stdout, '');
  assert.match(done.stderr, /join, task/);
  assert.match(done.stderr, /speed/);
});

test('a ratio is the median of ours by the median of the peer’s, of alternating runs after a warm-up (promise 20)', async () => {
  const order: string[] = [];
  const values = { ours: [99, 4, 2, 6], peer: [99, 1, 2, 3] };
  const next = (who: 'ours' | 'peer') => async (): Promise<number> => {
    order.push(who);
    return values[who].shift()!;
  };
  const figure = await alternate('x', 'ms', 3, next('ours'), next('peer'));
  assert.equal(figure, { figure: 'x', ours: 4, peer: 2, ratio: 2, unit: 'ms', runs: 3 });
  assert.equal(order, ['ours', 'peer', 'ours', 'peer', 'ours', 'peer', 'ours', 'peer']);
  assert.is(median([3, 1]), 2);
  assert.throws(() => median([]), /no values/);
});

test.run();
