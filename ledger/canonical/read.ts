import type { z } from 'zod';
import {
  type Field,
  type Maker,
  madeOf,
  type Range,
  type Run,
  type Text,
} from '../../protocol/schema-parts.ts';

/**
 * Readers of canonical JSON, made from zod schemas: one pass over the bytes decides spelling and schema together and
 * makes the value. A reader takes only what it is sure of: plain ASCII in the one spelling `JSON.stringify` gives, with
 * every key of the schema in the schema's order. Anything else it leaves (`NOT_READ`) to whoever parses and checks in the
 * ordinary way, so that it never refuses a text and never takes one that would be refused.
 */

/** What a reader gives where it leaves the text to others. */
export const NOT_READ = Symbol('not read');

/** Bytes and how far they are read. */
export interface Cursor {
  bytes: Buffer;
  at: number;
}

/** Reads one value at the cursor and moves it behind the value; after `NOT_READ` the cursor is anywhere. */
export type Reader = (cursor: Cursor) => unknown;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
/** Integers of so many digits are exact. */
const EXACT_DIGITS = 15;

/** The reader of a schema; null where the schema has a part that it cannot read. */
export function readerOf(schema: z.ZodType): Reader | null {
  return madeOf(schema, maker);
}

/** True, and the cursor behind them, where these bytes come next. */
export function skip(cursor: Cursor, expected: Uint8Array): boolean {
  const { bytes, at } = cursor;
  for (let n = 0; n < expected.length; n += 1) if (bytes[at + n] !== expected[n]) return false;
  cursor.at = at + expected.length;
  return true;
}

/** A whole number from 0 in decimal digits; -1 where there is none, or one too long to be sure of. */
export function readCount(cursor: Cursor): number {
  const { bytes, at } = cursor;
  let end = at;
  let value = 0;
  for (let digit = bytes[end]! - ZERO; digit >= 0 && digit <= 9; digit = bytes[end]! - ZERO) {
    value = value * 10 + digit;
    end += 1;
  }
  cursor.at = end;
  if (end === at || end - at > EXACT_DIGITS || (bytes[at] === ZERO && end > at + 1)) return -1;
  return value;
}

/**
 * Written out as a function of its own, so that every field has its own place in the code and all objects of a schema one
 * shape: four times as fast as a loop over fields. Nothing but the keys of our schemas goes into the text.
 */
function objectReader(fields: readonly Field<Reader>[]): Reader {
  const names: Uint8Array[] = [];
  const reads: Reader[] = [];
  const steps: string[] = [];
  const literal: string[] = [];
  const fixed = fields.every(({ optional }) => !optional);
  // Where the first key may be missing, any of them may be the one that comes behind the brace.
  const loose = fields[0]?.optional === true;
  const first: Uint8Array[] = [];
  for (const [at, { key, optional, made }] of fields.entries()) {
    const named = JSON.stringify(key);
    names.push(Buffer.from(`${at === 0 && !loose ? '{' : ','}${named}:`));
    first.push(Buffer.from(`{${named}:`));
    reads.push(made);
    const value = `const v${at} = reads[${at}](cursor); if (v${at} === NOT_READ) return NOT_READ;`;
    const store = fixed ? '' : `found[${named}] = v${at};`;
    const name = loose ? `begun ? names[${at}] : first[${at}]` : `names[${at}]`;
    const noted = loose ? 'begun = true;' : '';
    steps.push(
      optional
        ? `at = cursor.at; if (skip(cursor, ${name})) { ${noted} ${value} ${store} } else cursor.at = at;`
        : `if (!skip(cursor, ${name})) return NOT_READ; ${noted} ${value} ${store}`,
    );
    literal.push(`${named}: v${at}`);
  }
  const body = `
    ${names.map((_, at) => `const n${at} = names[${at}], r${at} = reads[${at}];`).join('\n')}
    return (cursor) => {
      let at = 0;
      ${loose ? 'let begun = false;' : ''}
      ${fixed ? '' : 'const found = {};'}
      ${steps
        .join('\n')
        .replace(/names\[(\d+)\]/g, 'n$1')
        .replace(/reads\[(\d+)\]/g, 'r$1')}
      ${loose ? `if (!begun) { if (cursor.bytes[cursor.at] !== ${OPEN_BRACE}) return NOT_READ; cursor.at += 1; }` : ''}
      if (cursor.bytes[cursor.at] !== ${CLOSE_BRACE}) return NOT_READ;
      cursor.at += 1;
      return ${fixed ? `{ ${literal.join(', ')} }` : 'found'};
    };`;
  const make = new Function('names', 'first', 'reads', 'skip', 'NOT_READ', body);
  return make(names, first, reads, skip, NOT_READ) as Reader;
}

