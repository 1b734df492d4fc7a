import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Actor } from '../../../../ledger/lines/events.ts';
import { Fleet, LOCAL, peerOf } from '../fleet.ts';

const ANNA: Actor = { kind: 'local', user: 'anna', claimed: true };

test('sent again under the same key by the same submitter it is the same task, also after it ended and after a restart', () => {
  const fleet = new Fleet();
  const m = fleet.join('m1');
  const asked = { schedule: { key: 'nightly-1' } };
  const id = fleet.submit({ checks: [] }, asked);
  assert.is(fleet.submit({ checks: [] }, asked), id);
  fleet.finish(m, fleet.running(m));
  assert.is(fleet.task(id).state, 'delivered');
  assert.is(fleet.submit({ checks: [] }, asked), id);
  fleet.restart();
  assert.is(fleet.submit({ checks: [] }, asked), id);
  assert.is(fleet.entries.filter(({ type }) => type === 'task.submitted').length, 1);
});

test('a key belongs to its submitter, and to the words it was first given to', () => {
  const fleet = new Fleet();
  const asked = { schedule: { key: 'k' } };
  const id = fleet.submit({}, asked);
  assert.throws(() => fleet.submit({ checks: ['false'] }, asked), /the key was given to another task/);
  assert.is.not(fleet.submit({ checks: ['false'] }, asked, ANNA), id);
});

test('the same words twice are told, and refused where the submitter wants them once; when the first has ended they are new', () => {
  const fleet = new Fleet();
  const m = fleet.join('m1');
  const id = fleet.submit({ checks: [] });
  assert.throws(() => fleet.submit({ checks: [] }, { once: true }), new RegExp(`open already: ${id}`));
  fleet.finish(m, fleet.running(m));
  assert.is(fleet.task(id).state, 'delivered');
  const again = fleet.submit({ checks: [] }, { once: true });
  assert.ok(fleet.submit({ checks: [] }, { once: true }, ANNA), 'of another submitter they are others');
  assert.ok(fleet.submit({ checks: ['true'] }, { once: true }));
  assert.is.not(again, id);
});

test('only the operator lets a task go before everybody else’s', () => {
  const fleet = new Fleet();
  fleet.join('sub', { roles: ['submitter'] });
  const by: Actor = { kind: 'peer', peer: peerOf('sub') };
  assert.throws(() => fleet.submit({}, { schedule: { priority: 51 } }, by), /the operator’s to give/);
  fleet.submit({}, { schedule: { priority: 10 } }, by);
  fleet.submit({}, { schedule: { priority: 100 } }, LOCAL);
});

test('to come after a task that is not there, or that came to nothing, is refused at once', () => {
  const fleet = new Fleet();
  assert.throws(() => fleet.submit({}, { schedule: { after: ['abcdefghijkl'] } }), /no task abcdefghijkl/);
  const first = fleet.submit();
  fleet.ask({ op: 'task.stop', task: first });
  assert.throws(() => fleet.submit({}, { schedule: { after: [first] } }), /is cancelled/);
});

test('of several open tasks of the same words each is known until it ends', () => {
  const fleet = new Fleet();
  const first = fleet.submit();
  const second = fleet.submit();
  fleet.ask({ op: 'task.stop', task: second });
  assert.throws(() => fleet.submit({}, { once: true }), new RegExp(`open already: ${first}`));
});

test.run();
