import type { z } from 'zod';
import {
  checksOf,
  type Definition,
  lengthsOf,
  predicateOf,
  runOf,
  type Schema,
  UnknownSchema,
} from '../../protocol/schema-parts.ts';

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
  try {
    const { write, scalar } = compile(schema as unknown as Schema);
    if (!scalar) return write;
    return (value, written) => {
      written.value = value;
      return write(value, written);
    };
  } catch (error) {
    if (error instanceof UnknownSchema) return null;
    throw error;
  }
}

function compile(schema: Schema): Writer {
  const def = schema._zod.def as unknown as Definition;
  const inner = (): Writer => compile(def.innerType!);
  switch (def.type) {
    case 'object':
      return objectWriter(def);
    case 'string':
      return { write: stringWriter(schema, def), scalar: true };
    case 'number':
      return { write: numberWriter(def), scalar: true };
    case 'boolean':
      return { write: (value) => (typeof value === 'boolean' ? String(value) : null), scalar: true };
    case 'literal':
      return { write: constantWriter(def.values!), scalar: true };
    case 'enum':
      return { write: constantWriter(Object.values(def.entries!)), scalar: true };
    case 'nullable':
      return nullableWriter(inner());
    case 'default':
    case 'prefault':
      // A value that stands there is what the schema within makes of it.
      return inner();
    case 'array':
      return arrayWriter(def);
    case 'record':
      return recordWriter(schema, def);
    case 'union':
      return unionWriter(def.options!.map(compile));
    default:
      throw new UnknownSchema(def.type);
  }
}

/**
 * Written out as a function of its own, as the reader of an object is: every field has its own place in the code, and all
 * objects of a schema have one shape. Nothing but the keys of our schemas goes into the text.
 */
function objectWriter(def: Definition): Writer {
  if (def.checks?.length) throw new UnknownSchema('an object with checks');
  const shape = Object.entries(def.shape!);
  const optional = shape.map(([, schema]) => schema._zod.def.type === 'optional');
  const fixed = !optional.includes(true);
  // Where the first key may be missing, any of them may be the one that comes behind the brace.
  const loose = optional[0] === true;
  const writers = shape.map(([, schema], at) =>
    compile(optional[at] ? (schema._zod.def as unknown as Definition).innerType! : schema),
  );
  const steps = shape.map(([key], at) => {
    const named = JSON.stringify(key);
    const begins = loose
      ? `(text === '' ? '{' : ',') + ${JSON.stringify(`${named}:`)}`
      : JSON.stringify(`${at === 0 ? '{' : ','}${named}:`);
    const copied = writers[at]!.scalar ? `v${at}` : 'written.value';
    const step = `
      const t${at} = w${at}(v${at}, written);
      if (t${at} === null) return null;
      ${fixed ? `const c${at} = ${copied}` : `found[${named}] = ${copied}; keys += 1`};
      text += ${begins} + t${at};`;
    return `const v${at} = value[${named}];\n${optional[at] ? `if (v${at} !== undefined) { ${step} }` : step}`;
  });
  const literal = shape.map(([key], at) => `${JSON.stringify(key)}: c${at}`);
  const body = `
    ${writers.map((_, at) => `const w${at} = writers[${at}].write;`).join('\n')}
    return (value, written) => {
      if (!isPlainObject(value)) return null;
      let text = '';
      ${fixed ? `const keys = ${shape.length};` : 'const found = {}; let keys = 0;'}
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

function arrayWriter(def: Definition): Writer {
  const { minimum, maximum, others } = lengthsOf(def.checks);
  if (others.length > 0) throw new UnknownSchema('an array with other checks');
  const { write, scalar } = compile(def.element!);
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
function recordWriter(schema: Schema, def: Definition): Writer {
  const fits = predicateOf(schema, checksOf(def));
  const key = compile(def.keyType!).write;
  const { write, scalar } = compile(def.valueType!);
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

function numberWriter(def: Definition): Write {
  let whole = false;
  let least = Number.NEGATIVE_INFINITY;
  let most = Number.POSITIVE_INFINITY;
  for (const { check, format, value, inclusive } of checksOf(def)) {
    if (check === 'greater_than' && inclusive) least = Math.max(least, value!);
    else if (check === 'less_than' && inclusive) most = Math.min(most, value!);
    else if (check === 'number_format' && format === 'safeint') whole = true;
    else throw new UnknownSchema(check);
  }
  return (value) => {
    if (typeof value !== 'number' || !(value >= least && value <= most) || Object.is(value, -0)) return null;
    // The log holds no integer that another reader would round.
    const sure = whole || Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value);
    return sure ? String(value) : null;
  };
}

function stringWriter(schema: Schema, def: Definition): Write {
  const { minimum, maximum, others } = lengthsOf(checksOf(def));
  const [only, ...more] = others;
  // Such a pattern takes none but plain characters.
  const isRun = only?.pattern !== undefined && more.length === 0 && runOf(only.pattern) !== null;
  const plain = isRun ? only!.pattern! : PLAIN;
  const fits = isRun ? null : predicateOf<string>(schema, others);
  return (value) => {
    if (typeof value !== 'string' || value.length < minimum || value.length > maximum) return null;
    return plain.test(value) && (fits === null || fits(value)) ? `"${value}"` : null;
  };
}
