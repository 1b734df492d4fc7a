import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EffectGate, heldEffectsHigh, heldEffectsMax, ReplicatedGate } from '../../../hub/core/gate.ts';
import { Fleet } from './fleet.ts';

test('effects leave in their order, each only when what it rests on is durable (promise 1)', () => {
  const step = fc.oneof(
    fc.record({ hold: fc.array(fc.nat(40), { maxLength: 5 }) }),
    fc.record({ durable: fc.nat(60) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const gate = new EffectGate<{ after: number; order: number }>(-1);
      const out: { after: number; order: number }[] = [];
      let held = 0;
      let durable = -1;
      for (const one of steps) {
        if ('hold' in one) gate.hold(one.hold.map((after) => ({ after, order: held++ })));
        else {
          gate.durable(one.durable);
          durable = Math.max(durable, one.durable);
        }
        const free = gate.release();
        assert.ok(free.every((effect) => effect.after <= durable));
        out.push(...free);
      }
      gate.durable(1000);
      out.push(...gate.release());
      assert.equal(
        out.map((effect) => effect.order),
        Array.from({ length: held }, (_, order) => order),
      );
      assert.is(gate.length, 0);
    }),
  );
});

test('with replicas asked for, an effect leaves when the disk and so many replicas hold what it rests on (promises 1 and 2)', () => {
  const step = fc.oneof(
    fc.record({ hold: fc.array(fc.record({ after: fc.nat(40), passes: fc.boolean() }), { maxLength: 5 }) }),
    fc.record({ disk: fc.nat(60), replicas: fc.option(fc.nat(3), { nil: undefined }) }),
    fc.record({ held: fc.array(fc.nat(60), { maxLength: 4 }) }),
  );
  type Effect = { after: number; passes: boolean; order: number };
  fc.assert(
    fc.property(fc.nat(3), fc.array(step, { maxLength: 60 }), (first, steps) => {
      const gate = new ReplicatedGate<Effect>(-1, first, ({ passes }) => passes);
      const out: Effect[] = [];
      let [order, disk, replicas, reached] = [0, -1, first, -1];
      let sizes: number[] = [];
      for (const one of steps) {
        if ('hold' in one) gate.hold(one.hold.map((effect) => ({ ...effect, order: order++ })));
        else if ('held' in one) {
          sizes = one.held;
          gate.held(sizes);
        } else {
          disk = Math.max(disk, one.disk);
          replicas = one.replicas ?? replicas;
          gate.durable(one.disk, one.replicas);
        }
        // Said once more in the plainest words: how far at least so many replicas have come.
        const common = Array.from({ length: 62 }, (_, size) => size).filter(
          (size) => replicas === 0 || sizes.filter((held) => held >= size).length >= replicas,
        );
        reached = Math.max(reached, Math.min(disk, replicas === 0 ? disk : Math.max(0, ...common) - 1));
        assert.is(gate.index, reached);
        for (const effect of gate.release()) {
          assert.ok(effect.after <= disk);
          assert.ok(effect.passes || effect.after <= reached, 'it rests on what so many replicas hold');
          out.push(effect);
        }
      }
      gate.durable(1000, 0);
      out.push(...gate.release());
      assert.is(out.length, order);
      const orders = out.filter(({ passes }) => !passes).map((effect) => effect.order);
      assert.equal(
        orders,
        orders.toSorted((a, b) => a - b),
        'none of those that wait overtakes another',
      );
    }),
  );
});

test('a log that hangs fills the gate to its bound and no further (promise 18)', () => {
  const gate = new EffectGate<{ after: number }>(-1);
  const some = Array.from({ length: 4096 }, () => ({ after: 1 }));
  while (gate.length + some.length <= heldEffectsMax) gate.hold(some);
  assert.ok(gate.full && heldEffectsHigh < heldEffectsMax);
  assert.throws(() => gate.hold(some), /too much waits/);
});

test('a submission, an assignment and the answer to a read wait for the sync of what they rest on (promise 1)', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.durableTo = fleet.entries.length - 1;
  assert.throws(() => fleet.submit(), /held back/);
  assert.throws(() => fleet.ask({ op: 'task.list', states: null, cursor: null, limit: 10 }), /held back/);
  assert.is(ada.running.size, 0);
  fleet.durableTo = null;
  fleet.flush();
  assert.is(ada.running.size, 1);
});

test.run();
