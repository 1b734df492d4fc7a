import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BatchItem } from '../../../../hub/core/intake/batch.ts';
import type { TaskObject } from '../../../../node/api/objects.ts';
import type { SuperfleetError } from '../../../../protocol/errors.ts';
import { batchMax } from '../../../../protocol/limits.ts';
import { type TaskSpecInput, taskSpec } from '../../../../protocol/task.ts';
import { Fleet } from '../fleet.ts';

function item(more: Partial<Omit<BatchItem, 'spec'>> & { spec?: Partial<TaskSpecInput> } = {}): BatchItem {
  const { spec, ...rest } = more;
  const whole = { kind: 'command', argv: ['true'], ...spec } as TaskSpecInput;
  return { spec: taskSpec.parse(whole), bundle: null, ...rest };
}

const sent = (fleet: Fleet, items: BatchItem[], correlation: string | null = null): TaskObject[] =>
  fleet.ask<{ items: TaskObject[] }>({ op: 'task.submitMany', items, correlation }).items;

function refusal(fleet: Fleet, items: BatchItem[]): SuperfleetError {
  const size = fleet.entries.length;
  try {
    sent(fleet, items);
  } catch (thrown) {
    assert.is(fleet.entries.length, size, 'nothing is logged of a batch that is refused');
    return thrown as SuperfleetError;
  }
  throw new Error('not refused');
}

test('a batch is one append, its tasks share a correlation, and run in the order they name', () => {
  const fleet = new Fleet();
  const m = fleet.join('m1');
  const appends = fleet.log.filter(({ type }) => type === 'append').length;
  const [ship, build] = sent(fleet, [
    item({ name: 'ship', after: ['build'] }),
    item({ name: 'build', spec: { env: { A: 'b' } } }),
  ]);
  const first = fleet.log.filter((effect) => effect.type === 'append')[appends];
  assert.equal(
    first?.made.slice(0, 2).map(({ entry }) => entry.type),
    ['task.submitted', 'task.submitted'],
  );
  assert.is(ship!.correlation, build!.correlation);
  assert.equal(fleet.task(ship!.id).schedule, { after: [build!.id] });
  const running = fleet.running(m);
  assert.is(running.task, build!.id);
  assert.is(m.running.size, 1);
  fleet.finish(m, running);
  assert.is(fleet.running(m).task, ship!.id);
  assert.is(sent(fleet, [item({ spec: { env: { B: 'c' } } })], 'ci-7')[0]!.correlation, 'ci-7');
});

test('what is wrong with one task is said of it, and none is queued', () => {
  const fleet = new Fleet({ config: { openPerSubmitterMax: 3 } });
  fleet.join('m1', { roles: ['worker'] });
  const cases: [BatchItem[], RegExp][] = [
    [[item({ name: 'a', after: ['b'] }), item({ name: 'b', after: ['a'] })], /in a circle/],
    [[item({ name: 'a', after: ['a'] })], /in a circle/],
    [[item(), item({ after: ['nobody'] })], /^task 2 of the batch comes after nobody, which is not there/],
    [[item(), item({ name: 'x', after: ['abcdefghijkl'] })], /^x: there is no task abcdefghijkl/],
    [[item({ name: 'a' }), item({ name: 'a' })], /^a: another task of the batch has a too/],
    [
      [item({ schedule: { key: 'k' } }), item({ schedule: { key: 'k' } })],
      /another task of the batch has k too/,
    ],
    [[item(), item({ spec: { on: 'ghost' } })], /^task 2 of the batch: no member has the name or id ghost/],
    [
      [item(), item({ spec: { labels: { gpu: '1' } }, unmet: 'refuse' })],
      /^task 2 .*no machine of this mesh can ever take it/,
    ],
    [Array.from({ length: 4 }, () => item()), /too many tasks of this submitter/],
    [Array.from({ length: batchMax + 1 }, () => item()), /that many tasks are not sent at once/],
    [[], /that many tasks/],
    [
      [item(), item({ spec: { argv: Array.from({ length: 20 }, () => 'x'.repeat(8000)) } })],
      /^task 2 of the batch: /,
    ],
  ];
  for (const [items, words] of cases) assert.match(refusal(fleet, items).message, words);
  assert.is(refusal(fleet, cases[0]![0]).got, 'a after b after a');
});

test('a batch sent again finds by their keys the tasks it made before, and makes the others', () => {
  const fleet = new Fleet();
  const keyed = [
    item({ name: 'one', schedule: { key: 'one' } }),
    item({ after: ['one'], schedule: { key: 'two' } }),
  ];
  const [one] = sent(fleet, keyed.slice(0, 1));
  const again = sent(fleet, keyed);
  assert.is(again[0]!.id, one!.id);
  assert.equal(fleet.task(again[1]!.id).schedule?.after, [one!.id]);
  assert.equal(
    sent(fleet, keyed).map(({ id }) => id),
    again.map(({ id }) => id),
  );
  assert.is(fleet.entries.filter(({ type }) => type === 'task.submitted').length, 2);
});

test('any batch without a circle is queued whole, each behind those it comes after', () => {
  const graph = fc
    .integer({ min: 1, max: 40 })
    .chain((size) =>
      fc.tuple(
        fc.shuffledSubarray([...Array(size).keys()], { minLength: size }),
        fc.array(fc.tuple(fc.nat(size - 1), fc.nat(size - 1)), { maxLength: 80 }),
      ),
    );
  fc.assert(
    fc.property(graph, ([rank, edges]) => {
      const fleet = new Fleet();
      const names = rank.map((_, at) => `t${at}`);
      const items = rank.map((mine, at) => {
        const after = edges
          .filter(([from, to]) => from === at && rank[to]! < mine)
          .map(([, to]) => names[to]!);
        return item({ name: names[at]!, ...(after.length === 0 ? {} : { after: [...new Set(after)] }) });
      });
      const made = sent(fleet, items);
      for (const [at, { after = [] }] of items.entries()) {
        const task = fleet.task(made[at]!.id);
        const others = after.map((name) => made[names.indexOf(name)]!.id);
        assert.equal(new Set(task.schedule?.after ?? []), new Set(others));
        for (const id of others) assert.ok(fleet.task(id).number < task.number);
      }
    }),
    { numRuns: 50 },
  );
});

test.run();
