import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EndRate } from '../../../../hub/core/intake/room.ts';
import type { Actor } from '../../../../ledger/lines/events.ts';
import type { SuperfleetError } from '../../../../protocol/errors.ts';
import { Fleet } from '../fleet.ts';

const ANNA: Actor = { kind: 'local', user: 'anna', claimed: true };
const BOB: Actor = { kind: 'local', user: 'bob', claimed: true };

function refusal(act: () => unknown): SuperfleetError {
  try {
    act();
  } catch (thrown) {
    return thrown as SuperfleetError;
  }
  throw new Error('not refused');
}

test('a flood of one submitter leaves room for others, also after a restart', () => {
  const fleet = new Fleet({ config: { openTasksMax: 6, openPerSubmitterMax: 3 } });
  for (let at = 0; at < 3; at += 1) fleet.submit({}, {}, ANNA);
  fleet.restart();
  const error = refusal(() => fleet.submit({}, {}, ANNA));
  assert.is(error.code, 'SF_FULL');
  assert.match(error.expected ?? '', /^at most 3 open tasks of one submitter/);
  for (let at = 0; at < 3; at += 1) fleet.submit({}, {}, BOB);
  assert.match(refusal(() => fleet.submit()).expected ?? '', /^at most 6 open tasks$/);
});

test('who is told that it is full is told when to come back, by how fast tasks have ended', () => {
  const fleet = new Fleet({ config: { openPerSubmitterMax: 3 } });
  const m = fleet.join('m1');
  for (let at = 0; at < 3; at += 1) fleet.submit({ checks: [] });
  const first = refusal(() => fleet.submit());
  assert.is(first.retryAfterMs, null, 'nothing has ended: nothing is known');
  assert.match(first.hint ?? '', /none has lately$/);
  for (let at = 0; at < 4; at += 1) {
    fleet.advance(4_000);
    fleet.finish(m, fleet.running(m));
    fleet.submit({ checks: [] });
  }
  fleet.advance(4_000);
  const later = refusal(() => fleet.submit());
  assert.is(later.retryAfterMs, 4_000);
  assert.match(later.hint ?? '', /in about 4s/);
  fleet.finish(m, fleet.running(m));
  fleet.submit();
});

test('what ended long ago says nothing about when to come back', () => {
  const rate = new EndRate();
  rate.add(0);
  assert.is(rate.backInMs(5_000, 2), 10_000);
  assert.is(rate.backInMs(11 * 60_000, 1), null);
});

test('the wait grows with what is asked for, and is never below a second', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5_000), { minLength: 1, maxLength: 100 }), fc.nat(100), (gaps, tasks) => {
      const rate = new EndRate();
      let now = 0;
      for (const gap of gaps) {
        now += gap;
        rate.add(now);
      }
      const [one, more] = [rate.backInMs(now, tasks), rate.backInMs(now, tasks + 1)];
      return one !== null && more !== null && one >= 1_000 && more >= one;
    }),
  );
});

test.run();
