import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { batchOf } from '../../../node/cli/batch-file.ts';
import { parseNode } from '../../../node/cli/command.ts';
import { expand } from '../../../node/cli/matrix.ts';
import type { SendCommand } from '../../../node/cli/send-grammar.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';

function sent(...words: string[]): SendCommand {
  const parsed = parseNode(['task', ...words], '9.9.9');
  if (parsed.kind !== 'command') throw new Error('a text');
  const { command } = parsed;
  if (command.verb !== 'task run' && command.verb !== 'task code') throw new Error(command.verb);
  return command;
}

function refusal(act: () => unknown): SuperfleetError {
  try {
    act();
  } catch (thrown) {
    return thrown as SuperfleetError;
  }
  throw new Error('not refused');
}

test('every combination is a task, its values in the command, the goal, environment, labels and checks', () => {
  const all = expand(
    sent(
      ...['run', '--matrix', 'os=linux,bsd', '--matrix', 'n=1,2', '--label', 'os={os}', '--env', 'N={n}-{x}'],
      ...['--check', 'test {n} = {n}', '--', 'make', '{os}{n}', '{', '{}', '{ os }'],
    ),
  );
  assert.equal(
    all.map(({ wishes }) => ('argv' in wishes ? wishes.argv[1] : '')),
    ['linux1', 'linux2', 'bsd1', 'bsd2'],
  );
  assert.equal(all[3]!.wishes.labels, { os: 'bsd' });
  assert.equal(all[3]!.wishes.env, { N: '2-{x}' }, 'what no axis names stays as it is');
  assert.equal(all[3]!.wishes.checks, ['test 2 = 2']);
  assert.equal('argv' in all[0]!.wishes && all[0]!.wishes.argv.slice(2), ['{', '{}', '{ os }']);
  const goals = expand(sent('code', '--matrix', 'f=a.ts,b.ts', 'mend {f}'));
  assert.equal(
    goals.map(({ wishes }) => ('code' in wishes ? wishes.code.goal : '')),
    ['mend a.ts', 'mend b.ts'],
  );
  assert.is(expand(sent('run', '--', 'true')).length, 1);
});

test('a value is not read again: what looks like another name stays', () => {
  const [only] = expand(sent('run', '--matrix', 'a={b}', '--matrix', 'b=x', '--', 'echo', '{a}', '{b}'));
  assert.equal('argv' in only!.wishes && only!.wishes.argv, ['echo', '{b}', 'x']);
});

test('there are as many tasks as the product of the values, and no two are alike', () => {
  const axes = fc.uniqueArray(
    fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,4}$/), { minLength: 1, maxLength: 6 }),
    {
      minLength: 1,
      maxLength: 3,
    },
  );
  fc.assert(
    fc.property(axes, (values) => {
      const flags = values.flatMap((some, at) => ['--matrix', `x${at}=${some.join(',')}`]);
      const all = expand(sent('run', ...flags, '--', 'echo', ...values.map((_, at) => `{x${at}}`)));
      const said = new Set(all.map((one) => JSON.stringify(one)));
      return said.size === values.reduce((product, some) => product * some.length, 1);
    }),
  );
});

test('a matrix that is absurd is refused with what would do', () => {
  const many = Array.from({ length: 17 }, (_, at) => `v${at}`).join(',');
  const cases: [string[], RegExp][] = [
    [['--matrix', 'os'], /not of the form/],
    [['--matrix', 'os=a,,b'], /not of the form/],
    [['--matrix', '1os=a'], /not of the form/],
    [['--matrix', 'os=a,a'], /something twice/],
    [['--matrix', 'os=a', '--matrix', 'os=b'], /something twice/],
    [['--matrix', 'os=a', '--follow'], /--matrix and --follow exclude each other/],
    [['--matrix', 'os=a', '--key', 'k'], /--matrix and --key exclude each other/],
    [['--matrix', 'n=a,b'], /the matrix has n, and nothing says \{n\}/],
    [['--matrix', `os=${many}`, '--matrix', `m=${many}`, '--env', 'M={m}'], /the matrix is too large/],
  ];
  for (const [flags, words] of cases) {
    const error = refusal(() => expand(sent('run', ...flags, '--', 'make', '{os}')));
    assert.match(error.message, words);
    assert.is(error.exitCode, 2);
    assert.ok(error.expected);
  }
});

const FILE = `
- name: build
  run: [make, dist]
  check: [make test, make lint]
  label: {os: linux}
  env: {N: 1}
  priority: 60
- name: ship
  after: build
  run: ['./ship', --now]
  group: deploy=2
  require-verified: true
  once: false
- code: mend parseDate
  after: [build, abcdefghijkl]
  heals: 2
`;

test('a file of tasks says in YAML what flags say, and JSON is YAML', () => {
  const [build, ship, goal] = batchOf(FILE);
  assert.equal(
    build!.command,
    sent(
      ...['run', '--check', 'make test', '--check', 'make lint', '--label', 'os=linux', '--env', 'N=1'],
      ...['--priority', '60', '--', 'make', 'dist'],
    ),
  );
  assert.equal([build!.name, build!.after, ship!.name, ship!.after], ['build', undefined, 'ship', ['build']]);
  assert.equal(
    ship!.command,
    sent('run', '--group', 'deploy=2', '--require-verified', '--', './ship', '--now'),
  );
  assert.equal(goal!.command, sent('code', '--heals', '2', 'mend parseDate'));
  assert.equal(goal!.after, ['build', 'abcdefghijkl']);
  assert.equal(batchOf('[{"run": ["true"]}]')[0]!.command, sent('run', '--', 'true'));
});

test('what is wrong in a file is said with the task it is in', () => {
  const cases: [string, RegExp][] = [
    ['a: b', /is no list of tasks/],
    ['', /is no list of tasks/],
    ['- run: [make', /is no YAML/],
    ['- {run: [a], run: [b]}', /is no YAML/],
    ['- make', /^task 1 of the file: a task is a map/],
    ['- {run: [a], code: b}', /^task 1 of the file: a task says what to do/],
    ['- {run: [a]}\n- {name: x}', /^x: a task says what to do/],
    ['- {run: make}', /^task 1 of the file: run is not of the form/],
    ['- {run: [true]}', /run is not of the form/],
    ['- {run: [a], colour: red}', /colour is said nowhere/],
    ['- {run: [a], repo: /tmp}', /repo is said once, for the whole file/],
    ['- {run: [a], priority: 101}', /--priority is not of the form/],
    ['- {run: [a], heals: 2}', /heals is said nowhere/],
  ];
  for (const [text, words] of cases) {
    const error = refusal(() => batchOf(text));
    assert.match(error.message, words, text);
    assert.is(error.code, 'SF_USAGE');
  }
});

test.run();
