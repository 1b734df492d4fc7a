import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AttemptResult, FounderMessage } from '../../../../protocol/session.ts';
import { Fleet, resultOf, type TestMember } from '../fleet.ts';

function holding(spec: Parameters<Fleet['submit']>[0] = {}) {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit(spec);
  return { fleet, ada, id, assignment: fleet.running(ada) };
}

const send = (fleet: Fleet, from: TestMember, result: AttemptResult): void =>
  fleet.founder({
    type: 'received',
    peer: from.peer,
    session: from.session!,
    message: { type: 'result', result },
  });

/** What the founder said last about a result. */
const settled = (fleet: Fleet): Extract<FounderMessage, { type: 'settled' }> | undefined =>
  fleet.log
    .flatMap((effect) =>
      effect.type === 'send' && effect.message.type === 'settled' ? [effect.message] : [],
    )
    .at(-1);

const lies: [string, (honest: AttemptResult, other: TestMember, fleet: Fleet) => AttemptResult][] = [
  [
    'the signature of another',
    (honest, other, fleet) => resultOf(other.peer, { ...assignmentOf(fleet, honest) }, {}),
  ],
  ['another commit than was signed', (honest) => ({ ...honest, commit: 'c'.repeat(40) })],
  ['another exit code than was signed', (honest) => ({ ...honest, exitCode: 3 })],
  [
    'a bundle that was not signed',
    (honest) => ({ ...honest, bundle: { ...honest.bundle!, sha256: 'd'.repeat(64) } }),
  ],
  ['no signature', (honest) => ({ ...honest, envelope: null })],
  ['no envelope at all', (honest) => ({ ...honest, envelope: 'nonsense' })],
];
const assignmentOf = (fleet: Fleet, of: AttemptResult) =>
  [...fleet.members.values()]
    .flatMap((member) => [...member.running.values()])
    .find((one) => one.task === of.task)!;

for (const [what, lie] of lies) {
  test(`a result with ${what} is not accepted, and counts against the machine (promise 12)`, () => {
    const { fleet, ada, id, assignment } = holding();
    const other = fleet.join('other', { roles: ['viewer'] });
    send(fleet, ada, lie(resultOf(ada.peer, assignment), other, fleet));
    const task = fleet.task(id);
    assert.is(task.accepted, null);
    assert.equal([task.lastEnd?.fault, task.lastEnd?.reason, task.retriesUsed], ['machine', 'refused', 0]);
    assert.is(fleet.core.state.tasks.blame.get(ada.peer)?.machine, 1);
    assert.is(settled(fleet)?.accepted, false);
  });
}

