import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canonicalJson } from '../../../ledger/lines/canonical-json.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import {
  draftsMax,
  findRecord,
  type Memory,
  recalledFor,
  recordsMax,
  recordsOf,
  recordsOfKindMax,
  recordsOfSubmitterMax,
} from '../../../ledger/state/memory.ts';
import { initialState, loadState, replay, saveState } from '../../../ledger/state/state.ts';
import { newTaskId } from '../../../protocol/ids.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { hex, peerOf } from '../../hub/core/fleet.ts';
import { Entries } from './entries.ts';

const ADA: Actor = { kind: 'peer', peer: peerOf('ada') };
const EVE: Actor = { kind: 'peer', peer: peerOf('eve') };
const repository = (name: string) => ({
  id: hex(name).slice(0, 40),
  name,
  ref: 'HEAD',
  base: 'f'.repeat(40),
});
const bundle = { commit: 'f'.repeat(40), bundle: 'f'.repeat(64), prerequisites: [] };

const EMPTY = { submitters: new Map(), drafts: new Map(), size: 0, kinds: new Map() };

/** A task id from a number. */
const idOf = (n: number): string =>
  newTaskId((length) => Uint8Array.from({ length }, (_, at) => (n >> (5 * at)) & 31));

class Log extends Entries {
  goal(task: string, by: Actor, goal = 'mend it', name = 'app'): this {
    const spec = taskSpec.parse({
      kind: 'code',
      code: { goal },
      checks: ['sh test.sh'],
      repository: repository(name),
    });
    return this.add({
      type: 'task.submitted',
      body: { task, correlation: task, spec, bundle, rerunOf: null, by },
    });
  }

  learned(task: string, files: string[], pattern = 'expected N'): this {
    const failures = [{ check: 0, before: true, pattern }];
    return this.add({
      type: 'task.learned',
      body: { task, attempt: 1, correlation: task, files, failures },
    });
  }

  fails(task: string, detail: string | null = null): this {
    return this.#ends(task, { state: 'failed', reason: 'check', detail });
  }

  /** Executed by one machine and verified by another. */
  succeeds(task: string): this {
    this.assign(1, 'm1', 'execute', task)
      .execute(1, [], task)
      .assign(2, 'm2', 'verify', task)
      .verify(2, true, task);
    return this.#ends(task, {
      state: 'delivered',
      reason: null,
      detail: null,
      verified: true,
      confidence: 0.9,
    });
  }

  cancels(task: string, by: Actor): this {
    this.add({ type: 'task.cancelled', body: { task, correlation: task, by } });
    return this.#ends(task, { state: 'cancelled', reason: null, detail: 'cancelled' });
  }

  #ends(task: string, how: object): this {
    return this.add({
      type: 'task.converged',
      body: {
        task,
        correlation: task,
        verified: false,
        confidence: 0,
        executor: null,
        verifier: null,
        sameOwner: null,
        attempts: 1,
        commit: null,
        exitCode: null,
        receipt: null,
        verification: null,
        learned: { queuedMs: null, runMs: null, faults: [] },
        ...how,
      } as never,
    });
  }

  note(by: Actor, text: string, name: string | null = 'app'): this {
    const of = name === null ? null : { id: repository(name).id, name };
    return this.add({ type: 'memory.noted', body: { repository: of, file: null, topic: null, text, by } });
  }
}

const memoryOf = (log: Entries): Memory => replay(structuredClone(log.all)).plugins.get('memory') as Memory;

test('a goal that ended is remembered with what its machine measured, for who sent it', () => {
  const [red, green, gone] = [idOf(1), idOf(2), idOf(3)];
  const log = new Log().admit('m1').admit('m2');
  log.goal(red, ADA, 'make it say Hello').learned(red, ['greet.sh']).fails(red, 'check 1 of 1 is red');
  log.goal(green, ADA).learned(green, ['a/b.ts']).succeeds(green);
  log.goal(gone, ADA).cancels(gone, ADA);
  log.submit('abcdefghijkl').note(ADA, 'the tests need tabs').note(EVE, 'eve was here');
  const memory = memoryOf(log);
  const records = recordsOf(memory, ADA);
  assert.equal(
    records.map(({ id, kind }) => [id, kind]),
    [
      [red, 'task'],
      [green, 'task'],
      [`n${log.all.length - 2}`, 'note'],
    ],
  );
  const [first, second] = records;
  assert.equal(
    first?.kind === 'task' && [first.goal, first.state, first.reason, first.verified, first.lesson?.files],
    ['make it say Hello', 'failed', 'check', false, ['greet.sh']],
  );
  assert.equal(second?.kind === 'task' && [second.verified, second.lesson?.failures], [
    true,
    [{ check: 0, before: true, pattern: 'expected N' }],
  ]);
  assert.is(recordsOf(memory, EVE).length, 1);
  assert.is(memory.drafts.size, 0);
});

