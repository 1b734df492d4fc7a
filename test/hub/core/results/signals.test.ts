import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ReceiptFacts } from '../../../../hub/core/results/checks.ts';
import type { Actor } from '../../../../ledger/lines/events.ts';
import { questionsMax } from '../../../../protocol/limits.ts';
import { type Assignment, type AttemptResult, leaseKey } from '../../../../protocol/session.ts';
import { CAPACITY, Fleet, HELLO, hex, peerOf, resultOf, type TestMember } from '../fleet.ts';

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

function signals(
  fleet: Fleet,
  member: TestMember,
  assignment: Assignment,
  signal: Signal,
  model = 'qwen',
  part: Partial<AttemptResult> = {},
): void {
  const failed = {
    outcome: 'failed',
    reason: 'signal',
    fault: 'task',
    detail: `${signal!.kind}: ${signal!.text}`,
    exitCode: null,
    commit: null,
    bundle: null,
    ...part,
  } as const;
  const { task, attempt, epoch } = assignment;
  member.running.delete(`${task}.${attempt}.${epoch}`);
  const work = { lowConfidence: false, signal, model };
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
  assert.match(why.reasons.join(), /waits for a person’s answer.*Which file\?/);
  assert.match(why.remedies.join(), new RegExp(`task answer ${id} `));
  const status = fleet.ask<{ queue: object; needs: { what: string }[]; waits: object }>({ op: 'status' });
  assert.equal([status.queue, status.waits], [{ queued: 1, running: 0 }, { answer: 1 }]);
  assert.match(
    status.needs.map(({ what }) => what).join(),
    new RegExp(`${id} waits for an answer to “Which file`),
  );
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

/** Rejected by the model of that name. */
const rejects = (fleet: Fleet, member: TestMember, model = 'qwen'): void =>
  signals(fleet, member, fleet.running(member), { kind: 'task_rejection', text: 'it makes no sense' }, model);

test('a task that a model rejects goes to another machine once, and then waits for a person', () => {
  const fleet = new Fleet();
  const [ada, bob] = [thinker(fleet, 'ada'), thinker(fleet, 'bob')];
  const id = goal(fleet);
  const [first, second] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  rejects(fleet, first);
  assert.equal([fleet.task(id).retriesUsed, first.running.size], [0, 0]);
  assert.equal(fleet.running(second).rejectedBy, ['qwen']);
  rejects(fleet, second);
  fleet.advance(60_000);
  assert.equal([fleet.task(id).state, first.running.size, second.running.size], ['queued', 0, 0]);
  const why = fleet.why(id);
  assert.is(why.wait, 'answer');
  assert.match(why.reasons.join(), /qwen rejects the task: it makes no sense/);
  const { needs } = fleet.ask<{ needs: { what: string; command: string }[] }>({ op: 'status' });
  assert.equal(needs[0]?.command, `mesh-hub task answer ${id} TEXT`);
  fleet.ask({ op: 'task.answer', task: id, text: 'it does: see README' });
  const again = ada.running.size > 0 ? ada : bob;
  assert.is(fleet.running(again).answers?.at(-1)?.answer, 'it does: see README');
  // Whoever refuses it now has been told what a person says: nobody else is tried.
  rejects(fleet, again);
  assert.equal([fleet.why(id).wait, fleet.task(id).executions], ['answer', 3]);
});

test('a lone machine gives a rejected task to another of its models once; without one a person is asked at once', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const waits = (id: string): unknown[] => [fleet.why(id).wait, fleet.task(id).executions];
  const alone = goal(fleet);
  rejects(fleet, ada);
  fleet.advance(60_000);
  assert.equal(waits(alone), ['answer', 1]);
  fleet.ask({ op: 'task.stop', task: alone });
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, models: ['qwen', 'llama'] } });
  const two = goal(fleet);
  rejects(fleet, ada);
  // Also where the founder died between two entries of it.
  fleet.restart(fleet.entries.length - 1);
  fleet.connect(ada);
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, models: ['qwen', 'llama'] } });
  fleet.advance(60_000);
  assert.equal(fleet.running(ada).rejectedBy, ['qwen']);
  rejects(fleet, ada, 'llama');
  assert.is(fleet.why(two).wait, 'answer');
  fleet.ask({ op: 'task.stop', task: two });
  const named = goal(fleet, { model: 'qwen' });
  rejects(fleet, ada);
  assert.equal(waits(named), ['answer', 1]);
});

