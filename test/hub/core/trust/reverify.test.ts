import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { againFaultsMax, againMax } from '../../../../hub/core/trust/reverify.ts';
import { defaultBounds } from '../../../../ledger/state/reducer.ts';
import type { StatusObject, TaskDetail } from '../../../../node/api/objects.ts';
import { type Assignment, leaseKey } from '../../../../protocol/session.ts';
import { Random } from '../../../sim/random.ts';
import { CAPACITY, type Fleet, peerOf, type TestMember } from '../fleet.ts';
import { NotingFleet } from '../noting-fleet.ts';

const RED = { outcome: 'failed', reason: 'check', fault: 'task' } as const;
const LACKS = { outcome: 'failed', reason: 'environment', fault: 'machine', envelope: null } as const;

/** A mesh of the founder's machine and trusted others. */
function mesh(names: readonly string[], endedTasks = defaultBounds.endedTasks) {
  const fleet = new NotingFleet(endedTasks);
  const founder = fleet.join('founder', { peer: peerOf('founder') });
  const others = names.map((name) => fleet.join(name));
  for (const member of names) fleet.ask({ op: 'member.trust', member, vouched: true });
  return { fleet, founder, others };
}

const verifying = (fleet: Fleet, task?: string): { member: TestMember; assignment: Assignment }[] =>
  [...fleet.members.values()].flatMap((member) =>
    [...member.running.values()]
      .filter((one) => one.role === 'verify' && (task === undefined || one.task === task))
      .map((assignment) => ({ member, assignment })),
  );

/** A task of `by` that this member verifies. */
function verifiedBy(fleet: Fleet, by: TestMember, verifier: TestMember): string {
  for (;;) {
    const id = fleet.submit({ on: by.name });
    fleet.finish(by, fleet.running(by));
    const [asked] = verifying(fleet, id);
    fleet.finish(asked!.member, asked!.assignment);
    if (asked!.member === verifier) return id;
  }
}

/** The founder finds a result of it invalid. */
function caught(fleet: Fleet, member: TestMember): void {
  for (let round = 0; round < 64; round += 1) {
    const id = fleet.submit({ on: member.name });
    fleet.finish(member, fleet.running(member));
    const [asked] = verifying(fleet, id);
    const wrong = asked!.member.peer === peerOf('founder');
    fleet.finish(asked!.member, asked!.assignment, wrong ? RED : {}, !wrong);
    if (wrong) return;
  }
  throw new Error('the founder was never asked');
}

/** The lease by which this one is verified again: what is before it is confirmed. */
function again(fleet: Fleet, task: string): { member: TestMember; assignment: Assignment } {
  for (let round = 0; round < 64; round += 1) {
    const [found] = verifying(fleet, task);
    if (found !== undefined) return found;
    for (const { member, assignment } of verifying(fleet)) fleet.finish(member, assignment);
    fleet.advance(1_000);
  }
  throw new Error(`nobody verifies ${task} again: ${fleet.why(task).reasons.join('; ')}`);
}

const shown = (fleet: Fleet, task: string): TaskDetail => fleet.ask({ op: 'task.get', task });
const needs = (fleet: Fleet): string[] =>
  fleet.ask<StatusObject>({ op: 'status' }).needs.map(({ what }) => what);
const count = (fleet: Fleet, type: string): number =>
  fleet.entries.filter((entry) => entry.type === type).length;

test('what a machine in quarantine alone verified is verified again by another, few at one time, and stays as it ended', () => {
  const { fleet, others } = mesh(['ada', 'bob', 'eve']);
  const [ada, bob, eve] = others as [TestMember, TestMember, TestMember];
  const ids = [1, 2, 3, 4].map(() => verifiedBy(fleet, bob, ada));
  const other = verifiedBy(fleet, bob, eve);
  assert.equal(verifying(fleet), [], 'nothing is verified again without a reason');
  caught(fleet, ada);
  const seen = new Set<string>();
  for (let round = 0; round < 16 && verifying(fleet).length > 0; round += 1) {
    const open = verifying(fleet);
    assert.ok(open.length <= againMax);
    const [{ member, assignment }] = open as [(typeof open)[0]];
    assert.ok(member !== ada && member !== bob, 'neither whom it rests on nor who made it');
    // The very message of any verification.
    const { accepted } = fleet.task(assignment.task);
    assert.equal(assignment.verify, {
      attempt: accepted!.attempt,
      executor: bob.peer,
      receipt: accepted!.receipt,
      commit: accepted!.commit,
      bundle: accepted!.bundle,
    });
    assert.match(shown(fleet, assignment.task).doubt ?? '', /^only ada verified it/);
    assert.ok(
      fleet.why(assignment.task).reasons.some((words) => /^it is being verified again by/.test(words)),
    );
    seen.add(assignment.task);
    fleet.start(member, assignment);
    fleet.finish(member, assignment);
    const { state, verified, confidence, doubt, reverified, verifier } = shown(fleet, assignment.task);
    assert.equal([state, verified, confidence, doubt], ['delivered', true, 0.9, null]);
    assert.equal(
      [reverified?.outcome, reverified?.by?.id, reverified?.of.name, reverified?.detail],
      ['confirmed', member.peer, 'ada', null],
    );
    assert.is(verifier?.name, 'ada');
  }
  // Those that found her to be wrong rested on her word, too: hers as an executor.
  for (const id of ids) assert.ok(seen.has(id), id);
  assert.not.ok(seen.has(other));
  assert.is(count(fleet, 'reverification.assigned'), count(fleet, 'task.reverified'));
  fleet.agreesWithItsLog();
});

