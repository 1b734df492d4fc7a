import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EffectGate, heldEffectsHigh, heldEffectsMax } from '../../../hub/core/gate.ts';
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
