import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { formatCheckpoint } from '../../../ledger/lines/line.ts';
import { NewestUnchecked } from '../../../ledger/log/unchecked.ts';
import { KEY } from '../kit.ts';

const checkpoint = (size: number) =>
  makeCheckpoint({ origin: 'ab'.repeat(32), size, root: 'cd'.repeat(32) }, KEY);
const added = (held: NewestUnchecked, from: number, to: number): void => {
  for (let size = from; size <= to; size += 1) {
    const line = Buffer.from(formatCheckpoint(checkpoint(size)));
    held.add(line, Buffer.of(size), 5, size * 1000);
    // The reader's memory holds other lines by then.
    line.fill('x');
  }
};
const expected = (size: number) => ({
  checkpoint: checkpoint(size),
  signedBy: Buffer.of(size),
  segment: 5,
  offset: size * 1000,
});

test('the newest are held as they were read, oldest first, however many came', () => {
  const held = new NewestUnchecked(3);
  assert.equal([...held.newest()], []);
  added(held, 1, 2);
  assert.equal([...held.newest()], [1, 2].map(expected));
  added(held, 3, 8);
  assert.equal([...held.newest()], [6, 7, 8].map(expected));
  assert.equal([...held.newest(1)], [expected(8)]);
});

test('a line that is longer than most, and a short one in its place afterwards', () => {
  const held = new NewestUnchecked(1);
  const { text, ...said } = checkpoint(9);
  const cosigned = { ...said, text: text + text.slice(text.lastIndexOf('—')).repeat(5) };
  held.add(Buffer.from(formatCheckpoint(cosigned)), Buffer.of(9), 5, 9000);
  assert.equal([...held.newest()], [{ ...expected(9), checkpoint: cosigned }]);
  added(held, 10, 10);
  assert.equal([...held.newest()], [expected(10)]);
});

test.run();