test('status counts what runs, and no verification of what was delivered among it', () => {
  const { fleet, others } = mesh(['ada', 'bob', 'eve']);
  const [ada, bob] = others as [TestMember, TestMember];
  for (const _ of [1, 2]) verifiedBy(fleet, bob, ada);
  caught(fleet, ada);
  assert.is(verifying(fleet).length, againMax);
  const figures = () => {
    const { queue, slots } = fleet.ask<StatusObject>({ op: 'status' });
    return { ...queue, used: slots.used };
  };
  assert.equal(figures(), { queued: 0, running: 0, used: againMax });
  fleet.submit({ on: 'bob' });
  assert.equal(figures(), { queued: 0, running: 1, used: againMax + 1 });
  fleet.finish(bob, fleet.running(bob));
  assert.equal(figures(), { queued: 0, running: 0, used: againMax + 1 }, 'its result is verified, too');
});

test('a contradiction is told to people, takes the confidence, and puts into quarantine who made it; that goes on from there', () => {
  const { fleet, founder, others } = mesh(['ada', 'bob']);
  const [ada, bob] = others as [TestMember, TestMember];
  const hers = verifiedBy(fleet, bob, ada);
  const his = verifiedBy(fleet, ada, bob);
  caught(fleet, ada);
  const red = again(fleet, hers);
  assert.is(red.member.name, 'founder', 'nobody else is left');
  fleet.finish(founder, red.assignment, RED, false);
  const { state, verified, confidence, doubt, reverified } = shown(fleet, hers);
  assert.equal([state, verified, confidence], ['delivered', true, 0.3]);
  assert.is(doubt, 'founder verified it again, and it did not pass: a check was red');
  assert.equal([reverified?.outcome, reverified?.detail], ['contradicted', 'a check was red']);
  assert.is(
    fleet.core.state.members.byPeer.get(bob.peer)?.quarantined?.why,
    'founder found a result of it invalid: a check was red',
  );
  const told = `task ${hers} was delivered; founder verified it again, and it did not pass`;
  assert.ok(needs(fleet).includes(told));
  const why = fleet.why(hers);
  assert.ok(why.reasons.includes(doubt!) && why.remedies.includes(`mesh-hub task rerun ${hers}`));
  // He alone vouched for what she made: that is verified again now.
  const next = again(fleet, his);
  fleet.finish(next.member, next.assignment);
  assert.is(shown(fleet, his).reverified?.outcome, 'confirmed');
  assert.is(shown(fleet, hers).reverified?.outcome, 'contradicted', 'a word is not asked for twice');
  assert.equal(verifying(fleet, hers), []);
  // Whoever runs it again has looked at it.
  fleet.ask({ op: 'task.rerun', task: hers });
  assert.not.ok(needs(fleet).includes(told));
  fleet.agreesWithItsLog();
});

test('what a machine in quarantine made and nobody verified is verified, and stays a proposal (promise 19)', () => {
  const { fleet, others } = mesh(['ada', 'bob']);
  const [ada] = others as [TestMember];
  for (let round = 0; round < 30; round += 1) verifiedBy(fleet, ada, others[1]!);
  fleet.ask({ op: 'trust.sampling', on: true });
  let alone: string | null = null;
  while (alone === null) {
    const id = fleet.submit({ on: 'ada' });
    fleet.finish(ada, fleet.running(ada));
    const [asked] = verifying(fleet, id);
    if (asked === undefined) alone = id;
    else fleet.finish(asked.member, asked.assignment);
  }
  fleet.ask({ op: 'trust.sampling', on: false });
  caught(fleet, ada);
  const asked = again(fleet, alone);
  fleet.finish(asked.member, asked.assignment);
  const { verified, confidence, doubt, reverified } = shown(fleet, alone);
  assert.equal([verified, confidence, doubt, reverified?.outcome], [false, 0.3, null, 'confirmed']);
});

