import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SecretMask, SecretSearch } from '../../../node/attempt/secrets.ts';

/** A stream cut at arbitrary places. */
const cut = (text: Buffer, cuts: number[]): Buffer[] => {
  const at = [...new Set([0, ...cuts.map((one) => one % (text.length + 1)), text.length])].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((end, index) => text.subarray(at[index], end));
};
const masked = (secrets: Record<string, string>, chunks: Buffer[]): string => {
  const mask = new SecretMask(secrets);
  return Buffer.concat([...chunks.map((chunk) => mask.push(chunk)), mask.end()]).toString('latin1');
};

const letters = (max: number) => fc.string({ unit: fc.constantFrom('a', 'b', 'c', '\n'), maxLength: max });

test('a secret in a stream is masked wherever the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(letters(8), { maxLength: 4 }),
      letters(60),
      fc.array(fc.nat(), { maxLength: 12 }),
      (values, text, cuts) => {
        const secrets = Object.fromEntries(values.map((value, index) => [`S${index}`, value]));
        const shown = masked(secrets, cut(Buffer.from(text), cuts));
        for (const value of values)
          if (value !== '') assert.not(shown.includes(value), `${value} in ${shown}`);
        if (values.every((value) => value === '' || !text.includes(value))) assert.is(shown, text);
      },
    ),
    { numRuns: 2_000 },
  );
});

test('one secret is masked to the same text, however the stream is cut', () => {
  fc.assert(
    fc.property(letters(4), letters(80), fc.array(fc.nat(), { maxLength: 12 }), (value, text, cuts) => {
      const shown = masked({ S: value }, cut(Buffer.from(text), cuts));
      assert.is(shown, value === '' ? text : text.replaceAll(value, '***'));
    }),
  );
});

test('output that begins no secret is not held back', () => {
  const mask = new SecretMask({ S: 'hunter2' });
  assert.is(mask.push(Buffer.from('hello ')).toString(), 'hello ');
  assert.is(mask.push(Buffer.from('hunt')).toString(), '');
  assert.is(mask.push(Buffer.from('ing')).toString(), 'hunting');
});

test('a flood of a short secret is masked in reasonable time (promise 18)', () => {
  const secrets = Object.fromEntries(
    Array.from({ length: 32 }, (_, index) => [`S${index}`, `secret-${index}`]),
  );
  const mask = new SecretMask({ ...secrets, SHORT: 'ab' });
  const began = performance.now();
  for (let at = 0; at < 16; at += 1) mask.push(Buffer.alloc(64 * 1024, 'ab'));
  assert.ok(performance.now() - began < 3_000);
});

test('a secret is found in bytes that come in pieces', () => {
  fc.assert(
    fc.property(letters(40), fc.nat(), fc.array(fc.nat(), { maxLength: 6 }), (text, place, cuts) => {
      const at = place % (text.length + 1);
      const bytes = Buffer.from(`${text.slice(0, at)}hunter2${text.slice(at)}`);
      const search = new SecretSearch({ TOKEN: 'hunter2', OTHER: 'a-longer-value-than-that' });
      for (const chunk of cut(bytes, cuts)) search.push(chunk);
      assert.is(search.found, 'TOKEN');
    }),
  );
  const search = new SecretSearch({ TOKEN: 'hunter2' });
  search.push(Buffer.from('hunter1 hunter 2'));
  assert.is(search.found, null);
});

test.run();
