import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Why } from '../../../hub/core/answers/why-answer.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import type { Page, TaskObject } from '../../../node/api/objects.ts';
import type { AttemptResult, FounderMessage } from '../../../protocol/session.ts';
import type { TaskState } from '../../../protocol/task.ts';
import { Fleet, resultOf, type TestMember } from './fleet.ts';

const KEPT = 2;

/** A fleet whose state keeps two ended tasks, and five that were delivered one after another, oldest first. */
function archived() {
  const fleet = new Fleet({}, { endedTasks: KEPT });
  const ada = fleet.join('ada', { roles: ['worker', 'submitter'] });
  const ids = Array.from({ length: 5 }, () => deliver(fleet, ada));
  assert.is(fleet.core.state.tasks.byId.size, KEPT);
  return { fleet, ada, ids, oldest: ids[0]! };
}

/** Unverified, since nobody else is there. */
function deliver(fleet: Fleet, member: TestMember): string {
  const id = fleet.submit({ checks: [] });
  fleet.finish(member, fleet.running(member));
  return id;
}

const recalls = (fleet: Fleet): number => fleet.log.filter((effect) => effect.type === 'recall').length;
const send = (fleet: Fleet, { peer, session }: TestMember, result: AttemptResult): void =>
  fleet.founder({ type: 'received', peer, session: session!, message: { type: 'result', result } });
const settled = (fleet: Fleet): Extract<FounderMessage, { type: 'settled' }>[] =>
  fleet.log.flatMap((effect) =>
    effect.type === 'send' && effect.message.type === 'settled' ? [effect.message] : [],
  );

test('a task that has left the state is shown, explained, repeated and marked as applied like any other', () => {
  const { fleet, oldest } = archived();
  assert.is(fleet.task(oldest), undefined);
  assert.equal(
    [fleet.ask({ op: 'task.get', task: oldest }).id, fleet.ask({ op: 'task.get', task: oldest }).state],
    [oldest, 'delivered'],
  );
  assert.match(fleet.ask<Why>({ op: 'task.why', task: oldest }).reasons[0]!, 'delivered');
  assert.is(fleet.refusal({ op: 'task.stop', task: oldest }), 'SF_CONFLICT');
  const again = fleet.ask<{ id: string; rerunOf: string }>({ op: 'task.rerun', task: oldest });
  assert.is(again.rerunOf, oldest);
  assert.is(fleet.task(again.id).state, 'assigned');
  const commit = 'e'.repeat(40);
  const applied = fleet.ask<{ applied: object }>({ op: 'task.applied', task: oldest, commit });
  assert.equal(fleet.ask({ op: 'task.get', task: oldest }).applied, applied.applied);
  assert.ok(applied.applied);
  fleet.restart();
  assert.equal(fleet.ask({ op: 'task.get', task: oldest }).applied, applied.applied);
});

test('whoever may not see it is refused it also when it has left the state', () => {
  const { fleet, oldest } = archived();
  const peer: Actor = { kind: 'peer', peer: fleet.join('eve', { roles: ['submitter'] }).peer };
  assert.is(fleet.refusal({ op: 'task.get', task: oldest }, peer), 'SF_REFUSED');
  assert.is(fleet.refusal({ op: 'task.rerun', task: oldest }, peer), 'SF_REFUSED');
});

test('a task that never was is not there, and the log is only asked where it could be', () => {
  const young = new Fleet();
  const task = 'abcdefghijkl';
  assert.is(young.refusal({ op: 'task.get', task }), 'SF_NOT_FOUND');
  assert.is(recalls(young), 0);
  const { fleet } = archived();
  for (const op of ['task.get', 'task.why', 'task.stop', 'task.rerun'] as const) {
    assert.is(fleet.refusal({ op, task }), 'SF_NOT_FOUND', op);
  }
  assert.is(recalls(fleet), 4);
});

test('a log that cannot be read is an error of the request alone', () => {
  const { fleet, oldest } = archived();
  fleet.holdRecalls = [];
  assert.throws(() => fleet.ask({ op: 'task.get', task: oldest }), /held back/);
  const [{ purpose }] = fleet.holdRecalls as [(typeof fleet.holdRecalls)[0]];
  const error = { code: 'SF_LOG_DAMAGED', message: 'bytes' } as const;
  fleet.founder({
    type: 'recalled',
    purpose,
    found: { tasks: [] },
    error: { ...error, expected: null, got: null, hint: null },
  });
  assert.is(fleet.log.at(-1)?.type, 'answer');
  fleet.holdRecalls = null;
  assert.is(fleet.ask({ op: 'task.get', task: oldest }).state, 'delivered');
});

