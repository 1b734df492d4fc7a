import fc from 'fast-check';
import satisfies from 'semver/functions/satisfies.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseHub } from '../../../../hub/cli/command.ts';
import type { Why } from '../../../../hub/core/answers/why-answer.ts';
import { meets } from '../../../../hub/core/placement/requirements.ts';
import { type TaskSpecInput, taskSpec } from '../../../../protocol/task.ts';
import { CAPACITY, Fleet, HELLO, type TestMember } from '../fleet.ts';

for (const [version, range, holds] of [
  ['20.11.1', '*', true],
  ['20.11.1', '>=20', true],
  ['18.19.0', '>=20', false],
  ['20.11.1', '>=20 <21', true],
  ['21.0.0', '>=20 <21', false],
  ['20.11.1', '=20', true],
  ['21.1.0', '=20', false],
  ['3.11.2', '=3.11', true],
  ['3.9.2', '>=3.11', false],
  ['1.22.1', '>1.22', false],
  ['1.22.1', '>1.22.0', true],
  ['4.3', '>=4.3', true],
  ['1.8.0_392', '<9', true],
  ['17.0.9', '<=17', true],
  ['v5.36.0', '>=5', true],
  ['1.81.0-nightly', '>=1.80', true],
  ['unknown', '>=1', false],
  ['unknown', '*', true],
] as const) {
  test(`version ${version} is ${holds ? '' : 'not '}in ${range}`, () =>
    assert.is(meets(version, range), holds));
}

const toolsOf = (line: string): unknown => {
  const parsed = parseHub([...line.split(' '), '--', 'true'], '0');
  return parsed.kind === 'command' && parsed.command.verb === 'task run' ? parsed.command.wishes.tools : null;
};

test('--tool is a name, or a name, an operator and a version; several about one tool must all hold', () => {
  assert.equal(toolsOf('task run --tool python3'), { python3: '*' });
  assert.equal(toolsOf('task run --tool node>=20 --tool go@1.22'), { node: '>=20', go: '=1.22' });
  assert.equal(toolsOf('task run --tool node>=20 --tool node<25 --tool node'), { node: '>=20 <25' });
  assert.equal(toolsOf('task run --tool g++=12.2.0'), { 'g++': '=12.2.0' });
  for (const tools of [
    toolsOf('task run --tool node>=20 --tool node<25.1'),
    toolsOf('task run --tool g++'),
  ]) {
    assert.is(taskSpec.safeParse({ kind: 'command', argv: ['true'], tools }).success, true);
  }
  for (const bad of ['', 'Node', 'node>=', 'node>=x', 'node~20', '>=20', 'node>=1.2.3.4', 'a b']) {
    assert.throws(
      () => parseHub(['task', 'run', '--tool', bad, '--', 'true'], '0'),
      (error: { code: string }) => error.code === 'SF_USAGE',
      bad,
    );
  }
});

const whyOf = (fleet: Fleet, task: string, name: string): string | undefined =>
  fleet.ask<Why>({ op: 'task.why', task }).members.find((member) => member.name === name)?.why;

const offers = (fleet: Fleet, member: TestMember, models: string[], tools: Record<string, string>): void =>
  fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, models, tools } });

test('a tool or model is asked of each machine, and why says what it has instead', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  offers(fleet, ada, ['llama3:8b', 'phi', 'a', 'b'], { node: '18.19.0', python3: '3.11.2' });
  offers(fleet, bob, [], { node: '24.21.0' });
  const node = fleet.submit({ tools: { node: '>=20' } });
  assert.ok(bob.running.size === 1 && fleet.running(bob).task === node, 'given to the one that fits');
  const both = fleet.submit({ tools: { node: '>=20', python3: '*' } });
  assert.is(whyOf(fleet, both, 'ada'), 'has node 18.19.0, not node>=20');
  assert.is(whyOf(fleet, both, 'bob'), 'has no python3');
  const model = fleet.submit({ model: 'qwen' });
  assert.is(whyOf(fleet, model, 'ada'), 'does not offer the model qwen, but llama3:8b, phi, a and 1 more');
  assert.is(whyOf(fleet, model, 'bob'), 'offers no model (asked: qwen)');
  offers(fleet, bob, ['qwen:latest'], { node: '24.21.0', python3: '3.13.0' });
  assert.equal([...bob.running.values()].map(({ task }) => task).sort(), [node, both].sort());
  assert.is(whyOf(fleet, model, 'bob'), 'has no free slot');
});

