import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ReceiptFacts } from '../../../hub/core/checks.ts';
import type { Actor } from '../../../ledger/events.ts';
import { questionsMax } from '../../../protocol/limits.ts';
import { type Assignment, leaseKey } from '../../../protocol/session.ts';
import { CAPACITY, Fleet, peerOf, resultOf, type TestMember } from './fleet.ts';

/** What a model says instead of a result, and what becomes of its task. */
type Signal = NonNullable<ReceiptFacts['work']>['signal'];

const goal = (fleet: Fleet, more: object = {}): string =>
  fleet.submit({ kind: 'code', code: { goal: 'mend it' }, ...more });

/** A machine with a model. */
function thinker(fleet: Fleet, name: string, slots = 2): TestMember {
  const member = fleet.join(name, { roles: ['worker', 'submitter'] });
  thinks(fleet, member, slots);
  return member;
}

function thinks(fleet: Fleet, member: TestMember, slots = 2): void {
  const capacity = { ...CAPACITY, slots, models: ['qwen'] };
  fleet.member(member, { type: 'capacity', capacity });
}

function signals(fleet: Fleet, member: TestMember, assignment: Assignment, signal: Signal): void {
  const failed = {
    outcome: 'failed',
    reason: 'signal',
    fault: 'task',
    detail: `${signal!.kind}: ${signal!.text}`,
    exitCode: null,
    commit: null,
    bundle: null,
  } as const;
  const { task, attempt, epoch } = assignment;
  member.running.delete(`${task}.${attempt}.${epoch}`);
  const work = { lowConfidence: false, signal };
  const result = resultOf(member.peer, assignment, failed, true, [], work);
  fleet.member(member, { type: 'finished', result });
}

const asks = (fleet: Fleet, member: TestMember, text = 'Which file?'): void =>
  signals(fleet, member, fleet.running(member), { kind: 'clarification_needed', text });

test('a task whose model asks is held, says so, costs no retry, and goes on with the answer', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet);
  asks(fleet, ada);
  fleet.advance(60_000);
  const task = fleet.task(id);
  assert.equal([task.state, task.retriesUsed, task.machineFaults, ada.running.size], ['queued', 0, 0, 0]);
  const why = fleet.why(id);
  assert.is(why.wait, 'answer');
  assert.match(why.reasons.join(), /waits for an answer.*Which file\?/);
  assert.match(why.remedies.join(), new RegExp(`task answer ${id} `));
  const status = fleet.ask<{ queue: object; needs: { what: string }[]; waits: object }>({ op: 'status' });
  assert.equal([status.queue, status.waits], [{ queued: 1, running: 0 }, { answer: 1 }]);
  assert.match(status.needs.map(({ what }) => what).join(), new RegExp(`${id} asks: Which file`));
  assert.is(fleet.ask<{ question: string }>({ op: 'task.get', task: id }).question, 'Which file?');
  fleet.ask({ op: 'task.answer', task: id, text: 'the one in src' });
  assert.equal(fleet.running(ada).answers, [{ question: 'Which file?', answer: 'the one in src' }]);
  assert.is(fleet.ask<{ question: null }>({ op: 'task.get', task: id }).question, null);
  assert.is(fleet.refusal({ op: 'task.answer', task: id, text: 'again' }), 'SF_CONFLICT');
  fleet.finish(ada, fleet.running(ada));
  assert.is(fleet.task(id).state, 'delivered');
});

test('a question outlasts the founder, also one that died before it could end the attempt', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet);
  // What follows from the result is not durable yet, so the member keeps it.
  fleet.durableTo = fleet.entries.length - 1;
  asks(fleet, ada);
  fleet.durableTo = null;
  const asked = fleet.entries.findIndex(({ type }) => type === 'task.asked');
  assert.is(fleet.entries.at(-1)?.type, 'attempt.ended');
  for (const keep of [asked + 1, asked + 2]) {
    fleet.restart(keep);
    fleet.connect(ada);
    thinks(fleet, ada);
    fleet.advance(60_000);
    assert.equal([fleet.task(id).state, ada.running.size, fleet.why(id).wait], ['queued', 0, 'answer']);
    assert.equal([fleet.task(id).questions?.length, fleet.task(id).machineFaults], [1, 0]);
  }
  fleet.ask({ op: 'task.answer', task: id, text: 'both' });
  assert.is(fleet.running(ada).answers?.[0]?.answer, 'both');
});