test('pages of every size name every task once, newest first, whichever of them the state keeps', () => {
  const { fleet, ada, ids } = archived();
  // One that is long open lies between tasks that have left the state.
  const open = fleet.submit({ on: 'founder' });
  ids.push(open, deliver(fleet, ada), deliver(fleet, ada), deliver(fleet, ada));
  const newestFirst = [...ids].reverse();
  const list = (limit: number, states: TaskState[] | null, by?: Actor): string[] => {
    const listed: string[] = [];
    for (let cursor: string | null = null; ; ) {
      const operation = { op: 'task.list' as const, states, cursor, limit };
      const page: Page<TaskObject> = fleet.ask(operation, by);
      assert.ok(page.items.length <= limit);
      listed.push(...page.items.map(({ id }) => id));
      if (page.next === null) return listed;
      assert.ok(cursor === null || Number(page.next) < Number(cursor), 'every page gets on');
      cursor = page.next;
    }
  };
  for (let limit = 1; limit <= ids.length + 1; limit += 1) {
    assert.equal(list(limit, null), newestFirst, `pages of ${limit}`);
    assert.equal(
      list(limit, ['delivered']),
      newestFirst.filter((id) => id !== open),
    );
    assert.equal(list(limit, ['failed']), []);
    assert.equal(list(limit, ['queued', 'assigned']), [open]);
    assert.equal(list(limit, null, { kind: 'peer', peer: ada.peer }), []);
  }
});

test('the first page is not made to wait for the log where the state has it', () => {
  const { fleet } = archived();
  fleet.ask({ op: 'task.list', states: null, cursor: null, limit: KEPT });
  fleet.ask({ op: 'task.list', states: ['queued'], cursor: null, limit: 50 });
  assert.is(recalls(fleet), 0);
});

/** A lease that was lost, whose task another has done since, and has left the state. */
function lost() {
  const fleet = new Fleet({}, { endedTasks: 1 });
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ checks: [] });
  const [holder, other] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  const assignment = fleet.running(holder);
  fleet.disconnect(holder);
  fleet.advance(3_000);
  fleet.finish(other, fleet.running(other));
  deliver(fleet, other);
  assert.is(fleet.task(id), undefined);
  holder.running.clear();
  fleet.connect(holder);
  return { fleet, holder, other, assignment, result: resultOf(holder.peer, assignment) };
}
const evidence = (fleet: Fleet): unknown[] => fleet.entries.filter(({ type }) => type === 'task.evidence');

test('a late result of a task that has left the state is kept as evidence once, and changes nothing (promise 10)', () => {
  const { fleet, holder, result } = lost();
  send(fleet, holder, result);
  assert.is(evidence(fleet).length, 1);
  assert.is(settled(fleet).at(-1)?.accepted, false);
  const before = settled(fleet).length;
  send(fleet, holder, result);
  assert.is(evidence(fleet).length, 1, 'it is there already');
  assert.is(settled(fleet).length, before + 1);
  const task = fleet.ask<{ executor: { id: string }; history: { evidence: object | null }[] }>({
    op: 'task.get',
    task: result.task,
  });
  assert.is.not(task.executor.id, holder.peer);
  assert.ok(task.history[0]!.evidence);
  fleet.restart();
});

test('the same late result sent again while the log is read, or its envelope stored, is answered once', () => {
  const { fleet, holder, result } = lost();
  fleet.holdRecalls = [];
  fleet.holdCollects = [];
  for (let times = 0; times < 3; times += 1) send(fleet, holder, result);
  assert.is(fleet.holdRecalls.length, 1);
  fleet.recalled(fleet.holdRecalls[0]!);
  send(fleet, holder, result);
  assert.is(fleet.holdRecalls.length, 1);
  assert.is(fleet.holdCollects.length, 1);
  fleet.collected(fleet.holdCollects[0]!);
  assert.is(evidence(fleet).length, 1);
});

test('what was not given to the member, or to nobody, is settled and not kept (promise 12)', () => {
  const { fleet, holder, other, assignment, result } = lost();
  send(fleet, other, resultOf(other.peer, assignment));
  send(fleet, holder, { ...result, attempt: 9 });
  send(fleet, holder, { ...result, task: 'abcdefghijkl' });
  send(fleet, holder, { ...result, envelope: 'nonsense' });
  assert.equal(evidence(fleet), []);
  assert.equal(
    settled(fleet)
      .slice(-4)
      .map(({ accepted }) => accepted),
    [false, false, false, false],
  );
});

test('a late result whose task leaves the state while its envelope is stored is kept', () => {
  const fleet = new Fleet({}, { endedTasks: 1 });
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ checks: [] });
  const [holder, other] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  const result = resultOf(holder.peer, fleet.running(holder));
  fleet.disconnect(holder);
  fleet.advance(3_000);
  fleet.finish(other, fleet.running(other));
  holder.running.clear();
  fleet.connect(holder);
  fleet.holdCollects = [];
  send(fleet, holder, result);
  const [collect] = fleet.holdCollects;
  fleet.holdCollects = null;
  const next = fleet.submit({ checks: [], on: other.name });
  fleet.finish(other, fleet.running(other));
  assert.equal([fleet.task(id), fleet.task(next).state], [undefined, 'delivered']);
  fleet.collected(collect!);
  assert.is(evidence(fleet).length, 1);
});

test.run();
