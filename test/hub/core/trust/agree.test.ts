import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DryRun } from '../../../../hub/core/answers/dry-run.ts';
import { trustRecord } from '../../../../ledger/state/trust.ts';
import type { TaskDetail } from '../../../../node/api/objects.ts';
import { SuperfleetError } from '../../../../protocol/errors.ts';
import { type Assignment, leaseKey, type MemberHello } from '../../../../protocol/session.ts';
import { artifactsDigest, taskSpec } from '../../../../protocol/task.ts';
import { Random } from '../../../sim/random.ts';
import { CAPACITY, type Fleet, HELLO, hex, peerOf, resultOf, type TestMember } from '../fleet.ts';
import { NotingFleet } from '../noting-fleet.ts';

const OTHER = { outcome: 'failed', reason: 'check', fault: 'task', detail: 'another tree' } as const;
/** A mesh of trusted machines: the founder's and others, by owner. */
function mesh(owners: Record<string, string>): NotingFleet {
  const fleet = new NotingFleet();
  fleet.join('founder', { peer: peerOf('founder') });
  for (const [name, owner] of Object.entries(owners)) {
    fleet.join(name, { owner });
    fleet.ask({ op: 'member.trust', member: name, vouched: true });
  }
  return fleet;
}

const NO_CHECKS = { checks: [], artifacts: [] };
const asked = (replicas: number) => ({ schedule: { replicas } });
const at = (fleet: Fleet, task: string): { member: TestMember; assignment: Assignment } => {
  for (const member of fleet.members.values())
    for (const assignment of member.running.values())
      if (assignment.task === task) return { member, assignment };
  throw new Error(`nobody works on ${task}: ${JSON.stringify(fleet.why(task).reasons)}`);
};
const next = (fleet: Fleet, task: string, same = true): TestMember => {
  const { member, assignment } = at(fleet, task);
  if (assignment.role === 'execute') fleet.finish(member, assignment);
  else fleet.finish(member, assignment, same ? {} : OTHER, same);
  return member;
};
const shown = (fleet: Fleet, task: string): TaskDetail => fleet.ask({ op: 'task.get', task });

test('as many machines as were asked for run the command themselves; what all of them make is verified, without a check too', () => {
  for (const repository of [undefined, null]) {
    const fleet = mesh({ ada: 'olga', bob: 'olga', eve: 'olga' });
    const spec = { ...NO_CHECKS, ...(repository === null ? { repository } : {}), secrets: [] };
    const id = fleet.submit(spec, asked(3));
    const artifacts = [{ path: 'a', blob: hex('a'), bytes: 1, sha256: hex('a1') }];
    const first = at(fleet, id);
    assert.is(first.assignment.role, 'execute');
    fleet.finish(first.member, first.assignment, repository === null ? { commit: null, bundle: null } : {});
    const second = at(fleet, id);
    assert.equal(
      [second.assignment.role, second.assignment.verify?.replica],
      ['verify', { artifacts: artifactsDigest([]), log: hex('y') }],
    );
    assert.not.equal(artifactsDigest(artifacts), artifactsDigest([]));
    assert.ok(second.member !== first.member);
    fleet.finish(second.member, second.assignment);
    assert.is(fleet.task(id).state, 'executed', 'two of three');
    const third = at(fleet, id);
    assert.match(fleet.why(id).reasons[0] ?? '', /^done; it is being verified by/);
    assert.is(new Set([first.member, second.member, third.member]).size, 3);
    fleet.finish(third.member, third.assignment);
    const { state, verified, confidence, verifier, replicas } = shown(fleet, id);
    assert.equal([state, verified, confidence, verifier?.id], ['delivered', true, 0.9, third.member.peer]);
    assert.equal([replicas?.wanted, replicas?.agreed], [3, 3]);
    fleet.agreesWithItsLog();
  }
});

test('where one makes something else one more is asked; where two do it fails, names both, and nobody is put into quarantine', () => {
  for (const [answers, state] of [
    [[false, true], 'delivered'],
    [[false, false], 'failed'],
  ] as const) {
    const fleet = mesh({ ada: 'olga', bob: 'olga', eve: 'olga' });
    const id = fleet.submit(NO_CHECKS, asked(2));
    const executor = next(fleet, id);
    const others = answers.map((same) => next(fleet, id, same));
    const { state: is, reason, detail, verified, replicas } = shown(fleet, id);
    assert.equal([is, verified], [state, state === 'delivered']);
    const told = replicas?.others.map(({ agrees }) => agrees);
    assert.equal(told, state === 'failed' ? [] : [...answers], 'what was said of a result goes with it');
    assert.is(new Set([executor, ...others]).size, 3);
    if (state === 'failed') {
      assert.is(reason, 'check');
      for (const { name } of others) assert.ok(detail?.includes(`${name}: a check was red`), detail ?? '');
      assert.match(detail ?? '', /^the machines that ran it do not agree: 1 of the 2 /);
    }
    for (const { peer } of [executor, ...others]) {
      assert.is(fleet.core.state.members.byPeer.get(peer)?.quarantined, undefined);
      if (peer !== peerOf('founder')) assert.is(trustRecord(fleet.core.state.trust, peer).invalid, 0);
    }
    fleet.agreesWithItsLog();
  }
});

