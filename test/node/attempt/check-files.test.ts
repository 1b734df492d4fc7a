import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkFilesIn, pathsNamedBy } from '../../../node/attempt/check-files.ts';
import type { Change } from '../../../node/git/changes.ts';

const change = (path: string, status: Change['status'] = 'M'): Change => ({
  status,
  modeBefore: '100644',
  modeAfter: '100644',
  objectAfter: '0'.repeat(40),
  path: Buffer.from(path),
});
const found = (checks: string[], changes: Change[], globs: string[] = []) => {
  const { restore, remove, changed } = checkFilesIn(checks, globs, changes);
  return { restore: restore.map(String), remove: remove.map(String), changed };
};

const restored: [line: string, path: string][] = [
  ['sh test.sh', 'test.sh'],
  ['./test.sh', 'test.sh'],
  ['node --test test/a.test.js', 'test/a.test.js'],
  ['node --test test/', 'test/a.test.js'],
  ['cd pkg && sh test.sh', 'pkg/test.sh'],
  ['cd pkg; node ../tools/check.js', 'tools/check.js'],
  ['python3 -m pytest "my tests/a.py"', 'my tests/a.py'],
  ["sh -c 'node check.js'", 'check.js'],
  ['pytest tests/test_a.py::test_one', 'tests/test_a.py'],
  ['jest --config=tests/jest.config.js', 'tests/jest.config.js'],
  ['cat spec/input.txt | sh runner.sh', 'spec/input.txt'],
  ['sh ./a.test.sh >out.txt', 'a.test.sh'],
  ['make -f run-tests.mk', 'run-tests.mk'],
  ['sh <check.sh', 'check.sh'],
  ['X=1 env sh check.sh', 'check.sh'],
  ['test "$(sh check.sh)" = ok', 'check.sh'],
  ['/workspace/check.sh', 'check.sh'],
];
for (const [line, path] of restored) {
  test(`\`${line}\` has ${path} restored from the base`, () => {
    assert.equal(found([line], [change(path)]), { restore: [path], remove: [], changed: [path] });
  });
}

test('the manifest is a check file whatever the checks are; one that is new stays, and is told of', () => {
  const path = '.superfleet.yaml';
  for (const checks of [[], ['make test']]) {
    for (const status of ['M', 'D', 'T'] as const)
      assert.equal(found(checks, [change(path, status)]), { restore: [path], remove: [], changed: [path] });
    assert.equal(found(checks, [change(path, 'A')]), { restore: [], remove: [], changed: [path] });
  }
  assert.equal(found([], [change(`deep/${path}`)]).changed, []);
});

const product: [line: string, path: string][] = [
  ['grep -q done NOTES', 'NOTES'],
  ['node app.js | grep -q done', 'app.js'],
  ['sh greet.sh mesh | grep -q Hello', 'greet.sh'],
  ['sh -c "sh greet.sh"', 'greet.sh'],
  ['test -s out.txt', 'out.txt'],
  ['test "$(cat VERSION)" = 2', 'VERSION'],
  ['cat a.txt | grep -q x && [ -f b.txt ]', 'a.txt'],
  ['cd src && make', 'src/a.c'],
  ['eslint src', 'src/a.js'],
  ['node -e "require(\'./a.js\')"', 'a.js'],
  ['npm test # see test.sh', 'test.sh'],
];
for (const [line, path] of product) {
  test(`\`${line}\` leaves ${path} as the task made it`, () => {
    assert.equal(found([line], [change(path)]).changed, []);
  });
}

test('a file that the task adds under a named folder of tests is taken away for the checks', () => {
  assert.equal(found(['pytest tests'], [change('tests/conftest.py', 'A')]), {
    restore: [],
    remove: ['tests/conftest.py'],
    changed: ['tests/conftest.py'],
  });
});

test("a file that a check names and the base has not is the task's own", () => {
  assert.equal(found(['sh new.sh'], [change('new.sh', 'A')]).changed, []);
});

test('globs of the submitter name check files, folders too', () => {
  const changes = [change('a/x.js'), change('a/y.js', 'A'), change('b.js'), change('package.json')];
  assert.equal(found(['npm test'], changes, ['a', '*.json']).changed, ['a/x.js', 'a/y.js', 'package.json']);
});

test('names for people are bounded and have no control characters', () => {
  const many = Array.from({ length: 100 }, (_, index) => change(`test/${index}\u001b[2J`));
  const { changed } = found(['node --test test'], many);
  assert.is(changed.length, 64);
  assert.is(changed.at(-1), 'and 37 more');
  assert.not.match(changed.join(''), /\p{Cc}/u);
});

test('a line of odd quotes and brackets ends', () => {
  for (const line of [
    '"',
    "'",
    '`',
    '$(',
    '((((',
    '\\',
    '"$(',
    `sh -c "sh -c 'sh -c sh -c x'"`,
    '|&;',
    '"$(a)$(b)',
  ]) {
    assert.ok(Array.isArray(pathsNamedBy(line)), line);
  }
});

test.run();
