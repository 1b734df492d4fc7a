import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { restJitter, restMaxMs } from '../../../hub/core/config.ts';
import { signedChecks } from '../../../hub/core/results/checks.ts';
import { memberName } from '../../../protocol/ids.ts';
import type { AttemptResult } from '../../../protocol/session.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { CAPACITY, Fleet, hex, peerOf, resultOf } from './fleet.ts';
import { keys, signedReceipt, signedVerification } from './true-signatures.ts';

/** What a member that lies, stalls or takes a false name can and cannot do to a mesh. */
const artifact = (path: string, bytes: number) => ({ path, blob: hex(path), bytes, sha256: hex(path) });

/** One task with a repository through both machines; each says which check files the result changes. */
function verifiedBy(said: string[], seen: string[]) {
  const fleet = new Fleet({ checks: signedChecks });
  const ada = fleet.join('ada', { peer: keys.ada.peer });
  const bob = fleet.join('bob', { peer: keys.bob.peer });
  const base = 'a'.repeat(40);
  const bundle = { commit: base, bundle: 'b'.repeat(64), prerequisites: [] };
  const repository = { id: base, name: 'lab', ref: 'HEAD', base };
  const spec = taskSpec.parse({ kind: 'command', argv: ['true'], checks: ['true'], on: 'ada', repository });
  const { id } = fleet.ask<{ id: string }>({ op: 'task.submit', spec, bundle, correlation: null });
  const assignment = fleet.running(ada);
  ada.running.clear();
  fleet.member(ada, {
    type: 'finished',
    result: signedReceipt(assignment, resultOf(ada.peer, assignment), { checksChanged: said }),
  });
  const verify = fleet.running(bob, 'verify');
  const checked = signedVerification(verify, resultOf(bob.peer, verify), { checksChanged: seen });
  fleet.member(bob, { type: 'finished', result: checked });
  return fleet.task(id);
}

test('a receipt that keeps quiet about changed check files makes nothing verified (promise 19)', () => {
  const task = verifiedBy([], ['test/suite.test.js']);
  assert.is(task.converged?.verified ?? false, false);
  assert.is(task.converged?.state, 'failed');
  assert.match(task.converged?.detail ?? '', /test\/suite\.test\.js/);
});

test('a receipt that names them stays a proposal, and one that changes none is verified', () => {
  const proposal = verifiedBy(['test/suite.test.js'], ['test/suite.test.js']);
  assert.is(proposal.converged?.state, 'delivered');
  assert.is(proposal.converged?.verified, false);
  assert.is(verifiedBy([], []).converged?.verified, true);
});

const oversized: [string, string[], Partial<AttemptResult>][] = [
  ['artifacts that nobody asked for', [], { artifacts: [artifact('loot', 1)] }],
  ['an artifact larger than one may be', ['*'], { artifacts: [artifact('loot', 2 ** 30 + 1)] }],
  [
    'more bytes of artifacts than an attempt may return',
    ['*'],
    { artifacts: [1, 2, 3, 4, 5].map((n) => artifact(`loot ${n}`, 2 ** 30)) },
  ],
  ['a log without an end', [], { log: { blob: hex('log'), bytes: 2 ** 32, sha256: hex('log') } }],
];
for (const [what, artifacts, change] of oversized) {
  test(`${what}: nothing of such a result is fetched (promise 18)`, () => {
    const fleet = new Fleet();
    const ada = fleet.join('ada');
    const id = fleet.submit({ artifacts, on: 'ada' });
    fleet.finish(ada, fleet.running(ada), change);
    assert.is(fleet.task(id).lastEnd?.reason, 'refused');
    assert.is(fleet.log.filter(({ type }) => type === 'collect').length, 0);
  });
}

/** Time passes for a member that says what every member says, and nothing about its work. */
function stall(fleet: Fleet, minutes: number, stepMs = 1_250): void {
  fleet.advance(minutes * 60_000, stepMs);
}

test('a member that is heard and never gives a result holds a task for a bounded time (promise 16)', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ timeoutMs: 60_000, checkTimeoutMs: 60_000, on: 'ada' });
  fleet.start(ada, fleet.running(ada));
  stall(fleet, 61);
  assert.is(fleet.task(id).attemptCount, 1, 'it has the time of its task, and what transfers may take');
  stall(fleet, 2);
  assert.is(fleet.task(id).lastEnd?.reason, 'lost');
  assert.is(fleet.task(id).machineFaults, 1);
});

test('a founder that was asleep gives attempts the time back', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ timeoutMs: 60_000, on: 'ada' });
  fleet.start(ada, fleet.running(ada));
  fleet.now += 24 * 3_600_000;
  fleet.founder({ type: 'tick' });
  assert.is(fleet.task(id).attemptCount, 1);
  assert.is(fleet.task(id).state, 'running');
});

for (const signed of [true, false]) {
  test(`a member that blames a person ${signed ? 'in a signed' : 'in an unsigned'} result has no tries without end (promise 16)`, () => {
    const fleet = new Fleet();
    const ada = fleet.join('ada');
    const id = fleet.submit({ on: 'ada' });
    for (let tries = 0; tries < 40 && fleet.task(id).converged === null; tries += 1) {
      // Longer than a machine rests that failed again and again.
      fleet.advance(restMaxMs * (1 + restJitter) + 1_000, 1_000);
      if (ada.running.size === 0) continue;
      const change: Partial<AttemptResult> = {
        outcome: 'failed',
        fault: 'person',
        reason: 'refused',
        commit: null,
        bundle: null,
        ...(signed ? {} : { envelope: null, log: null, exitCode: null }),
      };
      fleet.finish(ada, fleet.running(ada), change);
    }
    assert.is(fleet.task(id).converged?.state, 'failed');
    assert.is(fleet.task(id).converged?.reason, 'lost');
  });
}