function nullableReader(read: Reader): Reader {
  const word = Buffer.from('null');
  return (cursor) => {
    if (cursor.bytes[cursor.at] !== word[0]) return read(cursor);
    return skip(cursor, word) ? null : NOT_READ;
  };
}

/** One of several values that JSON spells in one way each. */
function constantReader(values: readonly unknown[]): Reader {
  const spelled = values.map((value) => ({ value, bytes: Buffer.from(JSON.stringify(value)) }));
  return (cursor) => {
    for (const { value, bytes } of spelled) if (skip(cursor, bytes)) return value;
    return NOT_READ;
  };
}

function unionReader(options: readonly Reader[]): Reader {
  return (cursor) => {
    const begin = cursor.at;
    for (const read of options) {
      cursor.at = begin;
      const value = read(cursor);
      if (value !== NOT_READ) return value;
    }
    return NOT_READ;
  };
}

function arrayReader(read: Reader, { minimum, maximum }: { minimum: number; maximum: number }): Reader {
  return (cursor) => {
    const { bytes } = cursor;
    if (bytes[cursor.at] !== 0x5b) return NOT_READ;
    cursor.at += 1;
    const found: unknown[] = [];
    if (bytes[cursor.at] === CLOSE_BRACKET) cursor.at += 1;
    else {
      for (;;) {
        const value = read(cursor);
        if (value === NOT_READ) return NOT_READ;
        found.push(value);
        const byte = bytes[cursor.at];
        cursor.at += 1;
        if (byte === CLOSE_BRACKET) break;
        if (byte !== COMMA || found.length > maximum) return NOT_READ;
      }
    }
    return found.length >= minimum && found.length <= maximum ? found : NOT_READ;
  };
}

/** Keys that an object keeps in another order than they came in, or not as its own, are left to others. */
function recordReader(
  readKey: Reader,
  readValue: Reader,
  fits: ((found: unknown) => boolean) | null,
): Reader {
  return (cursor) => {
    const { bytes } = cursor;
    if (bytes[cursor.at] !== 0x7b) return NOT_READ;
    cursor.at += 1;
    const found: Record<string, unknown> = {};
    if (bytes[cursor.at] === CLOSE_BRACE) cursor.at += 1;
    else {
      for (;;) {
        const key = readKey(cursor);
        if (typeof key !== 'string' || /^[0-9]|^__proto__$/.test(key) || Object.hasOwn(found, key))
          return NOT_READ;
        if (bytes[cursor.at] !== 0x3a) return NOT_READ;
        cursor.at += 1;
        const value = readValue(cursor);
        if (value === NOT_READ) return NOT_READ;
        found[key] = value;
        const byte = bytes[cursor.at];
        cursor.at += 1;
        if (byte === CLOSE_BRACE) break;
        if (byte !== COMMA) return NOT_READ;
      }
    }
    return fits === null || fits(found) ? found : NOT_READ;
  };
}

