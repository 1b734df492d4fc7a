import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type AttemptResult, failedModelsMax } from '../../../protocol/session.ts';
import { CAPACITY, Fleet, type TestMember } from './fleet.ts';

const MODELS = ['small', 'large'];
function thinker(fleet: Fleet, name: string): TestMember {
  const member = fleet.join(name);
  fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, models: MODELS } });
  return member;
}
const goal = (fleet: Fleet): string => fleet.submit({ kind: 'code', code: { goal: 'mend it' }, retries: 3 });
const down = (failedModels: string[], more: Partial<AttemptResult> = {}): Partial<AttemptResult> => ({
  outcome: 'failed',
  reason: 'lost',
  fault: 'machine',
  detail: 'no model answers',
  exitCode: null,
  commit: null,
  bundle: null,
  failedModels,
  ...more,
});

for (const envelope of ['signed', 'unsigned']) {
  test(`a goal that a model let down says so to the next machine, whose others are asked first: ${envelope}`, () => {
    const fleet = new Fleet();
    const members = [thinker(fleet, 'ada'), thinker(fleet, 'bob')];
    const id = goal(fleet);
    const first = members.find(({ running }) => running.size > 0)!;
    assert.is(fleet.running(first).failedModels, undefined);
    fleet.finish(
      first,
      fleet.running(first),
      down(['small'], envelope === 'signed' ? {} : { envelope: null }),
    );
    const next = members.find(({ running }) => running.size > 0)!;
    assert.is.not(next.name, first.name, 'another machine');
    assert.equal(fleet.running(next).failedModels, ['small']);
    fleet.finish(next, fleet.running(next));
    const verifier = members.find(({ running }) => running.size > 0)!;
    assert.is(fleet.running(verifier, 'verify').failedModels, undefined, 'checks ask no model');
    fleet.finish(verifier, fleet.running(verifier, 'verify'));
    assert.is(fleet.task(id).state, 'delivered');
    const another = goal(fleet);
    const fresh = members.find(({ running }) => running.size > 0)!;
    assert.is(fleet.running(fresh).task, another);
    assert.is(fleet.running(fresh).failedModels, undefined, 'it is said of one task');
  });
}

test('what members say of models is bounded, and nothing of a command', () => {
  const fleet = new Fleet();
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet);
  for (let round = 0; round < 3; round += 1) {
    while (ada.running.size === 0) fleet.advance(250);
    const many = Array.from({ length: failedModelsMax }, (_, place) => `model-${round}-${place}`);
    fleet.finish(ada, fleet.running(ada), down(many));
  }
  while (ada.running.size === 0) fleet.advance(250);
  const { failedModels } = fleet.running(ada);
  assert.is(failedModels!.length, failedModelsMax);
  assert.is(failedModels!.at(-1), `model-2-${failedModelsMax - 1}`);
  fleet.ask({ op: 'task.stop', task: id });
  fleet.gone(ada, { task: id, attempt: 4, epoch: 1 });
  const command = fleet.submit({ checks: [] });
  while (ada.running.size === 0) fleet.advance(250);
  fleet.finish(ada, fleet.running(ada), down(['small']));
  while (ada.running.size === 0) fleet.advance(250);
  assert.is(fleet.running(ada).task, command);
  assert.is(fleet.running(ada).failedModels, undefined);
});

test.run();
