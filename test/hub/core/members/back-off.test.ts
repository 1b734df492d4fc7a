import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { restAfterFaults, restJitter, restMaxMs } from '../../../../hub/core/config.ts';
import { restOf, stopRestOf } from '../../../../hub/core/members/back-off.ts';
import type { NodeObject } from '../../../../node/api/objects.ts';
import type { Assignment } from '../../../../protocol/session.ts';
import { CAPACITY, Fleet, LOCAL, type TestMember } from '../fleet.ts';

const BROKEN = { outcome: 'failed', reason: 'refused', fault: 'machine', envelope: null } as const;
const ENVIRONMENT = { ...BROKEN, reason: 'environment', detail: 'no cc on it' } as const;

const nodeOf = (fleet: Fleet, { name }: TestMember): NodeObject =>
  fleet.ask<NodeObject>({ op: 'node.get', member: name });
/** Fails what the member runs until it is given nothing for a while; how many that took. */
function failUntilRest(fleet: Fleet, member: TestMember): number {
  for (let failed = 0; failed < 20; failed += 1) {
    if (/by its own fault/.test(nodeOf(fleet, member).work ?? '')) return failed;
    for (let waited = 0; member.running.size === 0 && waited < 60; waited += 1) fleet.advance(250);
    fleet.finish(member, fleet.running(member), BROKEN);
  }
  throw new Error('it never rested');
}

test('a machine whose attempts fail again and again rests, is tried with one attempt, and works on after a success', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const first = fleet.submit({ checks: [] });
  assert.is(failUntilRest(fleet, ada), restAfterFaults);
  fleet.submit({ checks: [] });
  assert.is(ada.running.size, 0);
  assert.match(
    nodeOf(fleet, ada).work ?? '',
    /^failed 3 attempts in a row by its own fault, .* until \d\d:\d\d:\d\dZ/,
  );
  const why = fleet.why(first);
  assert.is(why.wait, 'unavailable');
  assert.match(why.members.find(({ name }) => name === 'ada')!.why, /until \d\d:\d\d:\d\dZ/);
  assert.ok(why.remedies.includes('mesh-hub node eligible ada'));
  fleet.advance(restOf(restAfterFaults) - 250);
  assert.is(ada.running.size, 0, 'not before its time');
  fleet.advance(restOf(restAfterFaults) * restJitter + 500);
  assert.is(ada.running.size, 1, 'one as a probe, of two slots and two tasks');
  fleet.finish(ada, fleet.running(ada));
  assert.is(ada.running.size, 1);
  assert.is(nodeOf(fleet, ada).work, 'takes tasks');
  fleet.submit({ checks: [] });
  assert.is(ada.running.size, 2, 'all of its slots again');
});

test('a probe that fails makes the rest twice as long, and never longer than the longest', () => {
  const fleet = new Fleet({ config: { machineFaultsMax: 100 } });
  const ada = fleet.join('ada');
  fleet.submit({ checks: [] });
  failUntilRest(fleet, ada);
  for (let faults = restAfterFaults; faults < 9; faults += 1) {
    const from = fleet.now;
    while (ada.running.size === 0) fleet.advance(1_000, 1_000);
    const rested = fleet.now - from;
    assert.ok(
      rested >= restOf(faults) && rested <= restOf(faults) * (1 + restJitter) + 1_000,
      `${faults}: ${rested}`,
    );
    fleet.finish(ada, fleet.running(ada), BROKEN);
  }
  assert.is(restOf(8), restMaxMs);
});

test('a person ends a rest, and so does nobody else who may not', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.submit({ checks: [] });
  failUntilRest(fleet, ada);
  const by = { kind: 'peer', peer: ada.peer } as const;
  assert.is(fleet.refusal({ op: 'member.eligible', member: 'ada', eligible: true }, by), 'SF_REFUSED');
  fleet.submit({ checks: [] });
  assert.is(ada.running.size, 0);
  const logged = fleet.entries.length;
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: true });
  assert.is(ada.running.size, 1);
  assert.is(fleet.entries.length, logged + 1, 'the lease: it was eligible as far as the log goes');
});