test('what was sent is counted, and what is forgotten is gone', () => {
  const [old, next] = [idOf(1), idOf(2)];
  const log = new Log().admit('m1').goal(old, ADA).fails(old).note(ADA, 'tabs').note(EVE, 'mine');
  const [note, eves] = [`n${log.all.length - 2}`, `n${log.all.length - 1}`];
  log.goal(next, ADA).assign(1, 'm1', 'execute', next);
  const body = { task: next, attempt: 1, correlation: next, records: [old, note] };
  log.add({ type: 'memory.recalled', body });
  let memory = memoryOf(log);
  assert.equal(recalledFor(memory, next, ADA), [old, note]);
  assert.equal(
    [old, note, eves].map((id) => findRecord(memory, id)?.used),
    [1, 1, 0],
  );
  log.add({ type: 'memory.forgotten', body: { record: note, by: ADA } });
  log.end(1, 'task', next).fails(next);
  memory = memoryOf(log);
  assert.is(findRecord(memory, note), null);
  assert.equal([memory.size, recalledFor(memory, next, ADA)], [3, [old, note]]);
  log.add({ type: 'memory.forgotten', body: { record: eves, by: ADA } });
  memory = memoryOf(log);
  assert.equal([memory.size, memory.submitters.size], [2, 1]);
});

test('promise 9: a saved state goes on as the one that was saved', () => {
  const log = new Log().admit('m1').admit('m2');
  for (let n = 0; n < 200; n += 1) {
    const [id, by] = [idOf(n), n % 3 === 0 ? EVE : ADA];
    log.goal(id, by, `goal ${n}`, `app${n % 2}`);
    if (n % 5 === 0) log.note(by, `note ${n}`, n % 10 === 0 ? null : 'app1');
    if (n % 7 === 0) continue;
    log.learned(id, [`f${n}.ts`]);
    if (n % 2 === 0) log.succeeds(id);
    else log.fails(id);
  }
  const whole = canonicalJson(saveState(replay(structuredClone(log.all))));
  for (let at = 1; at < log.all.length; at += 97) {
    const saved = JSON.parse(JSON.stringify(saveState(replay(structuredClone(log.all.slice(0, at))))));
    const state = loadState(saved);
    assert.ok(state);
    assert.equal(
      (state.plugins.get('memory') as Memory).kinds,
      memoryOf({ all: log.all.slice(0, at) } as Entries).kinds,
    );
    assert.is(
      canonicalJson(saveState(replay(structuredClone(log.all.slice(at)), state!))),
      whole,
      `cut at ${at}`,
    );
  }
});

test('promise 18: what is kept is bounded by kind, by submitter and in all, and a flood of one leaves the others theirs', () => {
  const log = new Log().admit('m1').admit('m2');
  const good = idOf(1);
  log.goal(good, ADA).succeeds(good).note(EVE, 'mine');
  for (let n = 0; n < recordsOfKindMax + 9; n += 1) log.goal(idOf(10 + n), ADA).fails(idOf(10 + n));
  for (let n = 0; n < recordsOfKindMax + 9; n += 1) log.note(ADA, `note ${n}`);
  const kinds = recordsOf(memoryOf(log), ADA);
  assert.is(kinds.length, 1 + 2 * recordsOfKindMax);
  assert.is(kinds[0]?.id, good, 'a verified one does not give way to others');
  assert.is(kinds.find(({ kind }) => kind === 'note')?.kind === 'note', true);

  for (let n = 0; n < recordsOfSubmitterMax + 9; n += 1) log.note(ADA, 'x', `app${n}`);
  assert.is(recordsOf(memoryOf(log), ADA).length, recordsOfSubmitterMax);

  for (let many = 0; many < 6; many += 1) {
    const by: Actor = { kind: 'local', user: `u${many}`, claimed: true };
    for (let n = 0; n < recordsOfSubmitterMax; n += 1) log.note(by, 'x', `app${n}`);
  }
  const memory = memoryOf(log);
  const counted = [...memory.submitters.values()].reduce((sum, { length }) => sum + length, 0);
  assert.equal([memory.size, counted], [recordsMax, recordsMax]);
  assert.is(
    [...memory.kinds.values()].reduce((sum, many) => sum + many, 0),
    recordsMax,
  );
  assert.is(recordsOf(memory, EVE).length, 1, 'who has little keeps it');

  const open = new Log();
  for (let n = 0; n < draftsMax + 5; n += 1) open.goal(idOf(n), ADA);
  const drafts = memoryOf(open).drafts;
  assert.equal([drafts.size, drafts.has(idOf(0)), drafts.has(idOf(draftsMax))], [draftsMax, false, true]);
});

test('a replay without what this plugin adds is the replay it was', () => {
  const log = new Log().submit();
  assert.equal(initialState().plugins.get('memory'), EMPTY);
  assert.equal(memoryOf(log), EMPTY);
});

test.run();