function numberReader({ least, most, whole }: Range): Reader {
  return (cursor) => {
    const { bytes } = cursor;
    const begin = cursor.at;
    const negative = bytes[begin] === MINUS;
    if (negative) cursor.at += 1;
    const count = readCount(cursor);
    if (count === -1) return NOT_READ;
    let value = negative ? -count : count;
    if (bytes[cursor.at] === POINT && !whole) {
      cursor.at += 1;
      while (bytes[cursor.at]! >= ZERO && bytes[cursor.at]! <= 0x39) cursor.at += 1;
      const text = bytes.toString('latin1', begin, cursor.at);
      value = Number(text);
      if (String(value) !== text) return NOT_READ;
    }
    return Object.is(value, -0) || value < least || value > most ? NOT_READ : value;
  };
}

function stringReader({ minimum, maximum, run, fits }: Text): Reader {
  if (run !== null) return runReader(run, minimum, maximum);
  return (cursor) => {
    const { bytes } = cursor;
    if (bytes[cursor.at] !== QUOTE) return NOT_READ;
    const begin = cursor.at + 1;
    let end = begin;
    for (let byte = bytes[end]!; byte !== QUOTE; byte = bytes[end]!) {
      // Also past the end of the bytes, where nothing compares.
      if (!(byte >= 0x20 && byte < 0x7f) || byte === BACKSLASH) return NOT_READ;
      end += 1;
    }
    if (end - begin < minimum || end - begin > maximum) return NOT_READ;
    cursor.at = end + 1;
    const text = textOf(bytes, begin, end);
    return fits === null || fits(text) ? text : NOT_READ;
  };
}

/** Texts that were read lately. Ids, digests and names come again and again, and are then one string in memory. */
const textsKept: (string | undefined)[] = new Array(4096).fill(undefined);
/** Longer ones are not looked for. */
const textKeptCharactersMax = 64;

/** The text of these bytes, one character a byte. */
export function textOf(bytes: Buffer, begin: number, end: number): string {
  const length = end - begin;
  if (length === 0 || length > textKeptCharactersMax) return bytes.toString('latin1', begin, end);
  const middle = begin + (length >> 1);
  let place = length;
  // Distinct enough for hex and base32; a wrong guess costs one comparison.
  place = place * 31 + bytes[begin]!;
  place = place * 31 + bytes[middle]!;
  place = place * 31 + bytes[end - 1]!;
  if (length > 8) {
    place = place * 31 + bytes[begin + 2]!;
    place = place * 31 + bytes[middle + 1]!;
    place = place * 31 + bytes[end - 3]!;
  }
  place &= textsKept.length - 1;
  const kept = textsKept[place];
  if (kept !== undefined && isText(kept, bytes, begin, length)) return kept;
  const text = bytes.toString('latin1', begin, end);
  textsKept[place] = text;
  return text;
}

function isText(text: string, bytes: Buffer, begin: number, length: number): boolean {
  if (text.length !== length) return false;
  for (let at = 0; at < length; at += 1) if (text.charCodeAt(at) !== bytes[begin + at]) return false;
  return true;
}

function runReader({ prefix, member, lengths }: Run, minimum: number, maximum: number): Reader {
  const [{ least, most }, other] = lengths;
  return (cursor) => {
    const { bytes } = cursor;
    if (bytes[cursor.at] !== QUOTE) return NOT_READ;
    cursor.at += 1;
    const begin = cursor.at;
    if (!skip(cursor, prefix)) return NOT_READ;
    let end = cursor.at;
    while (member[bytes[end]!] === 1) end += 1;
    if (bytes[end] !== QUOTE) return NOT_READ;
    const length = end - cursor.at;
    if (length < least || length > most) {
      if (other === undefined || length < other.least || length > other.most) return NOT_READ;
    }
    if (end - begin < minimum || end - begin > maximum) return NOT_READ;
    cursor.at = end + 1;
    return textOf(bytes, begin, end);
  };
}

const maker: Maker<Reader> = {
  object: objectReader,
  string: stringReader,
  number: numberReader,
  boolean: () => constantReader([true, false]),
  oneOf: constantReader,
  nullable: nullableReader,
  array: arrayReader,
  record: recordReader,
  union: (options) => unionReader(options.map(({ made }) => made)),
};
