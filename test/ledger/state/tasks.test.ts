import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { IllegalTransition } from '../../../ledger/state/errors.ts';
import { initialState, loadState, replay, saveState } from '../../../ledger/state/state.ts';
import { attemptsKeptMax } from '../../../ledger/state/task-record.ts';
import { hex, peerOf } from '../../hub/core/fleet.ts';
import { BY, Entries, TASK } from './entries.ts';

const task = (entries: Entries) => replay(entries.all).tasks.byId.get(TASK)!;
const illegal = (entries: Entries, why: RegExp): void =>
  assert.throws(
    () => replay(entries.all),
    (error: unknown) => error instanceof IllegalTransition && why.test(error.message),
  );
const executed = (): Entries => new Entries().admit('ada').admit('bob').submit().assign(1, 'ada').execute(1);

test('a task goes through its states as the entries say', () => {
  const entries = new Entries().submit();
  assert.is(task(entries).state, 'queued');
  assert.is(task(entries.assign(1, 'ada')).state, 'assigned');
  entries.add({ type: 'attempt.started', body: { task: TASK, attempt: 1, correlation: TASK } });
  assert.is(task(entries).state, 'running');
  assert.is(task(entries.execute(1)).state, 'executed');
  assert.is(task(entries.assign(2, 'bob', 'verify')).state, 'executed');
  assert.is(task(entries.verify(2, true)).state, 'verified');
  assert.is(task(entries.converge(true, 0.9)).state, 'delivered');
  assert.is(replay(entries.all).tasks.open.size, 0);
});

test('a second accepted result of one task is refused (promise 10)', () => {
  illegal(executed().execute(1), /no attempt 1/);
  illegal(new Entries().submit().assign(1, 'ada').assign(2, 'bob'), /assigned, not queued/);
});

test('the result of a lease that has ended is refused (promise 10)', () => {
  illegal(new Entries().submit().assign(1, 'ada').end(1).execute(1), /no attempt 1/);
});

test('the executor may not verify its own result', () => {
  illegal(executed().assign(2, 'ada', 'verify'), /executor/);
});

test('a verification that says no lets the accepted result be withdrawn, and only then', () => {
  illegal(executed().end(1, 'task'), /no verification speaks against/);
  const withdrawn = task(executed().assign(2, 'bob', 'verify').verify(2, false).end(1, 'task'));
  assert.is(withdrawn.state, 'queued');
  assert.is(withdrawn.accepted, null);
  assert.is(withdrawn.retriesUsed, 1);
});

test('a result that changes its checks never becomes verified', () => {
  const entries = new Entries()
    .submit()
    .assign(1, 'ada')
    .execute(1, ['check.sh'])
    .assign(2, 'bob', 'verify')
    .verify(2, true);
  assert.is(task(entries).state, 'executed');
  illegal(entries.converge(true, 0.9), /verified is true/);
});

test('an unverified result claims no confidence above 0.3 (promise 19)', () => {
  illegal(executed().converge(false, 0.31), /confidence/);
  assert.is(task(executed().converge(false, 0.3)).converged?.confidence, 0.3);
});

test('nothing happens to a task that has ended', () => {
  illegal(executed().converge(false, 0.3).converge(false, 0.3), /has ended/);
  illegal(executed().converge(false, 0.3).assign(2, 'bob', 'verify'), /has ended/);
});

test('what was delivered may be verified again: it stays as it ended, and what came of it is told', () => {
  const [ADA, BOB, EVE] = ['ada', 'bob', 'eve'].map((name) => peerOf(name)) as [string, string, string];
  const done = () => executed().assign(2, 'bob', 'verify').verify(2, true);
  const delivered = () => done().converge(true, 0.9);
  const give = (at: number, member = EVE) => ({
    type: 'reverification.assigned' as const,
    body: { task: TASK, attempt: at, correlation: TASK, member, nonce: '0'.repeat(32), of: BOB },
  });
  const say = (attempt: number | null, by: string | null, outcome: 'contradicted' | 'unavailable') => ({
    type: 'task.reverified' as const,
    body: {
      task: TASK,
      correlation: TASK,
      of: BOB,
      outcome,
      attempt,
      by,
      receipt: hex('receipt'),
      verification: by === null ? null : hex('again'),
      envelope: by === null ? null : hex('envelope3'),
      sameOwner: null,
      detail: 'it is red',
    },
  });
  const { state, attempts, reverified } = task(
    delivered()
      .add(give(3))
      .add(say(3, EVE, 'contradicted')),
  );
  assert.equal([state, attempts.length], ['delivered', 3]);
  assert.equal([reverified?.outcome, reverified?.by, reverified?.detail], ['contradicted', EVE, 'it is red']);
  assert.is(task(delivered().add(say(null, null, 'unavailable'))).reverified?.outcome, 'unavailable');
  illegal(done().add(give(3)), /not delivered/);
  illegal(delivered().add(give(2)), /attempt 3 is the next one/);
  illegal(delivered().add(give(3, BOB)), /what it said before/);
  illegal(delivered().add(give(3, ADA)), /its own result/);
  illegal(delivered().add(give(3)).add(give(4)), /being verified already/);
  illegal(delivered().add(say(3, EVE, 'contradicted')), /no attempt 3/);
  illegal(
    delivered()
      .add(give(3))
      .add(say(3, BOB, 'contradicted')),
    /given to another/,
  );
  illegal(delivered().add(say(null, null, 'contradicted')), /somebody’s word/);
});