test('a verifier needs the tools too, and no model', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  offers(fleet, ada, ['qwen'], { go: '1.22.1' });
  offers(fleet, bob, [], {});
  const task = fleet.submit({ tools: { go: '*' }, model: 'qwen', requireVerified: true });
  fleet.finish(ada, fleet.running(ada));
  assert.is(bob.running.size, 0);
  assert.is(whyOf(fleet, task, 'bob'), 'has no go');
  offers(fleet, bob, [], { go: '1.24.0' });
  assert.is(fleet.running(bob, 'verify').task, task);
});

test('a member of a release before --tool is sent no task that names one', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  offers(fleet, ada, [], { go: '1.22.1' });
  const capacity = { ...CAPACITY, tools: { go: '1.22.1' } };
  fleet.founder({ type: 'connected', peer: ada.peer, session: 99, hello: { ...HELLO, capacity } });
  const task = fleet.submit({ tools: { go: '*' } });
  assert.match(whyOf(fleet, task, 'ada') ?? '', /older release/);
});

test('a goal goes to a machine that knows goals and offers a model and the brain it asks for', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  let session = 200;
  const offer = (features: string[], models: string[], brains?: string[]): void => {
    session += 1;
    const capacity = { ...CAPACITY, models, ...(brains && { brains }) };
    fleet.founder({ type: 'connected', peer: ada.peer, session, hello: { ...HELLO, features, capacity } });
  };
  const code = (brain?: string): string =>
    fleet.submit({ kind: 'code', code: { goal: 'x', ...(brain && { brain }) } } as Partial<TaskSpecInput>);
  offer(['requirements'], ['qwen:7b']);
  const any = code();
  const agent = code('opencode');
  assert.match(whyOf(fleet, any, 'ada') ?? '', /older release, which pursues no goals/);
  offer(['requirements', 'goals'], []);
  assert.match(whyOf(fleet, any, 'ada') ?? '', /offers no model/);
  const remedies = (task: string): string => fleet.ask<Why>({ op: 'task.why', task }).remedies.join('\n');
  assert.match(
    remedies(any),
    /^on a machine with Ollama: ollama pull NAME; elsewhere: mesh-node models add URL$/m,
  );
  assert.not.match(remedies(agent), /ollama/);
  offer(['requirements', 'goals'], ['qwen:7b'], ['ollama']);
  assert.match(whyOf(fleet, agent, 'ada') ?? '', /does not offer opencode/);
  assert.is(fleet.task(any).state, 'assigned');
  assert.is(fleet.task(agent).state, 'queued');
});

test('what names no model and no tool is written as before', () => {
  const spec = taskSpec.parse({ kind: 'command', argv: ['true'] });
  assert.is('model' in spec, false);
  assert.is('tools' in spec, false);
});

test('ranges mean what semver means by them', () => {
  const number = fc.integer({ min: 0, max: 3 });
  const version = fc.tuple(number, number, number).map((all) => all.join('.'));
  const comparison = fc
    .tuple(fc.constantFrom('>=', '<=', '>', '<', '='), fc.array(number, { minLength: 1, maxLength: 3 }))
    .map(([sign, numbers]) => `${sign}${numbers.join('.')}`);
  const range = fc.array(comparison, { minLength: 1, maxLength: 3 }).map((all) => all.join(' '));
  fc.assert(
    fc.property(version, range, (one, of) => {
      assert.is(meets(one, of), satisfies(one, of), `${one} in ${of}`);
    }),
    { numRuns: 3000 },
  );
});

test('a submitter whose tasks all ask for other long ranges of many tools does not keep the founder from its work', () => {
  const fleet = new Fleet();
  const names = Array.from({ length: 32 }, (_, n) => `tool${n}`);
  const tools = Object.fromEntries(names.map((name, n) => [name, `20.${n}.1`]));
  const members = Array.from({ length: 30 }, (_, n) => fleet.join(`m${n}`));
  const hello = { ...HELLO, features: ['requirements'], capacity: { ...CAPACITY, tools } };
  members.forEach(({ peer }, n) => {
    fleet.founder({ type: 'connected', peer, session: 100 + n, hello });
  });
  const wide = Array.from({ length: 8 }, (_, n) => `>=${n}.${n} <${99 - n}.${n}`).join(' ');
  for (let task = 0; task < 200; task += 1) {
    const asked = names.map((name) => [name, `>=${task % 20}.${task} ${wide}`]);
    // The last is what nobody has: all the others are looked at before.
    fleet.submit({ tools: { ...Object.fromEntries(asked), [names.at(-1)!]: `>99.${task}` } });
  }
  const began = performance.now();
  const capacity = { ...hello.capacity, diskFreeBytes: 1 };
  fleet.founder({
    type: 'received',
    peer: members[0]!.peer,
    session: 100,
    message: { type: 'capacity', capacity },
  });
  const took = performance.now() - began;
  assert.ok(took < 500, `one message took ${took.toFixed(0)} ms`);
});

test.run();
