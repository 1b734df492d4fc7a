import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { leaseKey } from '../../../protocol/session.ts';
import { standInReceipt, standInVerification } from '../../sim/signer.ts';
import { CAPACITY, Fleet, MESH, resultOf } from './fleet.ts';

/** A member of this owner executes a task, and the fleet is asked what becomes of it. */
function executed(fleet: Fleet, spec: Parameters<Fleet['submit']>[0] = {}) {
  const id = fleet.submit({ on: 'ada', ...spec });
  const ada = [...fleet.members.values()].find((member) => member.name === 'ada')!;
  fleet.finish(ada, fleet.running(ada));
  return id;
}

test('with one owner another machine verifies, and the record says that it is of the same owner', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const bob = fleet.join('bob');
  const id = executed(fleet);
  fleet.finish(bob, fleet.running(bob, 'verify'));
  assert.is(fleet.task(id).converged?.verified, true);
  assert.is(fleet.task(id).converged?.sameOwner, true);
});

test('with several owners the owner of the executor does not verify', () => {
  const fleet = new Fleet();
  fleet.join('ada', { owner: 'olga' });
  const [bob, eve] = [fleet.join('bob', { owner: 'olga' }), fleet.join('eve', { owner: 'paul' })];
  for (let round = 0; round < 8; round += 1) {
    const id = executed(fleet);
    assert.is(bob.running.size, 0);
    fleet.finish(eve, fleet.running(eve, 'verify'));
    assert.is(fleet.task(id).converged?.sameOwner, false);
  }
});

test('the verifier is drawn at random among those that may', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const [bob, eve] = [fleet.join('bob'), fleet.join('eve')];
  const drawn = new Set<string>();
  for (let round = 0; round < 24; round += 1) {
    executed(fleet);
    const verifier = bob.running.size > 0 ? bob : eve;
    drawn.add(verifier.name);
    fleet.finish(verifier, fleet.running(verifier, 'verify'));
  }
  assert.is(drawn.size, 2);
});

test('a verification has a nonce of its own and names the receipt', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const bob = fleet.join('bob');
  const id = executed(fleet);
  const verify = fleet.running(bob, 'verify');
  const { accepted, attempts } = fleet.task(id);
  assert.is(verify.verify?.receipt, accepted?.receipt);
  assert.is.not(verify.nonce, attempts[0]?.nonce);
  assert.equal(verify.secrets, {});
});

test('with no other party it is delivered at once, unverified, with a confidence of at most 0.3 (promise 19)', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const [checked, unchecked] = [executed(fleet), executed(fleet, { checks: [] })];
  for (const [id, confidence] of [
    [checked, 0.3],
    [unchecked, 0.1],
  ] as const) {
    const record = fleet.task(id).converged;
    assert.equal([record?.state, record?.verified, record?.confidence], ['delivered', false, confidence]);
  }
});

test('a party that is offline is waited for, 60 s and no longer', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const bob = fleet.join('bob');
  fleet.disconnect(bob);
  const id = executed(fleet);
  fleet.advance(59_000);
  assert.is(fleet.task(id).state, 'executed');
  assert.match(fleet.why(id).reasons.join(), /waits for a verifier/);
  fleet.advance(1_500);
  assert.is(fleet.task(id).state, 'delivered');
  assert.is(fleet.task(id).converged?.confidence, 0.3);
});

test('a party that comes back in time verifies', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const bob = fleet.join('bob');
  fleet.disconnect(bob);
  const id = executed(fleet);
  fleet.advance(30_000);
  fleet.connect(bob);
  fleet.finish(bob, fleet.running(bob, 'verify'));
  assert.is(fleet.task(id).converged?.verified, true);
});

test('what must be verified waits as executed, says why, and goes on when a party joins (promise 16)', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const id = executed(fleet, { requireVerified: true });
  fleet.advance(120_000);
  assert.is(fleet.task(id).state, 'executed');
  assert.match(fleet.why(id).reasons.join(), /must be verified.*no other party/);
  const bob = fleet.join('bob');
  fleet.finish(bob, fleet.running(bob, 'verify'));
  assert.is(fleet.task(id).converged?.verified, true);
});

test('a result that changes the files that check it is verified and stays a proposal (promise 19)', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ on: 'ada' });
  const assignment = fleet.running(ada);
  ada.running.clear();
  fleet.member(ada, { type: 'finished', result: resultOf(ada.peer, assignment, {}, true, ['test/run.sh']) });
  fleet.finish(bob, fleet.running(bob, 'verify'));
  const record = fleet.task(id).converged;
  assert.equal([record?.state, record?.verified, record?.confidence], ['delivered', false, 0.3]);
  assert.match(record?.detail ?? '', /test\/run\.sh/);
});