test('a task does not end while an attempt of it is open', () => {
  illegal(new Entries().submit().assign(1, 'ada').converge(false, 0, 'failed'), /is open/);
});

test('attempt numbers have no gap', () => {
  illegal(new Entries().submit().assign(2, 'ada'), /attempt 1 is the next/);
});

test('faults are counted against whom they belong to', () => {
  const entries = new Entries()
    .submit()
    .assign(1, 'ada')
    .end(1, 'machine')
    .assign(2, 'bob')
    .end(2, 'task')
    .assign(3, 'ada')
    .end(3, 'person');
  const { retriesUsed, machineFaults, avoid } = task(entries);
  assert.equal({ retriesUsed, machineFaults }, { retriesUsed: 1, machineFaults: 1 });
  assert.is(avoid.length, 2);
  assert.equal(
    [...replay(entries.all).tasks.blame.values()],
    [
      { machine: 1, task: 0 },
      { machine: 0, task: 1 },
    ],
  );
});

test('any number of attempts takes a bounded place (promise 18)', () => {
  const entries = new Entries().submit();
  for (let attempt = 1; attempt <= 500; attempt += 1) entries.assign(attempt, 'ada').end(attempt, 'person');
  entries.assign(501, 'ada');
  const { attempts, attemptCount, executions } = task(entries);
  assert.is(attempts.length, attemptsKeptMax);
  assert.is(attempts.at(-1)?.end, null);
  assert.equal([attemptCount, executions], [501, 501]);
});

test('evidence and applications may come for a task that has left the state, and nothing else', () => {
  const gone = (): Entries => {
    const entries = executed().converge(false, 0.3);
    const other = 'bbbbbbbbbbbb';
    return entries
      .submit(other)
      .assign(1, 'ada', 'execute', other)
      .execute(1, [], other)
      .converge(false, 0.3, 'delivered', other);
  };
  const few = (entries: Entries) => replay(entries.all, initialState({ endedTasks: 1 }));
  assert.is(few(gone()).tasks.byId.has(TASK), false);
  const evidence = { task: TASK, attempt: 1, correlation: TASK, epoch: 1, member: peerOf('ada') };
  const late = {
    type: 'task.evidence',
    body: { ...evidence, receipt: null, envelope: null, why: 'late' },
  } as const;
  const applied = { type: 'task.applied', body: { task: TASK, commit: 'c'.repeat(40), by: BY } } as const;
  const before = JSON.stringify(few(gone()).tasks.byId.size);
  assert.is(JSON.stringify(few(gone().add(late).add(applied)).tasks.byId.size), before);
  const refused = (entries: Entries, why: RegExp): void =>
    assert.throws(
      () => few(entries),
      (error: unknown) => error instanceof IllegalTransition && why.test(error.message),
    );
  refused(gone().assign(2, 'bob'), /no task .* is open/);
  refused(gone().converge(false, 0.3), /no task .* is open/);
  // Where no task has left the state, one that is not there never was.
  refused(
    executed().add({ ...applied, body: { ...applied.body, task: 'cccccccccccc' } }),
    /there is no task/,
  );
});

test('a task that asks is held until it is answered, and asks one thing at a time', () => {
  const question = { task: TASK, attempt: 1, correlation: TASK, question: 'Which file?' };
  const answer = {
    type: 'task.answered',
    body: { task: TASK, correlation: TASK, text: 'both', by: BY },
  } as const;
  const asking = (): Entries =>
    new Entries().submit().assign(1, 'ada').add({ type: 'task.asked', body: question });
  illegal(new Entries().submit().add({ type: 'task.asked', body: question }), /no attempt 1/);
  illegal(asking().add({ type: 'task.asked', body: question }), /waits for an answer already/);
  const held = (): Entries => asking().end(1, 'person');
  assert.equal([task(held()).state, task(held()).retriesUsed], ['queued', 0]);
  illegal(held().assign(2, 'ada'), /it waits for an answer/);
  illegal(held().add(answer).add(answer), /it asks nothing/);
  const answered = held().add(answer).assign(2, 'ada');
  assert.is(task(answered).state, 'assigned');
  assert.equal(task(answered).questions, [
    { attempt: 1, text: 'Which file?', at: 1003, answer: { text: 'both', by: BY, at: 1005 } },
  ]);
  const state = replay(answered.all);
  const again = loadState(JSON.parse(JSON.stringify(saveState(state))) as ReturnType<typeof saveState>);
  assert.equal(again?.tasks.byId.get(TASK), state.tasks.byId.get(TASK));
});

test('a verified result that its model is not sure of claims no more than 0.6', () => {
  const unsure = (confidence: number): Entries =>
    new Entries()
      .submit()
      .assign(1, 'ada')
      .add({ type: 'task.doubted', body: { task: TASK, attempt: 1, correlation: TASK } })
      .execute(1)
      .assign(2, 'bob', 'verify')
      .verify(2, true)
      .converge(true, confidence);
  illegal(unsure(0.9), /not sure of claims a confidence of 0.9/);
  assert.equal([task(unsure(0.6)).state, task(unsure(0.6)).accepted?.lowConfidence], ['delivered', true]);
  illegal(
    executed().add({ type: 'task.doubted', body: { task: TASK, attempt: 1, correlation: TASK } }),
    /no attempt 1/,
  );
});

test.run();
