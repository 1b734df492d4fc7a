import type { z } from 'zod';
import { type Field, type Maker, madeOf, type Range, type Text } from '../../protocol/schema-parts.ts';

/**
 * Writers of canonical JSON, made from zod schemas: one pass over a value checks it and gives its text, which is what
 * `JSON.stringify` makes of what the schema gives back. A writer takes only what it is sure of: plain objects with the
 * schema's keys and no others, and text in plain ASCII. Anything else it leaves to whoever checks and writes in the ordinary
 * way, so that it never takes a value that would be refused.
 */

/** What a writer says beside its text: the value it wrote, which shares no object with the one that was given. */
export interface Written {
  value: unknown;
}

/** The value's text; null where it is left to others. */
type Write = (value: unknown, written: Written) => string | null;
export interface Writer {
  write: Write;
  /** The value is no object, so it is its own copy and `written` is left alone. */
  scalar: boolean;
}

/** What JSON writes as it stands, between quotes. */
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** The writer of a schema; null where the schema has a part that it cannot write. */
export function writerOf(schema: z.ZodType): Write | null {
  const writer = madeOf(schema, maker);
  if (writer === null) return null;
  const { write, scalar } = writer;
  if (!scalar) return write;
  return (value, written) => {
    written.value = value;
    return write(value, written);
  };
}

/**
 * Written out as a function of its own, as the reader of an object is: every field has its own place in the code, and all
 * objects of a schema have one shape. Nothing but the keys of our schemas goes into the text.
 */
function objectWriter(fields: readonly Field<Writer>[]): Writer {
  const fixed = fields.every(({ optional }) => !optional);
  // Where the first key may be missing, any of them may be the one that comes behind the brace.
  const loose = fields[0]?.optional === true;
  const writers = fields.map(({ made }) => made);
  const steps = fields.map(({ key, optional, made }, at) => {
    const named = JSON.stringify(key);
    const begins = loose
      ? `(text === '' ? '{' : ',') + ${JSON.stringify(`${named}:`)}`
      : JSON.stringify(`${at === 0 ? '{' : ','}${named}:`);
    const copied = made.scalar ? `v${at}` : 'written.value';
    const step = `
      const t${at} = w${at}(v${at}, written);
      if (t${at} === null) return null;
      ${fixed ? `const c${at} = ${copied}` : `found[${named}] = ${copied}; keys += 1`};
      text += ${begins} + t${at};`;
    return `const v${at} = value[${named}];\n${optional ? `if (v${at} !== undefined) { ${step} }` : step}`;
  });
  const literal = fields.map(({ key }, at) => `${JSON.stringify(key)}: c${at}`);
  const body = `
    ${writers.map((_, at) => `const w${at} = writers[${at}].write;`).join('\n')}
    return (value, written) => {
      if (!isPlainObject(value)) return null;
      let text = '';
      ${fixed ? `const keys = ${fields.length};` : 'const found = {}; let keys = 0;'}
      ${steps.join('\n')}
      if (keysOf(value) !== keys) return null;
      written.value = ${fixed ? `{ ${literal.join(', ')} }` : 'found'};
      return ${loose ? "(text === '' ? '{' : text)" : 'text'} + '}';
    };`;
  const make = new Function('writers', 'isPlainObject', 'keysOf', body);
  return { write: make(writers, isPlainObject, keysOf) as Write, scalar: false };
}

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** How many keys a plain object has. */
function keysOf(value: object): number {
  let keys = 0;
  for (const _ in value) keys += 1;
  return keys;
}

function nullableWriter({ write, scalar }: Writer): Writer {
  return {
    write: (value, written) => {
      if (value !== null) return write(value, written);
      written.value = null;
      return 'null';
    },
    scalar,
  };
}

/** One of several values that JSON spells in one way each. */
function constantWriter(values: readonly unknown[]): Write {
  const spelled = new Map(values.map((value) => [value, JSON.stringify(value)]));
  return (value) => (Object.is(value, -0) ? null : (spelled.get(value) ?? null));
}

function unionWriter(options: readonly Writer[]): Writer {
  const scalar = options.every((option) => option.scalar);
  return {
    write: (value, written) => {
      for (const option of options) {
        const text = option.write(value, written);
        if (text === null) continue;
        if (option.scalar) written.value = value;
        return text;
      }
      return null;
    },
    scalar,
  };
}

function arrayWriter(
  { write, scalar }: Writer,
  { minimum, maximum }: { minimum: number; maximum: number },
): Writer {
  return {
    write: (value, written) => {
      if (!Array.isArray(value) || value.length < minimum || value.length > maximum) return null;
      const copy: unknown[] = [];
      let text = '[';
      for (let at = 0; at < value.length; at += 1) {
        const each: unknown = value[at];
        const one = write(each, written);
        if (one === null) return null;
        copy.push(scalar ? each : written.value);
        text += at === 0 ? one : `,${one}`;
      }
      written.value = copy;
      return `${text}]`;
    },
    scalar: false,
  };
}

/** Keys that an object keeps in another order than they came in, or not as its own, are left to others. */
function recordWriter(
  { write: key }: Writer,
  { write, scalar }: Writer,
  fits: ((copy: unknown) => boolean) | null,
): Writer {
  return {
    write: (value, written) => {
      if (!isPlainObject(value)) return null;
      const copy: Record<string, unknown> = {};
      let text = '{';
      for (const [name, each] of Object.entries(value)) {
        const named = /^[0-9]|^__proto__$/.test(name) ? null : key(name, written);
        const one = named === null ? null : write(each, written);
        if (one === null) return null;
        copy[name] = scalar ? each : written.value;
        text += `${text === '{' ? '' : ','}${named}:${one}`;
      }
      if (fits !== null && !fits(copy)) return null;
      written.value = copy;
      return `${text}}`;
    },
    scalar: false,
  };
}

function numberWriter({ least, most, whole }: Range): Write {
  return (value) => {
    if (typeof value !== 'number' || !(value >= least && value <= most) || Object.is(value, -0)) return null;
    // The log holds no integer that another reader would round.
    const sure = whole || Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
    return sure ? String(value) : null;
  };
}

function stringWriter({ minimum, maximum, run, fits: checks }: Text): Write {
  // Such a pattern takes none but plain characters.
  const plain = run?.pattern ?? PLAIN;
  const fits = run === null ? checks : null;
  return (value) => {
    if (typeof value !== 'string' || value.length < minimum || value.length > maximum) return null;
    return plain.test(value) && (fits === null || fits(value)) ? `"${value}"` : null;
  };
}

const scalarOf = (write: Write): Writer => ({ write, scalar: true });

const maker: Maker<Writer> = {
  object: objectWriter,
  string: (text) => scalarOf(stringWriter(text)),
  number: (range) => scalarOf(numberWriter(range)),
  boolean: () => scalarOf((value) => (typeof value === 'boolean' ? String(value) : null)),
  oneOf: (values) => scalarOf(constantWriter(values)),
  nullable: nullableWriter,
  array: arrayWriter,
  record: recordWriter,
  union: (options) => unionWriter(options.map(({ made }) => made)),
};
