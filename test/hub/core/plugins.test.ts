import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { z } from 'zod';
import type { CorePlugin } from '../../../hub/core/plugin.ts';
import type { StatusObject } from '../../../node/api/objects.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { Fleet, LOCAL, peerOf } from './fleet.ts';

/** A plugin of the tests: it may pause the mesh, and otherwise does what each test gives it. */
const plugin = (parts: Partial<CorePlugin>): CorePlugin => ({
  name: 'tester',
  version: 1,
  events: ['mesh.paused', 'mesh.resumed'],
  ...parts,
});
const PAUSE = { type: 'mesh.paused', body: { by: { kind: 'founder' } } } as const;
const RESUME = { type: 'mesh.resumed', body: { by: { kind: 'founder' } } } as const;
const status = (fleet: Fleet): StatusObject => fleet.ask({ op: 'status' }) as unknown as StatusObject;
const paused = (fleet: Fleet): boolean => fleet.core.state.mesh.paused;

test('what is due is logged once, also after a restart', () => {
  const keeper = plugin({
    next: ({ state }) => (state.mesh.paused ? [] : [{ object: 'mesh', step: 'pause', event: PAUSE }]),
  });
  const fleet = new Fleet({ plugins: [keeper] });
  const count = () => fleet.entries.filter(({ type }) => type === 'mesh.paused').length;
  fleet.advance(1_000);
  assert.is(count(), 1);
  fleet.restart();
  fleet.advance(1_000);
  assert.is(count(), 1);
  fleet.restart(fleet.entries.findIndex(({ type }) => type === 'mesh.paused'));
  assert.not.ok(paused(fleet));
  fleet.advance(1_000);
  assert.equal([count(), paused(fleet)], [1, true], 'a crash before it was durable: it is done again');
});

test('one that asks for the same again is stopped, and the mesh goes on', () => {
  const runaway = plugin({ next: () => [{ object: 'mesh', step: 'pause', event: PAUSE }] });
  const fleet = new Fleet({ plugins: [runaway] });
  fleet.advance(10_000);
  assert.is(fleet.entries.filter(({ type }) => type === 'mesh.paused').length, 1);
  assert.match(
    status(fleet).risks.join('; '),
    /the plugin tester has stopped .*asks again for pause of mesh/,
  );
  fleet.ask({ op: 'mesh.resume' });
  const ada = fleet.join('ada');
  fleet.submit();
  assert.is(ada.running.size, 1);
});

test('one that throws, or logs what is not its own, is stopped, and nothing of it is logged', () => {
  const secret = { type: 'secret.removed', body: { name: 'A', by: { kind: 'founder' } } } as const;
  for (const [next, said] of [
    [() => assert.unreachable('it broke') as never, /it broke/],
    [() => [{ object: 'a', step: 'b', event: secret }], /may not log secret.removed, only mesh.paused/],
    [
      () => [{ object: 'a', step: 'b', event: { ...PAUSE, body: { by: { kind: 'nobody' } } } as never }],
      /by/,
    ],
  ] as [NonNullable<CorePlugin['next']>, RegExp][]) {
    const fleet = new Fleet({ plugins: [plugin({ next }), plugin({ name: 'other' })] });
    const before = fleet.entries.length;
    fleet.advance(1_000);
    assert.is(fleet.entries.length, before);
    assert.match(status(fleet).risks.join('; '), said);
    assert.is(fleet.refusal({ op: 'plugin.read', plugin: 'tester', verb: 'x', body: {} }), 'SF_CONFLICT');
    assert.is(fleet.refusal({ op: 'plugin.read', plugin: 'other', verb: 'x', body: {} }), 'SF_NOT_FOUND');
    const ada = fleet.join('ada');
    fleet.submit();
    assert.is(ada.running.size, 1);
  }
});

test('a task that is held waits, says why, and goes on when the hold is over; what a stopped plugin was to judge waits', () => {
  let hold: CorePlugin['hold'] = (_view, _task, member) =>
    member === peerOf('ada') ? 'has spent its day' : null;
  const fleet = new Fleet({ plugins: [plugin({ hold: (...asked) => hold!(...asked) })] });
  const ada = fleet.join('ada');
  const id = fleet.submit();
  fleet.advance(1_000);
  assert.is(ada.running.size, 0);
  const why = fleet.why(id);
  assert.is(why.wait, 'held');
  assert.match(why.reasons.join(), /has spent its day/);
  assert.is(why.members.find(({ name }) => name === 'ada')?.why, 'has spent its day');
  const eve = fleet.join('eve');
  assert.equal([ada.running.size, eve.running.size], [0, 1], 'another member takes it');
  fleet.submit();
  fleet.submit();
  assert.equal([ada.running.size, eve.running.size], [0, 2]);
  hold = () => null;
  fleet.advance(1_000);
  assert.is(ada.running.size, 1);
  hold = () => assert.unreachable('it broke') as never;
  const stuck = fleet.submit();
  fleet.advance(1_000);
  assert.is(ada.running.size, 1);
  assert.match(fleet.why(stuck).reasons.join(), /the plugin tester, which decides on it, has stopped/);
});

test('its verbs are asked and changed by right, checked, and refused whole', () => {
  const body = z.strictObject({ pause: z.boolean() });
  const switcher = plugin({
    reads: { paused: { right: 'view', body: z.null(), answer: ({ state }) => state.mesh.paused } },
    writes: {
      pause: {
        right: 'operate',
        body,
        decide: ({ state }, asked) => {
          if ((asked as { pause: boolean }).pause) return [PAUSE];
          if (!state.mesh.paused) throw new SuperfleetError('SF_CONFLICT', 'the mesh is not paused');
          // The second is none: not even the first may be logged.
          return [RESUME, { type: 'mesh.resumed', body: {} } as never];
        },
        answer: ({ state }) => state.mesh.paused,
      },
    },
  });
  const fleet = new Fleet({ plugins: [switcher] });
  const ada = fleet.join('ada', { roles: ['worker', 'viewer'] });
  const by = { kind: 'peer', peer: ada.peer } as const;
  const read = { op: 'plugin.read', plugin: 'tester', verb: 'paused', body: null } as const;
  const write = (pause: unknown) =>
    ({ op: 'plugin.write', plugin: 'tester', verb: 'pause', body: { pause } }) as const;
  assert.is(fleet.ask(read, by) as unknown, false);
  assert.is(fleet.refusal(write(true), by), 'SF_REFUSED');
  assert.is(fleet.refusal(write('yes')), 'SF_USAGE');
  assert.is(fleet.refusal(write(false)), 'SF_CONFLICT', 'its own refusal is the answer');
  assert.is(fleet.ask(write(true), LOCAL) as unknown, true);
  assert.is(fleet.ask(read, by) as unknown, true);
  const before = fleet.entries.length;
  assert.is(fleet.refusal(write(false)), 'SF_CONFLICT', 'it broke, and is stopped');
  assert.equal([fleet.entries.length, paused(fleet)], [before, true]);
  assert.is(fleet.refusal(read), 'SF_CONFLICT');
});

test.run();