test('nobody is asked while the mesh is paused, and none takes a place that somebody’s work wants', () => {
  const { fleet, founder, others } = mesh(['ada', 'bob']);
  const [ada, bob] = others as [TestMember, TestMember];
  for (const member of [founder, ada, bob])
    fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, slots: 1 } });
  const id = verifiedBy(fleet, bob, ada);
  const first = fleet.submit({ on: 'founder' });
  const begun = fleet.running(founder);
  // The founder is busy: whoever is trusted besides judges her.
  const own = fleet.submit({ on: 'ada' });
  fleet.finish(ada, fleet.running(ada));
  const judge = verifying(fleet, own)[0]!;
  fleet.finish(judge.member, judge.assignment, RED, false);
  fleet.advance(4_000);
  assert.equal(verifying(fleet, id), [], 'the one who may has no free slot');
  assert.ok(fleet.why(id).reasons.some((words) => /^it is verified again by itself/.test(words)));
  fleet.ask({ op: 'mesh.pause' });
  fleet.gone(founder, begun);
  fleet.advance(4_000);
  assert.equal(verifying(fleet), []);
  fleet.ask({ op: 'task.stop', task: first });
  fleet.ask({ op: 'mesh.resume' });
  fleet.advance(4_000);
  const asked = again(fleet, id);
  assert.is(asked.member, founder);
  // His work runs elsewhere: nobody gives way. Work for this machine takes its place.
  const elsewhere = fleet.submit({ on: 'bob' });
  fleet.advance(4_000);
  assert.equal([fleet.task(elsewhere).state, verifying(fleet, id).length], ['assigned', 1]);
  const wanted = fleet.submit({ on: 'founder' });
  fleet.advance(4_000);
  assert.not.ok(fleet.core.verifyingAgain.includes(id), 'it gives its place');
  fleet.gone(founder, asked.assignment);
  fleet.advance(1_000);
  assert.is(fleet.running(founder).task, wanted);
  assert.is(fleet.task(id).state, 'delivered');
  fleet.finish(founder, fleet.running(founder));
  fleet.advance(20_000);
  const later = again(fleet, id);
  assert.ok(later.assignment.attempt > asked.assignment.attempt);
  // The kill switch stops it as it stops everything.
  fleet.ask({ op: 'mesh.pause' });
  assert.equal([fleet.core.sizes().leases, fleet.core.verifyingAgain], [0, []]);
  fleet.agreesWithItsLog();
});

test('a founder that starts anew goes on with it: its lease is the log’s', () => {
  const { fleet, founder, others } = mesh(['ada', 'bob']);
  const [ada, bob] = others as [TestMember, TestMember];
  const ids = [verifiedBy(fleet, bob, ada), verifiedBy(fleet, bob, ada), verifiedBy(fleet, bob, ada)];
  caught(fleet, ada);
  const before = verifying(fleet);
  assert.is(before.length, againMax);
  fleet.restart();
  for (const member of fleet.members.values()) fleet.connect(member);
  fleet.advance(2_000);
  assert.equal(
    verifying(fleet).map(({ assignment }) => assignment.attempt),
    before.map(({ assignment }) => assignment.attempt),
    'what runs goes on',
  );
  for (let round = 0; round < 40 && verifying(fleet).length > 0; round += 1) {
    const { member, assignment } = verifying(fleet)[0]!;
    fleet.finish(member, assignment);
    fleet.advance(1_000);
  }
  for (const id of ids) assert.is(shown(fleet, id).reverified?.outcome, 'confirmed', id);
  // One that does not come back loses its lease as ever, and another is asked.
  const more = verifiedBy(fleet, founder, bob);
  caught(fleet, bob);
  assert.equal(verifying(fleet, more), [], 'nobody is left who may');
  fleet.ask({ op: 'member.trust', member: 'ada', vouched: true });
  fleet.advance(2_000);
  assert.is(again(fleet, more).member.name, 'ada');
  fleet.disconnect(ada);
  fleet.advance(5_000);
  assert.not.ok(fleet.core.verifyingAgain.includes(more));
  fleet.connect(ada);
  for (const assignment of [...ada.running.values()]) fleet.gone(ada, assignment);
  assert.is(again(fleet, more).member.name, 'ada');
  fleet.agreesWithItsLog();
});