test('checks that are red for the verifier end the attempt with reason check, and the task is retried elsewhere', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ retries: 1 });
  const [first, second] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  fleet.finish(first, fleet.running(first));
  fleet.finish(second, fleet.running(second, 'verify'), {}, false);
  assert.is(fleet.task(id).lastEnd?.reason, 'check');
  assert.is(fleet.task(id).lastEnd?.member, first.peer);
  fleet.advance(1_250);
  fleet.finish(second, fleet.running(second));
  fleet.finish(first, fleet.running(first, 'verify'), {}, false);
  assert.is(fleet.task(id).state, 'failed');
  assert.is(fleet.task(id).converged?.reason, 'check');
  assert.is(fleet.task(id).converged?.confidence, 0);
});

test('a verifier that is lost, or cannot run the checks, is replaced', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const [bob, eve] = [fleet.join('bob'), fleet.join('eve')];
  const id = executed(fleet);
  const [one, two] = bob.running.size > 0 ? [bob, eve] : [eve, bob];
  const lack = {
    outcome: 'failed',
    reason: 'environment',
    fault: 'machine',
    detail: 'no such tool',
    envelope: null,
  } as const;
  fleet.finish(one, fleet.running(one, 'verify'), lack);
  fleet.advance(500);
  fleet.finish(two, fleet.running(two, 'verify'));
  assert.is(fleet.task(id).converged?.verified, true);
  assert.is(fleet.task(id).retriesUsed, 0);
});

test('a verifier needs a sandbox and a free slot', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const bob = fleet.join('bob');
  fleet.member(bob, { type: 'capacity', capacity: { ...CAPACITY, sandbox: null } });
  const id = executed(fleet, { requireVerified: true });
  assert.is(bob.running.size, 0);
  assert.is(fleet.why(id).members.find((member) => member.name === 'bob')?.why, 'has no working sandbox');
  fleet.member(bob, { type: 'capacity', capacity: CAPACITY });
  assert.is(bob.running.size, 1);
});

test('where the only other machine has no sandbox, a result is not kept waiting for it', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const mac = fleet.join('mac');
  fleet.member(mac, { type: 'capacity', capacity: { ...CAPACITY, slots: 0, sandbox: null } });
  const id = executed(fleet);
  assert.is(fleet.task(id).state, 'delivered');
  assert.match(fleet.task(id).converged?.detail ?? '', /no other party/);
});

test('a verifier that finds a check flaky says nothing against the result, and nothing for it: unverified, and the log says which', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const says = (checksFlaky: number[], red = false): void => {
    const assignment = fleet.running(bob, 'verify');
    bob.running.delete(leaseKey(assignment));
    const change = { outcome: 'failed', reason: 'check', fault: 'task' } as const;
    const result = resultOf(bob.peer, assignment, change, false);
    const envelope = standInVerification(MESH, bob.peer, assignment, false, 'check 2 is flaky', checksFlaky);
    fleet.member(bob, { type: 'finished', result: red ? result : { ...result, envelope } });
  };
  const id = executed(fleet, { checks: ['true', 'sh shaky.sh'] });
  says([1]);
  const { converged, flaky, executions } = fleet.task(id);
  assert.equal([converged?.state, converged?.verified, converged?.confidence], ['delivered', false, 0.3]);
  assert.match(converged?.detail ?? '', /unverified: check 2 is flaky, .*: sh shaky\.sh/);
  assert.equal([flaky, executions], [[{ attempt: 2, checks: [1] }], 1]);
  assert.equal(fleet.ask<{ flaky: string[] }>({ op: 'task.get', task: id }).flaky, ['sh shaky.sh']);
  assert.equal(fleet.core.state.tasks.blame.get(ada.peer), undefined);
  fleet.restart();
  assert.equal(fleet.task(id).flaky, flaky);
  for (const member of [ada, bob]) fleet.connect(member);
  fleet.advance(1_000);
  // Red is red: the result is withdrawn as ever.
  const red = executed(fleet, { checks: ['true'] });
  says([], true);
  assert.equal([fleet.task(red).state, fleet.task(red).converged?.reason], ['failed', 'check']);
  const must = executed(fleet, { requireVerified: true });
  says([0]);
  assert.is(fleet.task(must).state, 'executed');
  assert.match(fleet.why(must).reasons.join(), /must be verified and cannot be: check 1 is flaky/);
});

test('a check that its executor found flaky is no proof: nobody is asked to verify by it', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ on: 'ada', retries: 1 });
  const assignment = fleet.running(ada);
  const result = resultOf(ada.peer, assignment);
  const envelope = standInReceipt(MESH, ada.peer, assignment, result, [], null, [0]);
  ada.running.delete(leaseKey(assignment));
  fleet.member(ada, { type: 'finished', result: { ...result, envelope } });
  const { converged } = fleet.task(id);
  assert.equal([converged?.state, converged?.verified, converged?.confidence], ['delivered', false, 0.1]);
  assert.is(bob.running.size, 0);
});

test.run();