test('what a task lacks counts against a machine only when it was found elsewhere', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  for (let count = 0; count < 6; count += 1) {
    fleet.submit({ checks: [], argv: ['mistyped'], on: 'ada' });
    fleet.finish(ada, fleet.running(ada), ENVIRONMENT);
  }
  assert.is(nodeOf(fleet, ada).work, 'takes tasks', 'a word mistyped six times');
  const bob = fleet.join('bob');
  for (let count = 0; count < restAfterFaults; count += 1) {
    // Bob is busy meanwhile, so that ada is asked first.
    for (let slot = 0; slot < CAPACITY.slots; slot += 1) fleet.submit({ checks: [], on: 'bob' });
    fleet.submit({ checks: [], argv: ['cc'] });
    fleet.finish(ada, fleet.running(ada), ENVIRONMENT);
    for (const one of [...bob.running.values()]) fleet.finish(bob, one);
    fleet.finish(bob, fleet.running(bob));
    fleet.advance(250);
  }
  assert.match(nodeOf(fleet, ada).work ?? '', /^failed 3 attempts in a row/);
});

test('what is lost in one moment is one fault; an owner, a pause and a drain are none', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const stop = (act: 'owner' | 'mesh'): void => {
    const held = [...ada.running.values()];
    if (act === 'owner') fleet.member(ada, { type: 'owner', act: 'pause' });
    else fleet.ask({ op: 'mesh.pause' });
    for (const one of held) fleet.gone(ada, one);
    if (act === 'owner') fleet.member(ada, { type: 'owner', act: 'resume' });
    else fleet.ask({ op: 'mesh.resume' });
    fleet.advance(2_000);
    assert.is(ada.running.size, 2);
  };
  for (let count = 0; count < 3; count += 1) fleet.submit({ checks: [] });
  for (let count = 0; count < 4; count += 1) stop(count % 2 === 0 ? 'owner' : 'mesh');
  assert.is(nodeOf(fleet, ada).work, 'takes tasks');
  for (let count = 0; count < 2; count += 1) {
    const held = [...ada.running.values()];
    fleet.disconnect(ada);
    fleet.advance(3_000);
    fleet.connect(ada);
    for (const one of held) fleet.gone(ada, one);
    fleet.advance(2_000);
    assert.is(ada.running.size, 2, 'two attempts were lost with it, once');
  }
  assert.is(nodeOf(fleet, ada).work, 'takes tasks');
});

test('owners’ stops in a row make a machine rest longer each time, and what it does in between ends that', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ checks: [] });
  /** How long nothing is given to it after its owner stopped it, ms. */
  const stop = (): number => {
    const held = fleet.running(ada);
    fleet.member(ada, { type: 'owner', act: 'pause' });
    fleet.gone(ada, held);
    fleet.member(ada, { type: 'owner', act: 'resume' });
    const from = fleet.now;
    while (ada.running.size === 0 && fleet.now < from + 10 * 60_000) fleet.advance(250);
    return fleet.now - from;
  };
  for (let stops = 1; stops <= 12; stops += 1) {
    const rested = stop();
    assert.ok(rested >= stopRestOf(stops), `${stops}: ${rested}`);
    assert.ok(rested <= stopRestOf(stops) + 1_000, `${stops}: ${rested}`);
  }
  assert.is(stopRestOf(12), restMaxMs);
  fleet.member(ada, { type: 'owner', act: 'pause' });
  fleet.gone(ada, fleet.running(ada));
  fleet.member(ada, { type: 'owner', act: 'resume' });
  fleet.advance(2_000);
  assert.match(
    nodeOf(fleet, ada).work ?? '',
    /^was stopped by its owner 13 times in a row, and rests for 120 s$/,
  );
  assert.ok(fleet.why(id).remedies.includes('mesh-hub node eligible ada'));
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: true });
  fleet.advance(2_000);
  fleet.finish(ada, fleet.running(ada));
  assert.is(fleet.task(id).state, 'delivered');
  fleet.submit({ checks: [] });
  assert.ok(stop() <= 2_000);
});