test('a replica that ends without a word says nothing: another is asked; and none but such as run the command are', () => {
  const fleet = mesh({ ada: 'olga', bob: 'olga' });
  const id = fleet.submit(NO_CHECKS, asked(2));
  const executor = next(fleet, id);
  const slow = at(fleet, id);
  fleet.finish(slow.member, slow.assignment, { ...OTHER, reason: 'timeout' }, false);
  fleet.advance(2_000);
  assert.equal(fleet.task(id).replicas, undefined);
  // One that passes by its checks alone has not run the command.
  const lazy = at(fleet, id);
  const plain = { ...lazy.assignment, verify: { ...lazy.assignment.verify! } };
  delete plain.verify.replica;
  lazy.member.running.delete(leaseKey(lazy.assignment));
  const result = resultOf(lazy.member.peer, plain);
  fleet.noteSigned(lazy.member, plain, result.envelope!);
  fleet.member(lazy.member, { type: 'finished', result });
  fleet.advance(20_000);
  assert.is(fleet.task(id).state, 'executed');
  assert.not.ok(next(fleet, id) === executor);
  assert.is(shown(fleet, id).verified, true);
  fleet.agreesWithItsLog();
});

test('none is of the executor’s owner where there are several; those of owners who have not spoken come first', () => {
  for (let round = 0; round < 12; round += 1) {
    const fleet = mesh({ ada: 'paul', bob: 'paul', eve: 'quin', ida: 'quin', uwe: 'olga' });
    const id = fleet.submit(NO_CHECKS, asked(3));
    const owners = [0, 1, 2].map(() => fleet.core.state.members.byPeer.get(next(fleet, id).peer)!.owner);
    assert.is(new Set(owners).size, 3, owners.join(' '));
    assert.is(shown(fleet, id).verified, true);
  }
});

test('fewer machines than are to agree are told of before, and it waits for more where it may', () => {
  const fleet = mesh({ ada: 'olga' });
  const spec = taskSpec.parse({ kind: 'command', argv: ['true'] });
  const schedule = { replicas: 3 };
  const told = '3 machines are to agree, and 2 can ever take it';
  assert.is(fleet.ask<DryRun>({ op: 'task.dryRun', spec, schedule }).unmet, told);
  try {
    fleet.submit(NO_CHECKS, { schedule, unmet: 'refuse' });
    assert.unreachable();
  } catch (error) {
    assert.ok(error instanceof SuperfleetError);
    assert.equal([error.code, error.got], ['SF_UNMET', told]);
  }
  const id = fleet.submit(NO_CHECKS, { schedule });
  next(fleet, id);
  next(fleet, id);
  fleet.advance(120_000);
  assert.is(fleet.task(id).state, 'executed', 'it goes out unverified never');
  assert.match(fleet.why(id).reasons.join('; '), /no other party/);
  // Of an older release: it would run the checks only.
  fleet.ask({ op: 'mesh.pause' });
  const old = fleet.join('old');
  const hello: MemberHello = { ...HELLO, features: [] };
  fleet.founder({ type: 'connected', peer: old.peer, session: 999, hello });
  fleet.ask({ op: 'mesh.resume' });
  const line = fleet.why(id).members.find(({ name }) => name === 'old');
  assert.match(line?.why ?? '', /older release, which verifies without running the command/);
  fleet.ask({ op: 'member.revoke', member: 'old', reason: null });
  fleet.join('bob');
  fleet.advance(1_000);
  next(fleet, id);
  assert.is(shown(fleet, id).verified, true);
  const refused = [
    taskSpec.parse({ kind: 'command', argv: ['true'], on: 'ada' }),
    taskSpec.parse({ kind: 'code', code: { goal: 'g' } }),
  ];
  for (const wrong of refused) {
    const operation = { op: 'task.submit', spec: wrong, bundle: null, correlation: null, schedule } as const;
    assert.is(fleet.refusal(operation), 'SF_USAGE');
  }
});

test('its secrets go to every machine that runs the command', () => {
  const fleet = mesh({ ada: 'olga' });
  fleet.ask({ op: 'secret.set', name: 'TOKEN' });
  fleet.founder({ type: 'secrets', values: new Map([['TOKEN', 'x']]) });
  const id = fleet.submit({ ...NO_CHECKS, secrets: ['TOKEN'] }, asked(2));
  next(fleet, id);
  assert.equal(at(fleet, id).assignment.secrets, { TOKEN: 'x' });
  const plain = fleet.submit({ secrets: ['TOKEN'] });
  fleet.finish(at(fleet, id).member, at(fleet, id).assignment);
  next(fleet, plain);
  assert.equal(at(fleet, plain).assignment.secrets, {});
});

