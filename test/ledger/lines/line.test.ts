import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import type { LogEvent } from '../../../ledger/lines/events.ts';
import {
  formatCheckpoint,
  LineFault,
  makeEntry,
  parseLine,
  writtenEvent,
} from '../../../ledger/lines/line.ts';
import { knownEntry } from '../../../ledger/state/state.ts';
import { entryLineBytesMax } from '../../../protocol/limits.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { KEY, long, started } from '../kit.ts';

const HEAD = { index: 7, epoch: 1, time: 1_700_000_000_000 };
const parse = (text: string) => parseLine(Buffer.from(text));
const isFault = (error: unknown): boolean => error instanceof LineFault;
const unknownLine = (body: string): string =>
  `{"index":7,"epoch":1,"time":5,"type":"later.thing","body":${body}}`;

test('an entry is one line with its keys in the fixed order, and reads back the same', () => {
  const { line, entry } = makeEntry(HEAD, started(1));
  assert.match(line, /^\{"index":7,"epoch":1,"time":1700000000000,"type":"attempt.started","body":\{"task":/);
  assert.equal(parse(line), { kind: 'entry', entry });
});

test('any text in a body goes through a line unharmed', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 512 }), (reason) => {
      const event: LogEvent = {
        type: 'member.revoked',
        body: { peer: `12D3KooW${'A'.repeat(44)}`, reason, by: { kind: 'founder' } },
      };
      const { line, entry } = makeEntry(HEAD, event);
      assert.not.match(line, /\n/);
      assert.equal(parse(line), { kind: 'entry', entry });
    }),
    { numRuns: 300 },
  );
});

test('a checkpoint line reads back as the checkpoint', () => {
  const checkpoint = makeCheckpoint({ origin: 'ab'.repeat(32), size: 3, root: 'cd'.repeat(32) }, KEY);
  assert.equal(parse(formatCheckpoint(checkpoint)), { kind: 'checkpoint', checkpoint });
});

test('an entry of a type this program does not know is kept as it is', () => {
  const parsed = parse(unknownLine('{"b":[1,null,"x"],"a":{"z":0.5}}'));
  assert.is(parsed.kind, 'entry');
  if (parsed.kind !== 'entry') return;
  assert.equal(parsed.entry.body, { b: [1, null, 'x'], a: { z: 0.5 } });
  assert.is(knownEntry(parsed.entry), null);
});

test('an invalid event is refused before it is a line', () => {
  const refused = (event: unknown, what: RegExp): void =>
    assert.throws(
      () => makeEntry(HEAD, event as LogEvent),
      (error: { code: string; message: string; got: string }) =>
        error.code === 'SF_USAGE' && what.test(`${error.message} ${error.got}`),
    );
  refused({ type: 'later.thing', body: {} }, /no event has the type later.thing/);
  refused({ type: 'attempt.started', body: { task: 'short' } }, /12 characters/);
  const ended = long(1, 40);
  // JSON would write null or a text for them, which the schema takes.
  refused({ ...ended, body: { ...ended.body, exitCode: Number.NaN } }, /exitCode/);
  refused({ ...ended, body: { ...ended.body, correlation: { toJSON: () => 'c1' } } }, /correlation/);
  refused({ ...started(1), body: { ...started(1).body, extra: 1 } }, /extra/);
  const huge = { index: 1, epoch: 1, time: 1, bytes: 2 ** 53 };
  refused({ type: 'invite.created', body: huge }, /not of its form/);
});

test('a line has at most 64 KiB with its newline, on write as on read', () => {
  const by = { kind: 'local', user: 'é'.repeat(64), claimed: true } as const;
  const submitted = (words: number): LogEvent => ({
    type: 'task.submitted',
    body: {
      task: 'a'.repeat(12),
      correlation: 'a',
      spec: taskSpec.parse({ kind: 'command', argv: Array.from({ length: words }, () => 'x'.repeat(8000)) }),
      bundle: null,
      rerunOf: null,
      by,
    },
  });
  assert.ok(Buffer.byteLength(makeEntry(HEAD, submitted(8)).line) < entryLineBytesMax);
  assert.throws(
    () => makeEntry(HEAD, submitted(9)),
    (error: { code: string }) => error.code === 'SF_USAGE',
  );
  assert.throws(
    () => writtenEvent(submitted(9)),
    (error: { code: string }) => error.code === 'SF_USAGE',
  );
  for (const event of [
    submitted(8),
    submitted(1),
    { type: 'mesh.paused', body: { by: { ...by, user: 'é"' } } } as LogEvent,
  ])
    assert.equal(makeEntry(HEAD, writtenEvent(event)), makeEntry(HEAD, event));
  const fill = (bytes: number): string =>
    unknownLine(JSON.stringify('x'.repeat(bytes - unknownLine('""').length)));
  assert.is(parse(fill(entryLineBytesMax - 1)).kind, 'entry');
  assert.throws(() => parse(fill(entryLineBytesMax)), isFault);
});

test('a value has one line: other spellings of it are refused', () => {
  const { line } = makeEntry(HEAD, long(3, 40));
  const others = [
    ` ${line}`,
    `${line} `,
    line.replace('"index":7', '"index": 7'),
    line.replace('"index":7', '"index":7.0'),
    line.replace('"index":7', '"index":07'),
    line.replace('"epoch":1', '"epoch":1,"epoch":1'),
    line.replace('"index":7,"epoch":1', '"epoch":1,"index":7'),
    line.replace('é', '\\u00e9'),
    line.replace('"type"', '"kind"'),
    `${line.slice(0, -1)},"more":1}`,
    `\uFEFF${line}`,
    '',
    '[]',
    'null',
  ];
  for (const other of others) assert.throws(() => parse(other), isFault, other.slice(0, 60));
  const invalidUtf8 = Buffer.from(line);
  invalidUtf8[invalidUtf8.indexOf(0xc3)] = 0xff;
  assert.throws(() => parseLine(invalidUtf8), isFault);
});

test('integers that other readers would round, and nesting they would not follow, are refused', () => {
  assert.throws(() => parse(unknownLine('9007199254740992')), /2\^53/);
  assert.throws(() => parse(unknownLine('{"a":[1e21]}')), isFault);
  assert.is(parse(unknownLine('9007199254740991')).kind, 'entry');
  assert.throws(() => parse(unknownLine(`${'['.repeat(40)}${']'.repeat(40)}`)), /nested deeper/);
  assert.throws(() => parse(unknownLine(`${'['.repeat(20_000)}${']'.repeat(20_000)}`)), isFault);
});

test('no bytes at all make the reader fail in another way', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        try {
          parseLine(bytes);
        } catch (error) {
          assert.instance(error, LineFault);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test.run();
