import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ControlEscaper, escapeBytes, escapeLine, escapeText } from '../../protocol/escape.ts';

const DANGEROUS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

test('what can move a cursor, set a title, ring or turn text is shown as what it is', () => {
  assert.is(escapeText('\x1b]0;title\x07\x1b[2J'), '\\x1b]0;title\\x07\\x1b[2J');
  assert.is(escapeText('a\rb\x7f\u009b31m'), 'a\\x0db\\x7f\\x9b31m');
  assert.is(escapeText('\u202egnp.exe\u2066'), '\\u202egnp.exe\\u2066');
  assert.is(escapeText('\ud800x\udc00'), '\\ud800x\\udc00');
});

test('ordinary text of any script passes unchanged, with its newlines and tabs', () => {
  for (const text of ['plain\n\ttext\n', 'äöü ß €', '日本語', '👩‍💻 😀', 'C:\\temp\\x1b'])
    assert.is(escapeText(text), text);
  assert.is(escapeLine('one\ntwo\tthree'), 'one\\x0atwo\\x09three');
});

test('bytes that are no UTF-8 are shown one by one', () => {
  const bytes = Uint8Array.of(
    0x61,
    0xff,
    0xc0,
    0x80,
    0xed,
    0xa0,
    0x80,
    0xc3,
    0xa9,
    0xf0,
    0x9f,
    0x62,
    0xe2,
    0x82,
  );
  assert.is(escapeBytes(bytes), 'a\\xff\\xc0\\x80\\xed\\xa0\\x80é\\xf0\\x9fb\\xe2\\x82');
});

test('however a stream is cut, the same comes out, and nothing dangerous with it', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.string({ unit: 'binary', maxLength: 20 }).map((text) => new Uint8Array(Buffer.from(text))),
    fc
      .constantFrom('\x1b[31m', '€', '\u202e', '😀', '\u009b')
      .map((text) => new Uint8Array(Buffer.from(text))),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.array(fc.nat(5), { maxLength: 60 }), (pieces, cuts) => {
      const whole = Buffer.concat(pieces);
      const escaper = new ControlEscaper();
      let text = '';
      let at = 0;
      for (const length of cuts) {
        text += escaper.push(whole.subarray(at, at + length));
        at += length;
      }
      text += escaper.push(whole.subarray(at)) + escaper.end();
      assert.is(text, escapeBytes(whole));
      assert.not.match(text, DANGEROUS);
    }),
    { numRuns: 500 },
  );
});

test('a megabyte of garbage is escaped in time linear in its size', () => {
  const garbage = Buffer.alloc(1024 * 1024, 0xff);
  const began = performance.now();
  assert.is(escapeBytes(garbage).length, 4 * garbage.length);
  assert.ok(performance.now() - began < 5000);
});

test.run();