test('where nobody can say, it says so and why, and is not tried for ever', () => {
  const { fleet, others } = mesh(['ada', 'bob', 'eve']);
  const [ada, bob] = others as [TestMember, TestMember];
  const id = verifiedBy(fleet, bob, ada);
  caught(fleet, ada);
  const asked: string[] = [];
  for (let round = 0; round < 20; round += 1) {
    for (const { member, assignment } of verifying(fleet)) {
      if (assignment.task !== id) fleet.finish(member, assignment);
      else {
        asked.push(member.name);
        fleet.finish(member, assignment, { ...LACKS, detail: 'the bundle is gone' });
      }
    }
    fleet.advance(1_000);
  }
  assert.is(asked.length, againFaultsMax);
  assert.is(new Set(asked.slice(0, 2)).size, 2, 'another is asked first');
  const { reverified, doubt, confidence } = shown(fleet, id);
  assert.equal([reverified?.outcome, reverified?.by, confidence], ['unavailable', null, 0.9]);
  assert.match(reverified?.detail ?? '', /the bundle is gone$/);
  assert.match(
    doubt ?? '',
    /^only ada verified it.*; it could not be verified again: 3 attempts at it could not say/,
  );
  fleet.agreesWithItsLog();
});

test('one that cannot say is not asked in the place of another who is busy, and rests as after any fault', () => {
  const { fleet, founder, others } = mesh(['ada', 'bob', 'eve']);
  const [ada, bob, eve] = others as [TestMember, TestMember, TestMember];
  fleet.member(founder, { type: 'capacity', capacity: { ...CAPACITY, slots: 1 } });
  const id = verifiedBy(fleet, bob, ada);
  const blocker = fleet.submit({ on: 'founder' });
  const blocking = fleet.running(founder);
  assert.is(blocking.task, blocker);
  // She is caught by the only other who is free.
  for (let round = 0; fleet.core.state.members.byPeer.get(ada.peer)?.quarantined === undefined; round += 1) {
    assert.ok(round < 64);
    const own = fleet.submit({ on: 'ada' });
    fleet.finish(ada, fleet.running(ada));
    const judge = verifying(fleet, own)[0]!;
    fleet.finish(judge.member, judge.assignment, RED, false);
  }
  let asked = 0;
  for (let round = 0; round < 20; round += 1) {
    for (const { member, assignment } of verifying(fleet)) {
      if (assignment.task !== id) fleet.finish(member, assignment);
      else {
        assert.is(member, eve);
        asked += 1;
        const { task, attempt, epoch } = assignment;
        member.running.delete(leaseKey(assignment));
        const why = { why: 'unknown', detail: null, correlation: assignment.correlation } as const;
        const message = { type: 'stopped', task, attempt, epoch, ...why } as const;
        fleet.founder({ type: 'received', peer: member.peer, session: member.session!, message });
        assert.is(fleet.core.verifyingAgain.includes(id), false);
      }
    }
    fleet.advance(1_000);
  }
  assert.is(asked, 1);
  assert.is(shown(fleet, id).reverified, null, 'the other may still say');
  fleet.finish(founder, blocking);
  fleet.advance(4_000);
  const later = again(fleet, id);
  assert.is(later.member, founder);
  fleet.finish(founder, later.assignment);
  assert.is(shown(fleet, id).reverified?.outcome, 'confirmed');
  fleet.agreesWithItsLog();
});

