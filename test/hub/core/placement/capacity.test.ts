import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { elasticAfterMs } from '../../../../hub/core/config.ts';
import type { CapacityObject, StatusObject } from '../../../../node/api/objects.ts';
import { CAPACITY, Fleet, LOCAL } from '../fleet.ts';

const small = { config: { ringSlots: 3, elasticSlots: 5 } };

const capacity = (fleet: Fleet): CapacityObject => fleet.ask({ op: 'capacity' });
const needs = (fleet: Fleet): string =>
  fleet
    .ask<StatusObject>({ op: 'status' })
    .needs.map(({ what, command }) => `${what}: ${command}`)
    .join('\n');

/** One machine with more slots than the mesh may use, and more tasks than those. */
function crowd(options = small, tasks = 12) {
  const fleet = new Fleet(options);
  const ada = fleet.join('ada');
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, slots: 8 } });
  const ids = Array.from({ length: tasks }, () => fleet.submit());
  return { fleet, ada, ids };
}

test('the mesh runs its ring, and grows to the elastic bound while work waits that a free slot could take', () => {
  const { fleet, ada, ids } = crowd();
  assert.is(ada.running.size, 3);
  fleet.founder({ type: 'tick' });
  const waiting = fleet.why(ids.at(-1)!);
  assert.is(waiting.wait, 'capacity');
  assert.match(waiting.reasons.join(), /3 attempts run, .* may run 3 now \(ring 3, elastic 5\); 5 in 2 s/);
  assert.not.match(needs(fleet), /idle/, 'it grows by itself');
  fleet.advance(elasticAfterMs - 250);
  assert.is(ada.running.size, 3);
  fleet.advance(1_000);
  assert.is(ada.running.size, 5);
  for (let done = 0; done < 4; done += 1) fleet.finish(ada, fleet.running(ada));
  assert.is(ada.running.size, 5, 'an attempt that ends is followed at once');
});

test('machines that idle for the bound are told of, with the command that gives them work', () => {
  const { fleet, ada, ids } = crowd();
  fleet.advance(3 * elasticAfterMs);
  assert.equal(capacity(fleet), {
    ring: 3,
    elastic: 5,
    set: false,
    bound: 5,
    running: 5,
    idle: 3,
    held: true,
  });
  assert.match(needs(fleet), /tasks wait while 3 slots are idle: .*: mesh-hub capacity set --elastic 8/);
  assert.match(fleet.why(ids.at(-1)!).remedies.join('\n'), /^mesh-hub capacity set --elastic 8$/m);
  assert.equal(fleet.ask<StatusObject>({ op: 'status' }).waits, { capacity: 7 });
  assert.is(fleet.refusal({ op: 'mesh.capacity', elastic: 8 }), 'accepted');
  assert.is(ada.running.size, 8);
  assert.not.match(needs(fleet), /idle/, 'no slot is');
});

test('when nothing waits any more the ring holds again', () => {
  const { fleet, ada } = crowd(small, 5);
  fleet.advance(2 * elasticAfterMs);
  assert.is(ada.running.size, 5);
  assert.is(capacity(fleet).bound, 3);
  fleet.submit();
  fleet.finish(ada, fleet.running(ada));
  assert.is(ada.running.size, 4, 'above the ring nothing more begins at once');
});

test('a task that nobody fits makes no mesh grow', () => {
  const { fleet, ada } = crowd(small, 3);
  fleet.submit({ labels: { gpu: 'a100' } });
  fleet.advance(3 * elasticAfterMs);
  assert.is(ada.running.size, 3);
  assert.equal([capacity(fleet).bound, capacity(fleet).held], [3, false]);
});

test('the bounds are the operator’s, are in the log once, and outlive a restart; elastic never is below the ring', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const set = (ring?: number, elastic?: number, by = LOCAL): string =>
    fleet.refusal(
      {
        op: 'mesh.capacity',
        ...(ring === undefined ? {} : { ring }),
        ...(elastic === undefined ? {} : { elastic }),
      },
      by,
    );
  assert.equal([capacity(fleet).ring, capacity(fleet).elastic], [36, 64]);
  assert.is(set(10, undefined, { kind: 'peer', peer: ada.peer }), 'SF_REFUSED');
  assert.is(set(10, 9), 'SF_USAGE');
  assert.is(set(undefined, 35), 'SF_USAGE');
  const size = fleet.entries.length;
  assert.is(set(100), 'accepted');
  assert.is(set(100), 'accepted');
  assert.is(fleet.entries.length, size + 1);
  fleet.restart();
  assert.equal([capacity(fleet).ring, capacity(fleet).elastic, capacity(fleet).set], [100, 100, true]);
});

test.run();
