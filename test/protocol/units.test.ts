import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatDuration, parseDuration } from '../../protocol/duration.ts';
import { formatSize, parseSize } from '../../protocol/size.ts';
import { codeOf, messageOf } from './samples.ts';

test('durations and sizes are read as the documents write them', () => {
  assert.equal(
    ['500ms', '30s', '5m', '2h', '1d', '0s'].map(parseDuration),
    [500, 30_000, 300_000, 7_200_000, 86_400_000, 0],
  );
  assert.equal(['1B', '64KiB', '100MiB', '2GiB'].map(parseSize), [1, 65_536, 104_857_600, 2_147_483_648]);
});

test('what is printed is read back to the same number', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (number) => {
      assert.is(parseDuration(formatDuration(number)), number);
      assert.is(parseSize(formatSize(number)), number);
    }),
  );
  assert.equal([0, 1500, 90_000, 3_600_000].map(formatDuration), ['0ms', '1500ms', '90s', '1h']);
  assert.equal([0, 1024, 1536, 2 ** 30].map(formatSize), ['0B', '1KiB', '1536B', '1GiB']);
});

test('anything else is refused with what came and what was expected', () => {
  for (const text of ['', '5', '5 m', '-5m', '1.5h', '5M', 'm', '99999999999999999d', '9999999999999999d']) {
    assert.is(
      codeOf(() => parseDuration(text)),
      'SF_USAGE',
      text,
    );
  }
  for (const text of ['', '64', '64KB', '64kib', '-1B', '1.5GiB', '9999999999999999TiB']) {
    assert.is(
      codeOf(() => parseSize(text)),
      'SF_USAGE',
      text,
    );
  }
  assert.match(
    messageOf(() => parseDuration('5 minutes')),
    /"5 minutes"/,
  );
});

test.run();
