import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { failurePattern, lessonOf } from '../../../node/attempt/lesson.ts';
import { lesson } from '../../../protocol/memory.ts';

const change = (path: string | Buffer) => ({
  status: 'M' as const,
  modeBefore: '100644',
  modeAfter: '100644',
  objectAfter: 'a'.repeat(40),
  path: Buffer.from(path),
});

test('the same failure gives the same line, whatever differs from run to run', () => {
  for (const [first, second] of [
    ['AssertionError at /tmp/a1/x/greet.test.ts:12:3', 'AssertionError at /home/b/y/greet.test.ts:140:9'],
    ['panic: deref of 0xc000014 in 3.25 s', 'panic: deref of 0xc0ffee1 in 11.5 s'],
    ['error: 10.0.0.7:8080 refused', 'error: 192.168.1.20:9 refused'],
    ['\x1b[31mnot ok 3\x1b[0m - parses', 'not ok 14 - parses'],
    ['fatal error: cannot reach http://127.0.0.1:80/x', 'fatal error: cannot reach https://h.example/y?z'],
  ] as const) {
    assert.is(failurePattern(first), failurePattern(second));
    assert.ok(failurePattern(first).length > 5, failurePattern(first));
  }
  assert.is.not(failurePattern('error: no such file'), failurePattern('error: no such host'));
});

test('it is the line that tells, else the last; none where nothing was printed', () => {
  assert.is(failurePattern('running\nTypeError: x is undefined\n  at f\nbye\n'), 'TypeError: x is undefined');
  assert.is(failurePattern('one\ntwo\n\n'), 'two');
  assert.is(failurePattern(' \n\n'), '');
});

test('what is told of an attempt is within its bounds, whatever paths and output hold', () => {
  const paths = [...Array(40).keys()].map((n) => `d${n}/${'é'.repeat(300)}\x1b[31m`);
  const run = (line: string, output: string, exitCode = 1) => ({ line, exitCode, output });
  const made = lessonOf(
    [change(Buffer.from([0xff, 0xfe, 0x0a])), ...paths.map(change)],
    [run('a', 'error '.repeat(5_000)), run('b', 'fine', 0), run('c', '\u202e\ud800 failed')],
    run('c', 'expected 1 to be 2'),
    ['a', 'b', 'c'],
  );
  assert.ok(lesson.safeParse(made).success);
  assert.is(made.files.length, 32);
  assert.not.match(made.files.join(''), /\p{C}/u);
  assert.equal(
    made.failures.map(({ check, before }) => [check, before]),
    [
      [2, false],
      [0, true],
      [2, true],
    ],
  );
  assert.not.match(made.failures.map(({ pattern }) => pattern).join(''), /\p{C}/u);
});

test.run();