const PART = {
  commit: 'c'.repeat(40),
  bundle: { blob: hex('part'), bytes: 10, sha256: hex('p') },
} as const;

test('what a model did of a goal is continued by a new task, which begins with it and is told what is left', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet, { labels: {} });
  const part: Signal = { kind: 'partial_completion', text: 'the tests are left' };
  const goOn = { op: 'task.continue', task: id, text: 'now the tests' } as const;
  assert.is(fleet.refusal(goOn), 'SF_CONFLICT');
  signals(fleet, ada, fleet.running(ada), part, 'qwen', PART);
  assert.equal([fleet.task(id).converged?.reason, fleet.task(id).executions], ['signal', 1]);
  assert.match(fleet.why(id).remedies.join(), new RegExp(`task continue ${id} `));
  fleet.restart();
  fleet.connect(ada);
  thinks(fleet, ada);
  const made = fleet.ask<{ id: string; base: string; continues: { task: string } }>(goOn);
  assert.equal([made.base, made.continues.task], [fleet.task(id).spec.repository?.base, id]);
  fleet.advance(1_000);
  const assignment = fleet.running(ada);
  const start = { task: id, ...PART, left: 'the tests are left' };
  assert.equal([assignment.task, assignment.start], [made.id, start]);
  assert.is(assignment.spec.kind === 'code' && assignment.spec.code.goal, 'mend it\n\nnow the tests');
  assert.ok(fleet.core.mayFetch(ada.peer, PART.bundle.blob));
  const entry = fleet.entries.findLast(({ type }) => type === 'task.submitted');
  assert.equal((entry!.body as { continues?: unknown }).continues, start);
  signals(fleet, ada, assignment, part, 'qwen', PART);
  assert.not(fleet.core.mayFetch(ada.peer, PART.bundle.blob));
  const again = fleet.ask<{ id: string }>({ op: 'task.rerun', task: made.id });
  assert.equal(fleet.running(ada).start, start);
  fleet.finish(ada, fleet.running(ada));
  assert.is(fleet.task(again.id).state, 'delivered');
  assert.is(fleet.refusal({ ...goOn, task: again.id }), 'SF_CONFLICT');
});

test('without a branch, or too long, nothing is continued; a release that cannot begin so is given none', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const bare = goal(fleet);
  signals(fleet, ada, fleet.running(ada), { kind: 'partial_completion', text: 'all is left' });
  assert.equal([fleet.task(bare).state, fleet.task(bare).partial], ['failed', undefined]);
  const goOn = { op: 'task.continue', task: bare, text: null } as const;
  assert.is(fleet.refusal(goOn), 'SF_CONFLICT');
  const long = goal(fleet, { code: { goal: 'x'.repeat(8000) } });
  signals(fleet, ada, fleet.running(ada), { kind: 'partial_completion', text: 'half' }, 'qwen', PART);
  assert.is(fleet.refusal({ ...goOn, task: long, text: 'y'.repeat(200) }), 'SF_USAGE');
  fleet.disconnect(ada);
  const features = ['requirements', 'goals'];
  const capacity = { ...CAPACITY, models: ['qwen'] };
  fleet.founder({ type: 'connected', peer: ada.peer, session: 99, hello: { ...HELLO, features, capacity } });
  const { id } = fleet.ask<{ id: string }>({ ...goOn, task: long });
  assert.is(fleet.task(id).state, 'queued');
  assert.match(JSON.stringify(fleet.why(id).members), /continues no goals/);
});

test.run();