for (const works of [false, true]) {
  const whose = works ? 'that does other work meanwhile' : 'that does nothing else';
  test(`a member ${whose} and stops each with its owner’s word adds ever fewer entries to the log`, () => {
    const { fleet, founder, others } = mesh(['ada', 'bob', 'eve']);
    const [ada, bob, eve] = others as [TestMember, TestMember, TestMember];
    const id = verifiedBy(fleet, bob, ada);
    caught(fleet, ada);
    fleet.disconnect(founder);
    fleet.advance(4_000);
    const asked = new Map<string, number>();
    for (let second = 0; second < 1_200; second += 1) {
      if (works && eve.running.size === 0) fleet.submit({ checks: [], on: 'eve' });
      for (const one of [...eve.running.values()]) if (one.role === 'execute') fleet.finish(eve, one);
      const held = [...eve.running.values()];
      if (held.length > 0) fleet.member(eve, { type: 'owner', act: 'pause' });
      for (const one of held) {
        asked.set(one.task, (asked.get(one.task) ?? 0) + 1);
        fleet.gone(eve, one);
      }
      if (held.length > 0) fleet.member(eve, { type: 'owner', act: 'resume' });
      fleet.advance(1_000, 1_000);
    }
    assert.ok((asked.get(id) ?? 0) >= 5, 'it is tried again');
    for (const [task, times] of asked) assert.ok(times <= 20, `${task}: ${times} times in 20 minutes`);
    // It is no fault: when she lets it, it is done.
    for (let round = 0; verifying(fleet, id).length === 0; round += 1) {
      assert.ok(round < 200);
      fleet.advance(1_000, 1_000);
    }
    const [{ member, assignment }] = verifying(fleet, id) as [{ member: TestMember; assignment: Assignment }];
    assert.is(member, eve);
    fleet.finish(member, assignment);
    assert.is(shown(fleet, id).reverified?.outcome, 'confirmed');
    fleet.agreesWithItsLog();
  });
}

test('a task that leaves the state meanwhile keeps no lease, and the log tells what came of it', () => {
  const { fleet, others } = mesh(['ada', 'bob'], 4);
  const [ada, bob] = others as [TestMember, TestMember];
  const id = verifiedBy(fleet, bob, ada);
  caught(fleet, ada);
  const asked = again(fleet, id);
  for (let round = 0; round < 6; round += 1) {
    const other = fleet.submit({ checks: [] });
    const runner = [...fleet.members.values()].find(({ running }) =>
      [...running.values()].some(({ task }) => task === other),
    )!;
    fleet.finish(runner, [...runner.running.values()].find(({ task }) => task === other)!);
  }
  assert.is(fleet.core.state.tasks.byId.has(id), false);
  fleet.advance(4_000);
  fleet.finish(asked.member, asked.assignment);
  assert.equal([fleet.core.verifyingAgain, fleet.core.sizes().leases], [[], 0]);
  assert.is(shown(fleet, id).reverified?.outcome, 'confirmed', 'as it is read from the log');
  fleet.agreesWithItsLog();
});

test('whatever happens between, it ends; and what the log says is what the core has (seeds)', () => {
  for (let seed = 1; seed <= 16; seed += 1) {
    const random = new Random(seed);
    const { fleet, others } = mesh(['ada', 'bob', 'eve', 'ida'], 24);
    const [ada] = others as [TestMember];
    const ids = new Set<string>();
    for (let n = 0; n < 6; n += 1) ids.add(verifiedBy(fleet, random.pick(others.slice(1)), ada));
    caught(fleet, ada);
    for (let step = 0; step < 60; step += 1) {
      const open = verifying(fleet);
      assert.ok(fleet.core.verifyingAgain.length <= againMax, `seed ${seed}`);
      const one = open.length > 0 ? random.pick(open) : null;
      const chance = random.next();
      if (one !== null && chance < 0.4) {
        const passed = random.chance(0.9);
        fleet.finish(one.member, one.assignment, passed ? {} : RED, passed);
      } else if (one !== null && chance < 0.5) fleet.finish(one.member, one.assignment, LACKS);
      else if (chance < 0.55) fleet.ask({ op: random.chance(0.5) ? 'mesh.pause' : 'mesh.resume' });
      else if (chance < 0.62) {
        fleet.restart();
        for (const member of fleet.members.values()) fleet.connect(member);
      } else if (chance < 0.7) {
        const member = random.pick(others);
        fleet.disconnect(member);
        fleet.advance(3_000);
        fleet.connect(member);
      } else if (chance < 0.75)
        fleet.ask({ op: 'member.trust', member: random.pick(others).name, vouched: true });
      else fleet.advance(1_000);
      // What was told to stop stops.
      for (const member of fleet.members.values())
        for (const assignment of [...member.running.values()])
          if (fleet.core.state.mesh.paused) fleet.gone(member, assignment);
    }
    fleet.ask({ op: 'mesh.resume' });
    for (let round = 0; round < 80; round += 1) {
      for (const { member, assignment } of verifying(fleet)) fleet.finish(member, assignment);
      fleet.advance(1_000);
    }
    assert.equal(fleet.core.verifyingAgain, [], `seed ${seed}`);
    for (const id of ids) assert.is(shown(fleet, id).state, 'delivered', `seed ${seed}`);
    fleet.agreesWithItsLog();
  }
});

test.run();