test('a replica has the time that the command has, and is given to no machine whose hours end before', () => {
  const fleet = mesh({ ada: 'olga', bob: 'olga' });
  const HOUR = 3_600_000;
  const ends = (hours: number): void => {
    for (const member of fleet.members.values()) {
      const worksUntil = fleet.clock().time + hours * HOUR;
      fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, worksUntil } });
    }
  };
  const id = fleet.submit({ ...NO_CHECKS, timeoutMs: 4 * HOUR }, asked(2));
  const { member, assignment } = at(fleet, id);
  ends(3);
  fleet.finish(member, assignment);
  fleet.advance(4_000);
  assert.ok([...fleet.members.values()].every(({ running }) => running.size === 0));
  // A machine holds to it, too, where its founder does not know.
  const before = fleet.task(id).attemptCount;
  for (const { peer, session } of fleet.members.values())
    fleet.founder({
      type: 'received',
      peer,
      session: session!,
      message: { type: 'capacity', capacity: CAPACITY },
    });
  fleet.advance(4_000);
  assert.ok(fleet.task(id).attemptCount > before);
  assert.ok([...fleet.members.values()].every(({ running }) => running.size === 0));
  assert.is(fleet.task(id).verifierFaults, 0, 'an owner’s word is no fault');
  ends(9);
  for (let waited = 0; waited < 120_000; waited += 5_000) fleet.advance(5_000);
  const replica = at(fleet, id);
  const { attempt } = replica.assignment;
  for (let passed = 0; passed < 2 * HOUR; passed += 5_000) fleet.advance(5_000);
  assert.is(at(fleet, id).assignment.attempt, attempt, 'it goes on');
  next(fleet, id);
  assert.is(shown(fleet, id).verified, true);
});

test('where one of its secrets is gone no machine runs the command without it: it waits for it, and says so', () => {
  const fleet = mesh({ ada: 'olga' });
  fleet.ask({ op: 'secret.set', name: 'TOKEN' });
  fleet.founder({ type: 'secrets', values: new Map([['TOKEN', 'x']]) });
  const id = fleet.submit({ ...NO_CHECKS, secrets: ['TOKEN'] }, asked(2));
  fleet.founder({ type: 'secrets', values: new Map() });
  const { member, assignment } = at(fleet, id);
  fleet.finish(member, assignment);
  fleet.advance(4_000);
  assert.ok([...fleet.members.values()].every(({ running }) => running.size === 0));
  const { reasons, remedies } = fleet.why(id);
  assert.ok(reasons.includes('the secret TOKEN is not set (mesh-hub secret set TOKEN)'), reasons.join('; '));
  assert.ok(remedies.includes('mesh-hub secret set TOKEN'));
  fleet.founder({ type: 'secrets', values: new Map([['TOKEN', 'y']]) });
  fleet.advance(4_000);
  assert.equal(at(fleet, id).assignment.secrets, { TOKEN: 'y' });
  next(fleet, id);
  assert.is(shown(fleet, id).verified, true);
  fleet.agreesWithItsLog();
});

test('whatever machines say and however the founder fares, it ends verified by so many, or failed (seeds)', () => {
  const ends = new Map<string, number>();
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = new Random(`agree/${seed}`);
    const fleet = mesh({ ada: 'olga', bob: 'olga', eve: 'olga', ida: 'olga', uwe: 'olga' });
    const replicas = random.int(2, 4);
    const id = fleet.submit({ ...NO_CHECKS, retries: random.int(0, 1) }, asked(replicas));
    for (let step = 0; step < 80 && fleet.task(id).converged === null; step += 1) {
      const chance = random.next();
      const working = [...fleet.members.values()].some(({ running }) => running.size > 0);
      if (chance < 0.15) {
        fleet.restart();
        for (const member of fleet.members.values()) fleet.connect(member);
        fleet.advance(1_000);
      } else if (chance < 0.3 && working) {
        const { member, assignment } = at(fleet, id);
        fleet.finish(member, assignment, {
          outcome: 'failed',
          reason: 'environment',
          fault: 'machine',
          envelope: null,
        });
      } else if (working) next(fleet, id, random.chance(0.8));
      fleet.advance(2_000);
    }
    const { converged, verification, replicas: said = [], accepted } = fleet.task(id);
    if (converged?.state === 'delivered') {
      const agree = [...said.filter(({ agrees }) => agrees), verification!];
      const machines = new Set([accepted!.member, ...agree.map(({ member }) => member)]);
      assert.equal([converged.verified, machines.size], [true, replicas], `seed ${seed}`);
      assert.ok(said.filter(({ agrees }) => !agrees).length <= 1, `seed ${seed}`);
    } else if (converged !== null) assert.is(converged.state, 'failed', `seed ${seed}`);
    const end = converged?.state ?? 'waits';
    ends.set(end, (ends.get(end) ?? 0) + 1);
    fleet.agreesWithItsLog();
  }
  assert.ok((ends.get('delivered') ?? 0) > 10 && (ends.get('failed') ?? 0) > 2, JSON.stringify([...ends]));
});

test.run();