test('a result of another member, number, epoch or role is no result of the lease (promise 12)', () => {
  const { fleet, ada, id, assignment } = holding();
  const other = fleet.join('other', { roles: ['viewer'] });
  const honest = resultOf(ada.peer, assignment);
  const size = fleet.entries.length;
  send(fleet, other, resultOf(other.peer, assignment));
  send(fleet, ada, { ...honest, attempt: 2 });
  send(fleet, ada, { ...honest, epoch: 2 });
  send(fleet, ada, { ...honest, role: 'verify' });
  assert.is(fleet.entries.length, size, 'nothing is logged');
  assert.is(settled(fleet)?.accepted, false);
  send(fleet, ada, honest);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('where a result comes together with the start of its attempt both are logged at its end: what is fetched waits for no disk', () => {
  const together = () => {
    const { fleet, ada, assignment } = holding();
    fleet.holdCollects = [];
    const { task, attempt, epoch, correlation } = assignment;
    const from = { type: 'received' as const, peer: ada.peer, session: ada.session! };
    const before = fleet.entries.length;
    fleet.founder(
      { ...from, message: { type: 'started', task, attempt, epoch, correlation } },
      { ...from, message: { type: 'result', result: resultOf(ada.peer, assignment) } },
    );
    assert.is(fleet.entries.length, before);
    assert.is(fleet.holdCollects.length, 1);
    return { fleet, ada, types: () => fleet.entries.slice(before).map(({ type }) => type) };
  };
  const well = together();
  well.fleet.collected(well.fleet.holdCollects![0]!);
  assert.equal(well.types().slice(0, 2), ['attempt.started', 'task.executed']);
  const lost = together();
  lost.fleet.disconnect(lost.ada);
  lost.fleet.advance(60_000);
  assert.equal(lost.types().slice(0, 2), ['attempt.started', 'attempt.ended']);
});

test('nothing is accepted before every blob is on the disk of the founder', () => {
  const { fleet, ada, id, assignment } = holding();
  fleet.holdCollects = [];
  fleet.finish(ada, assignment);
  const [collect] = fleet.holdCollects;
  assert.is(collect?.blobs.length, 2);
  assert.is.not(fleet.task(id).state, 'executed');
  assert.is(settled(fleet), undefined);
  fleet.collected(collect!);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('a member that sends bytes other than it said is at fault', () => {
  const { fleet, ada, id, assignment } = holding();
  fleet.holdCollects = [];
  fleet.finish(ada, assignment);
  const failure = { kind: 'bad' as const, detail: 'chunk 3 has another digest' };
  const { lease } = fleet.holdCollects[0]!;
  fleet.founder({ type: 'collected', peer: ada.peer, lease, envelopeBlob: null, failure });
  assert.match(fleet.task(id).lastEnd?.detail ?? '', /chunk 3/);
  assert.is(fleet.task(id).lastEnd?.fault, 'machine');
});

test('bytes that could not be had are asked for again, and then given up', () => {
  const { fleet, ada, id, assignment } = holding();
  fleet.holdCollects = [];
  fleet.finish(ada, assignment);
  const failure = { kind: 'gone' as const, detail: 'reset' };
  for (let round = 1; round <= 5; round += 1) {
    assert.is(fleet.holdCollects.length, round);
    const { lease } = fleet.holdCollects[round - 1]!;
    fleet.founder({ type: 'collected', peer: ada.peer, lease, envelopeBlob: null, failure });
    fleet.advance(1_250);
  }
  assert.is(fleet.task(id).attempts[0]?.end?.kind, 'ended');
  assert.is(settled(fleet)?.accepted, false);
});

test('a full disk of the founder blames nobody', () => {
  const { fleet, ada, id, assignment } = holding();
  fleet.holdCollects = [];
  fleet.finish(ada, assignment);
  const { lease } = fleet.holdCollects[0]!;
  const failure = { kind: 'disk' as const, detail: 'ENOSPC' };
  fleet.founder({ type: 'collected', peer: ada.peer, lease, envelopeBlob: null, failure });
  fleet.advance(6_000);
  fleet.collected(fleet.holdCollects[1]!);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('a fault of the task takes a retry, backs off and goes elsewhere where another fits', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ retries: 1 });
  const [first, second] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  const red = {
    outcome: 'failed',
    reason: 'task',
    fault: 'task',
    exitCode: 1,
    commit: null,
    bundle: null,
  } as const;
  fleet.finish(first, fleet.running(first), red);
  assert.is(fleet.task(id).retriesUsed, 1);
  assert.ok(fleet.task(id).lastEnd?.receipt, 'the failure is signed, and its receipt kept');
  fleet.advance(250);
  assert.is(second.running.size, 0, 'it backs off');
  fleet.advance(1_000);
  fleet.finish(second, fleet.running(second), red);
  assert.is(fleet.task(id).state, 'failed');
  assert.equal([fleet.task(id).converged?.reason, fleet.task(id).converged?.exitCode], ['task', 1]);
});

test('a machine that lacks what the task needs is not tried again; where none has it, the task fails with the detail', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit();
  const lack = {
    outcome: 'failed',
    reason: 'environment',
    fault: 'machine',
    detail: 'no tool named cc',
    commit: null,
    bundle: null,
  } as const;
  const [first, second] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  fleet.finish(first, fleet.running(first), lack);
  assert.is(first.running.size, 0);
  fleet.finish(second, fleet.running(second), lack);
  const { state, converged, retriesUsed } = fleet.task(id);
  assert.equal(
    [state, converged?.reason, converged?.detail, retriesUsed],
    ['failed', 'environment', 'no tool named cc', 0],
  );
});

test('a result too long for a line of the log fails with words, and the founder goes on', () => {
  const { fleet, ada, id, assignment } = holding({ artifacts: ['**'] });
  const artifacts = Array.from({ length: 256 }, (_, n) => ({
    path: `${'deep/'.repeat(90)}${n}`,
    blob: 'a'.repeat(64),
    bytes: 1,
    sha256: 'b'.repeat(64),
  }));
  fleet.finish(ada, assignment, { artifacts });
  assert.is(fleet.task(id).state, 'failed');
  assert.match(fleet.task(id).converged?.detail ?? '', /does not fit the log/);
});

test.run();
