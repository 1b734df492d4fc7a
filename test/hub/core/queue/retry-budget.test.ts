import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { retriesAtOnce, retriesPerSecond, retryHeldMaxMs, retryShare } from '../../../../hub/core/config.ts';
import { RetryBudget } from '../../../../hub/core/queue/retry-budget.ts';
import { CAPACITY, Fleet } from '../fleet.ts';

test('so many retries go at once, then one by one; first attempts and time give some back, and no more than that', () => {
  const budget = new RetryBudget();
  for (let count = 0; count < retriesAtOnce; count += 1) assert.is(budget.take(0), 0);
  assert.is(budget.isSpent(0), false);
  assert.is(budget.take(0), 1000 / retriesPerSecond);
  assert.is(budget.take(0), 2000 / retriesPerSecond);
  assert.is(budget.isSpent(0), true);
  for (let count = 0; count <= 3 / retryShare; count += 1) budget.firstStart();
  assert.is(budget.take(0), 0);
  assert.is(budget.take(10_000 / retriesPerSecond), 0, 'time gave ten');
  for (let count = 0; count < 10_000; count += 1) budget.firstStart();
  for (let count = 0; count < retriesAtOnce; count += 1) budget.take(20_000);
  assert.ok(budget.take(20_000) > 0);
  for (let count = 0; count < 10_000; count += 1) assert.ok(budget.take(20_000) <= retryHeldMaxMs);
});

test('seeds: where everything fails, retries stay within their budget, and every task comes to its end', () => {
  for (let seed = 1; seed <= 3; seed += 1) {
    const slots = 250;
    const fleet = new Fleet({ config: { ringSlots: 2 * slots } });
    const members = ['ada', 'bob'].map((name) => fleet.join(name));
    for (const member of members)
      fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, slots } });
    let state = seed;
    const chance = (of: number): boolean => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32 < of;
    };
    const tasks = Array.from({ length: 200 + 50 * seed }, () => fleet.submit({ checks: [], retries: 1 }));
    let [firsts, retries] = [0, 0];
    const from = fleet.now;
    const end = (share: number): void => {
      for (const member of members) {
        for (const assignment of [...member.running.values()]) {
          if (assignment.attempt === 1) firsts += 1;
          else retries += 1;
          const failed = chance(share);
          const change = {
            outcome: 'failed',
            reason: 'task',
            fault: 'task',
            exitCode: 1,
            commit: null,
          } as const;
          fleet.finish(member, assignment, failed ? { ...change, bundle: null } : {});
        }
      }
      const most = retriesAtOnce + retryShare * firsts + ((fleet.now - from) / 1000) * retriesPerSecond;
      assert.ok(retries <= most + 1, `seed ${seed}: ${retries} retries, ${firsts} first attempts`);
    };
    end(0.95);
    const late = tasks.map((id) => fleet.task(id)).filter(({ state }) => state === 'queued');
    assert.ok(late.length > retriesAtOnce, `seed ${seed}`);
    fleet.advance(4_000);
    end(0.9);
    const waits = late.find(({ state }) => state === 'queued')!;
    assert.match(fleet.why(waits.id).reasons.join(), /so many tasks of the mesh failed/);
    for (let waited = 0; fleet.core.state.tasks.open.size > 0 && waited < 400; waited += 1) {
      fleet.advance(1_000, 1_000);
      end(0.9);
    }
    const states = tasks.map((id) => fleet.task(id).state);
    assert.ok(
      states.every((one) => one === 'delivered' || one === 'failed'),
      `seed ${seed}`,
    );
    assert.is(firsts, tasks.length);
  }
});

test('a fault of the machine waits for nobody’s retries', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  for (let count = 0; count < 2 * retriesAtOnce; count += 1) {
    const id = fleet.submit({ checks: [], retries: 1, on: 'ada' });
    const change = {
      outcome: 'failed',
      reason: 'task',
      fault: 'task',
      exitCode: 1,
      commit: null,
      bundle: null,
    } as const;
    fleet.finish(ada, fleet.running(ada), change);
    assert.is(fleet.task(id).state, 'queued');
  }
  const id = fleet.submit({ checks: [] });
  const change = { outcome: 'failed', reason: 'refused', fault: 'machine', envelope: null } as const;
  const first = [ada, bob].find((member) => member.running.size > 0)!;
  fleet.finish(first, fleet.running(first), change);
  assert.is(fleet.task(id).state, 'assigned');
  assert.is(fleet.task(id).attemptCount, 2);
});

test.run();