test('no member can be named as another one’s peer id, and be given what was meant for that one', () => {
  assert.is(memberName.safeParse(peerOf('ada')).success, false);
  assert.is(memberName.safeParse(peerOf('ada').toLowerCase()).success, false);
  assert.is(memberName.safeParse('ada-12D3KooW').success, true);
});

test('a member is handed the blobs of its own leases, and no others', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const replica = fleet.join('rita', { roles: ['replica'] });
  const commits = ['a'.repeat(40), 'b'.repeat(40)];
  const [mine, others] = commits.map((commit) => ({ commit, bundle: hex(commit), prerequisites: [] }));
  const submit = (bundle: typeof mine, on: string): string => {
    const { commit: base = '' } = bundle ?? {};
    const repository = { id: base, name: 'lab', ref: 'HEAD', base };
    const spec = taskSpec.parse({ kind: 'command', argv: ['true'], checks: ['true'], on, repository });
    return fleet.ask<{ id: string }>({ op: 'task.submit', spec, bundle: bundle!, correlation: null }).id;
  };
  const id = submit(mine, 'ada');
  submit(others, 'rita');
  const may = (peer: string, blob: string): boolean => fleet.core.mayFetch(peer, blob);
  assert.is(may(ada.peer, mine!.bundle), true);
  assert.is(may(ada.peer, others!.bundle), false);
  assert.is(may(bob.peer, mine!.bundle), false);
  assert.is(may(peerOf('stranger'), mine!.bundle), false);
  assert.is(may(replica.peer, mine!.bundle), true);

  const result = fleet.finish(ada, fleet.running(ada));
  assert.is(fleet.running(bob, 'verify').task, id);
  assert.is(may(ada.peer, mine!.bundle), false, 'its lease is over');
  assert.is(may(bob.peer, mine!.bundle), true);
  assert.is(may(bob.peer, result.bundle!.blob), true);
  assert.is(may(bob.peer, result.log!.blob), false);

  fleet.founder({ type: 'roster', version: 9, blob: hex('roster') });
  assert.is(may(bob.peer, hex('roster')), true);
  fleet.ask({ op: 'member.revoke', member: 'bob', reason: null });
  assert.is(may(bob.peer, hex('roster')), false);
});

test('a member asks for environments of its own leases only, and the founder’s machine gives none to its verifier', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const lease = (peer: string, task: string) => fleet.core.environmentLease(peer, task);
  const id = fleet.submit({ on: 'ada', checks: ['true'] });
  const assignment = fleet.running(ada);
  const { repository } = assignment.spec;
  const mine = { submitter: assignment.submitter, repository: repository?.id ?? null, executedHere: false };
  assert.equal(lease(ada.peer, id), mine);
  assert.is(lease(bob.peer, id), null);
  assert.is(lease(ada.peer, 'a'.repeat(12)), null);
  assert.is(lease(peerOf('stranger'), id), null);
  fleet.finish(ada, assignment);
  assert.is(lease(ada.peer, id), null, 'its lease is over');
  fleet.running(bob, 'verify');
  assert.equal(lease(bob.peer, id), mine);
  fleet.core.state.mesh.founder = ada.peer;
  assert.is(lease(bob.peer, id)?.executedHere, true);
  fleet.ask({ op: 'member.revoke', member: 'bob', reason: null });
  assert.is(lease(bob.peer, id), null);
});

test('a member cannot give itself a label that the operator gives, and be handed what is meant for others', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada', { labels: { zone: 'secure' } });
  const eve = fleet.join('eve');
  const labels = { zone: 'secure', gpu: 'yes' };
  fleet.member(eve, { type: 'capacity', capacity: { ...CAPACITY, labels } });
  fleet.disconnect(ada);
  const id = fleet.submit({ labels: { zone: 'secure' } });
  assert.is(eve.running.size, 0);
  assert.match(fleet.why(id).members.find(({ name }) => name === 'eve')?.why ?? '', /no label zone/);
  fleet.ask({ op: 'member.revoke', member: 'ada', reason: null });
  fleet.advance(30_000);
  assert.is(eve.running.size, 0, 'nor when the one that had it is gone');
  const own = fleet.submit({ labels: { gpu: 'yes' } });
  assert.is(fleet.running(eve).task, own, 'what the operator says nothing about is its own to say');
  const shown = fleet.ask<{ labels: object }>({ op: 'node.get', member: 'eve' });
  assert.equal(shown.labels, { gpu: 'yes' });
});

test('a second hello on one session changes nothing', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const message = ada.effects.find((effect) => effect.type === 'send' && effect.message.type === 'hello');
  if (message?.type !== 'send') throw new Error('no hello was sent');
  fleet.founder({ type: 'received', peer: ada.peer, session: ada.session!, message: message.message });
  assert.is(fleet.core.state.members.byPeer.get(ada.peer)?.standing, 'active');
});

test.run();