test('seeds: nothing is given to a machine that rests, one at a time to one that is probed, and every task ends', () => {
  for (let seed = 1; seed <= 15; seed += 1) seeded(seed);
});

function seeded(seed: number): void {
  let state = seed;
  const chance = (of: number): boolean => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < of;
  };
  const fleet = new Fleet();
  const members = ['ada', 'bob', 'cyd'].map((name) => fleet.join(name));
  const sick = new Map(members.map((member, place) => [member, place * 0.45]));
  const tasks: string[] = [];
  const rests = (member: TestMember): boolean => /by its own fault/.test(nodeOf(fleet, member).work ?? '');
  for (let step = 0; step < 160; step += 1) {
    if (step < 110 && chance(0.3)) tasks.push(fleet.submit({ checks: [] }));
    for (const member of members) {
      const held = new Set(member.running.keys());
      const resting = rests(member);
      const open: Assignment | undefined = [...member.running.values()][0];
      if (open !== undefined && chance(0.7)) {
        if (chance(sick.get(member)!)) fleet.finish(member, open, BROKEN);
        else fleet.finish(member, open);
      }
      // What came to its end may have ended the rest; else nothing new came.
      if (resting && rests(member))
        for (const key of member.running.keys()) assert.ok(held.has(key), `seed ${seed}`);
    }
    if (step === 130) for (const member of members) sick.set(member, 0);
    fleet.advance(500);
  }
  for (let waited = 0; fleet.core.state.tasks.open.size > 0 && waited < 4_000; waited += 1) {
    for (const member of members) for (const one of [...member.running.values()]) fleet.finish(member, one);
    fleet.advance(500);
  }
  const states = tasks.map((id) => fleet.task(id).state);
  assert.ok(
    states.every((one) => one === 'delivered' || one === 'failed'),
    `seed ${seed}: ${states.join(' ')}`,
  );
}

test('what still runs on a drained machine at its deadline goes elsewhere, and counts against nobody', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const bob = fleet.join('bob');
  const task = fleet.submit({ checks: [], on: 'ada' });
  const other = fleet.submit({ checks: [], on: 'bob' });
  fleet.start(ada, fleet.running(ada));
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false, deadlineMs: 60_000 });
  assert.match(nodeOf(fleet, ada).work ?? '', /^is draining; what runs there may until \d\d:\d\d:\d\dZ$/);
  fleet.advance(30_000);
  assert.is(ada.running.size, 1);
  fleet.restart();
  for (const member of [ada, bob]) fleet.connect(member);
  fleet.advance(29_000);
  assert.is(fleet.task(task).state, 'running', 'before its time');
  fleet.advance(1_500);
  assert.is(fleet.task(task).state, 'queued');
  assert.is(fleet.task(task).lastEnd!.fault, 'person');
  assert.equal([fleet.task(task).retriesUsed, fleet.task(task).machineFaults], [0, 0]);
  assert.equal(fleet.task(task).avoid, []);
  assert.ok(
    ada.effects.some(({ type }) => type === 'stop'),
    'it was told to stop',
  );
  assert.is(fleet.task(other).state, 'assigned', 'another machine is not its business');
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: true }, LOCAL);
  fleet.gone(ada, { task, attempt: 1, epoch: 1 });
  fleet.advance(250);
  assert.is(fleet.task(task).attemptCount, 2);
  fleet.advance(120_000);
  assert.is(fleet.task(task).attemptCount, 2, 'a deadline of one that is eligible again is none');
});

test('a deadline can be set later, and taken away again', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const task = fleet.submit({ checks: [] });
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false });
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false, deadlineMs: 5_000 });
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false });
  fleet.advance(20_000);
  assert.is(fleet.task(task).state, 'assigned');
  fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false, deadlineMs: 0 });
  fleet.advance(250);
  assert.is(fleet.task(task).state, 'queued');
});

test.run();
