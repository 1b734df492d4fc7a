import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { coloursOn } from '../../../node/cli/colours.ts';
import { columnsOf, cutTo, elapsed, redraws, stepText } from '../../../node/cli/progress.ts';
import { type Terminal, Voice } from '../../../node/cli/terminal.ts';

test('colours: on a terminal that can, never with NO_COLOR; FORCE_COLOR decides before all else', () => {
  const cases: [isTTY: boolean, env: Record<string, string>, on: boolean][] = [
    [true, {}, true],
    [false, {}, false],
    [true, { NO_COLOR: '1' }, false],
    [true, { NO_COLOR: '' }, true],
    [true, { TERM: 'dumb' }, false],
    [false, { FORCE_COLOR: '1' }, true],
    [false, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    [true, { FORCE_COLOR: '0' }, false],
    [false, { FORCE_COLOR: '' }, false],
  ];
  for (const [isTTY, env, on] of cases)
    assert.is(coloursOn({ isTTY }, env), on, JSON.stringify([isTTY, env]));
});

test('a line is drawn anew only on a terminal that knows how, and not in CI', () => {
  const at = (isTTY: boolean, env: Record<string, string>): boolean =>
    redraws(Object.assign(new PassThrough(), { isTTY }), env);
  assert.ok(at(true, {}));
  assert.ok(at(true, { CI: 'false' }));
  assert.not.ok(at(false, {}));
  assert.not.ok(at(true, { TERM: 'dumb' }));
  assert.not.ok(at(true, { CI: 'true' }));
});

test('a line is cut to its columns, wide characters counted twice', () => {
  assert.is(columnsOf('añ漢字'), 6);
  assert.is(cutTo('abcdef', 6), 'abcdef');
  assert.is(cutTo('abcdefg', 6), 'abcde…');
  assert.is(cutTo('漢字漢字', 6), '漢字…');
  assert.is(cutTo('abc', 0), '');
  for (let columns = 1; columns < 12; columns++)
    assert.ok(columnsOf(cutTo('a漢b字c漢d', columns)) <= columns);
});

test('a step is told in words, with a bar where there is room', () => {
  const step = { what: 'sending', done: 3 * 1024 ** 2, total: 12 * 1024 ** 2, unit: 'bytes' } as const;
  assert.is(stepText(step, 80), '[#####...............]  25 %  sending: 3.0 MiB of 12.0 MiB');
  assert.is(stepText(step, 40), ' 25 %  sending: 3.0 MiB of 12.0 MiB');
  assert.is(stepText({ ...step, done: 0, total: null }, 80), 'sending …');
  assert.is(
    stepText({ what: 'x', done: 7, total: 7, unit: 'entries' }, 40),
    '100 %  x: 7 entries of 7 entries',
  );
  assert.is(elapsed(59_999), '0:59');
  assert.is(elapsed(3_723_000), '1:02:03');
});

/** What is written to stderr; a terminal as wide as asked for. */
function listening(isTTY: boolean, env: Record<string, string> = {}, json = false) {
  const stderr = Object.assign(new PassThrough(), { isTTY, columns: 40 });
  const stdout = Object.assign(new PassThrough(), { isTTY: false });
  const terminal: Terminal = {
    stdin: new PassThrough(),
    stdout,
    stderr,
    env,
    cwd: '/',
    signal: new AbortController().signal,
  };
  let written = '';
  stderr.setEncoding('utf8').on('data', (text: string) => {
    written += text;
  });
  return { voice: new Voice(terminal, json), stderr, written: () => written };
}
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('on a terminal progress is one line that makes room for notes and is gone in the end; nothing is left behind', async () => {
  const { voice, stderr, written } = listening(true);
  voice.progress('one');
  voice.note('a note');
  voice.progress(() => 'two');
  voice.clear();
  await settled();
  assert.is(written(), 'one\r\x1b[Ja note\ntwo\r\x1b[J');
  assert.is(stderr.listenerCount('resize'), 0);
  voice.clear();
  await settled();
  assert.is(written(), 'one\r\x1b[Ja note\ntwo\r\x1b[J', 'twice is once');
});

test('a terminal that was made narrower is cleaned up by as many lines as the old text takes now', async () => {
  const { voice, stderr, written } = listening(true);
  voice.progress('x'.repeat(60));
  assert.is(columnsOf(written().trim() || 'x'.repeat(39)), 39);
  stderr.columns = 20;
  stderr.emit('resize');
  voice.clear();
  await settled();
  assert.is(written(), `${'x'.repeat(38)}…\x1b[1A\r\x1b[J${'x'.repeat(18)}…\r\x1b[J`);
});

test('piped, in CI and on a dumb terminal progress is a line each time; under --json nothing; a bar never', async () => {
  for (const [isTTY, env] of [
    [false, {}],
    [true, { CI: '1' }],
    [true, { TERM: 'dumb' }],
  ] as const) {
    const { voice, written } = listening(isTTY, env);
    voice.progress('one');
    voice.progress(() => 'two');
    voice.clear();
    assert.is(voice.meter('x'), null);
    await settled();
    assert.is(written(), 'one\ntwo\n');
  }
  const { voice, written } = listening(true, {}, true);
  voice.progress('one');
  assert.is(voice.meter('x'), null);
  await settled();
  assert.is(written(), '');
});

test('a bar is shown from the first second on, drawn anew, and taken away', async () => {
  const { voice, stderr, written } = listening(true);
  const quick = voice.meter('quick');
  quick?.update({ what: 'quick', done: 1, total: 2, unit: 'entries' });
  quick?.end();
  const began = performance.now();
  const slow = voice.meter('slow');
  slow?.update({ what: 'slow', done: 1, total: 4, unit: 'entries' });
  // Somebody else keeps the process alive: the bar does not.
  const alive = setInterval(() => {}, 1000);
  await once(stderr, 'data');
  clearInterval(alive);
  assert.ok(performance.now() - began > 900);
  assert.is(written(), ' 25 %  slow: 1 entries of 4 entries');
  slow?.end();
  await settled();
  assert.is(written(), ' 25 %  slow: 1 entries of 4 entries\r\x1b[J');
});

test.run();