test('the submitter or an operator answers, nobody else; a stop ends what asks', () => {
  const fleet = new Fleet();
  const [ada, bob] = [thinker(fleet, 'ada', 1), thinker(fleet, 'bob', 1)];
  const peer = (name: string): Actor => ({ kind: 'peer', peer: peerOf(name) });
  const operation = fleet.core.state.tasks.byId;
  assert.is(operation.size, 0);
  const id = goal(fleet, { on: 'ada' });
  asks(fleet, ada);
  const answer = { op: 'task.answer', task: id, text: 'yes' } as const;
  assert.is(fleet.refusal(answer, peer('bob')), 'SF_REFUSED');
  fleet.ask({ op: 'task.stop', task: id });
  assert.is(fleet.task(id).state, 'cancelled');
  assert.is(fleet.refusal(answer), 'SF_CONFLICT');
  assert.is(bob.running.size, 0);
  const { spec } = fleet.task(id);
  const own = fleet.ask<{ id: string }>(
    { op: 'task.submit', spec, bundle: null, correlation: null },
    peer('bob'),
  );
  asks(fleet, ada);
  fleet.ask({ ...answer, task: own.id }, peer('bob'));
  assert.is(fleet.running(ada).task, own.id);
});

test('a model that asks again and again ends its task; one of a command holds nothing up', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet);
  for (let n = 0; n < questionsMax; n += 1) {
    asks(fleet, ada, `question ${n}`);
    fleet.ask({ op: 'task.answer', task: id, text: `answer ${n}` });
  }
  assert.is(fleet.running(ada).answers?.length, questionsMax);
  asks(fleet, ada);
  assert.equal([fleet.task(id).state, fleet.task(id).converged?.reason], ['failed', 'signal']);
  const command = fleet.submit();
  asks(fleet, ada);
  assert.equal([fleet.task(command).state, fleet.task(command).questions], ['failed', undefined]);
});

test('what its model is not sure of is worth 0.6 when verified, also after a restart; a command’s is not', () => {
  const fleet = new Fleet();
  const [ada, bob] = [thinker(fleet, 'ada'), fleet.join('bob')];
  const unsure = (assignment: Assignment): void => {
    ada.running.delete(leaseKey(assignment));
    const work = { lowConfidence: true };
    fleet.member(ada, { type: 'finished', result: resultOf(ada.peer, assignment, {}, true, [], work) });
  };
  const shown = (id: string): number | null =>
    fleet.ask<{ confidence: number | null }>({ op: 'task.get', task: id }).confidence;
  const id = goal(fleet);
  unsure(fleet.running(ada));
  assert.equal([fleet.task(id).state, shown(id)], ['executed', 0.3]);
  fleet.restart();
  for (const member of [ada, bob]) fleet.connect(member);
  fleet.advance(1_000);
  fleet.finish(bob, fleet.running(bob, 'verify'));
  const { converged } = fleet.task(id);
  assert.equal(
    [converged?.state, converged?.verified, converged?.confidence, shown(id)],
    ['delivered', true, 0.6, 0.6],
  );
  const command = fleet.submit({ on: 'ada' });
  unsure(fleet.running(ada));
  fleet.finish(bob, fleet.running(bob, 'verify'));
  assert.is(fleet.task(command).converged?.confidence, 0.9);
});

test('a task that a model rejects goes to another machine once, and then to a person', () => {
  const fleet = new Fleet();
  const [ada, bob] = [thinker(fleet, 'ada'), thinker(fleet, 'bob')];
  const id = goal(fleet);
  const reject = (member: TestMember): void =>
    signals(fleet, member, fleet.running(member), { kind: 'task_rejection', text: 'it makes no sense' });
  const [first, second] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  reject(first);
  assert.equal([fleet.task(id).retriesUsed, first.running.size], [0, 0]);
  reject(second);
  const { converged } = fleet.task(id);
  assert.equal([converged?.state, converged?.reason, converged?.attempts], ['failed', 'signal', 2]);
  assert.match(converged?.detail ?? '', /task_rejection: it makes no sense/);
  const half = goal(fleet);
  const one = ada.running.size > 0 ? ada : bob;
  signals(fleet, one, fleet.running(one), { kind: 'partial_completion', text: 'the tests are left' });
  assert.equal([fleet.task(half).converged?.reason, fleet.task(half).executions], ['signal', 1]);
});

test.run();
