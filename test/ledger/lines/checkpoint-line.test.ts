import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { CheckpointLines } from '../../../ledger/lines/checkpoint-line.ts';
import { formatCheckpoint, type Line, LineFault, parseAnyLine } from '../../../ledger/lines/line.ts';
import { KEY } from '../kit.ts';

const ORIGIN = 'ab'.repeat(32);
const digestOf = (hex: string): string => Buffer.from(hex, 'hex').toString('latin1');
const read = (bytes: Buffer, { size, root }: { size: number; root: string }) =>
  new CheckpointLines(ORIGIN).read(bytes, size, digestOf(root), root);
const lineOf = (said: { size: number; root: string; origin?: string }): Buffer =>
  Buffer.from(formatCheckpoint(makeCheckpoint({ origin: ORIGIN, ...said }, KEY)));

/** Null where it is refused. */
function parsed(bytes: Buffer): Line | null {
  try {
    return parseAnyLine(bytes);
  } catch (error) {
    if (error instanceof LineFault) return null;
    throw error;
  }
}

const anyRoot = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));
const anySize = fc.oneof(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 999_999_999_999_999 }));

test('a checkpoint of any size and root that is expected is read as parsing reads it', () => {
  fc.assert(
    fc.property(anySize, anyRoot, (size, root) => {
      const line = lineOf({ size, root });
      assert.equal({ kind: 'checkpoint', checkpoint: read(line, { size, root }) }, parseAnyLine(line));
    }),
    { numRuns: 300 },
  );
});

test('one of another mesh, size or root is left', () => {
  fc.assert(
    fc.property(anySize, anyRoot, fc.nat(31), fc.integer({ min: 1, max: 255 }), (size, root, at, change) => {
      const other = Buffer.from(root, 'hex');
      other[at]! ^= change;
      const line = lineOf({ size, root });
      assert.is(read(line, { size, root: other.toString('hex') }), null);
      assert.is(read(line, { size: size + 1, root }), null);
      assert.is(read(lineOf({ size, root, origin: 'cd'.repeat(32) }), { size, root }), null);
    }),
    { numRuns: 300 },
  );
});

test('a changed line is left, or read as parsing reads it; so is one that is cut, whatever stands behind it', () => {
  const said = { size: 12_345, root: 'cd'.repeat(32) };
  const line = lineOf(said);
  const put = fc.constantFrom('', '=', '/', '—', '0', 'A', 'B', '"', '\\', '\\n', ' ', '\n', '}');
  fc.assert(
    fc.property(fc.nat(line.length), fc.nat(2), put, (at, cut, put) => {
      const changed = [line.subarray(0, at), Buffer.from(put), line.subarray(at + cut)];
      const bytes = Buffer.concat(changed);
      const checkpoint = read(bytes, said);
      if (checkpoint !== null) assert.equal(parsed(bytes), { kind: 'checkpoint', checkpoint });
    }),
    { numRuns: 5000 },
  );
  for (let end = 0; end < line.length; end += 1) assert.is(read(line.subarray(0, end), said), null);
  assert.is.not(read(line, said), null);
});

test('a signature in another base64 of the same bytes is left', () => {
  const said = { size: 7, root: '01'.repeat(32) };
  const text = lineOf(said).toString();
  const last = text.indexOf('=\\n"}') - 1;
  const read64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  for (const bits of [1, 2, 3]) {
    const other = read64[read64.indexOf(text[last]!) + bits]!;
    assert.is(read(Buffer.from(`${text.slice(0, last)}${other}${text.slice(last + 1)}`), said), null);
  }
});

test.run();
