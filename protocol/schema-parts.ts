import type { z } from 'zod';

/** What functions made from a zod schema rest on: one walk over the schema, which has each of its parts made into something. */
export interface Maker<T> {
  object(fields: readonly Field<T>[]): T;
  string(text: Text): T;
  number(range: Range): T;
  boolean(): T;
  /** A literal or an enum: values that JSON spells in one way each. */
  oneOf(values: readonly unknown[]): T;
  nullable(inner: T): T;
  array(element: T, lengths: { minimum: number; maximum: number }): T;
  /** `fits`: what its own checks say; null: it has none. */
  record(key: T, value: T, fits: Predicate<unknown> | null): T;
  /** `key`: by what the options are told apart; undefined: by nothing. */
  union(options: readonly Option<T>[], key: string | undefined): T;
}

export interface Field<T> {
  key: string;
  optional: boolean;
  /** What was made of its value. */
  made: T;
}

export interface Text {
  minimum: number;
  maximum: number;
  /** Where all its other checks are one pattern of that kind; else null. */
  run: Run | null;
  /** What its other checks say; null: it has none. */
  fits: Predicate<string> | null;
}

export interface Range {
  least: number;
  most: number;
  /** Safe integers only. */
  whole: boolean;
}

export interface Option<T> {
  made: T;
  type: string;
  /** Values that this key has there; null where they are none that are known. */
  literals(key: string): readonly unknown[] | null;
}

type Predicate<T> = (value: T) => boolean;

/** Of such a part nothing is made. Thrown by makers too, and never by `madeOf`. */
export class UnknownSchema extends Error {}

// zod publishes its definitions for libraries like this; these are the parts that are used here.
interface Definition {
  type: string;
  checks?: { _zod: { def: Check } }[];
  format?: string;
  check?: string;
  values?: unknown[];
  entries?: Record<string, string>;
  shape?: Record<string, Schema>;
  innerType?: Schema;
  element?: Schema;
  options?: Schema[];
  discriminator?: string;
  keyType?: Schema;
  valueType?: Schema;
}
interface Check {
  check: string;
  format?: string;
  pattern?: RegExp;
  minimum?: number;
  maximum?: number;
  length?: number;
  value?: number;
  inclusive?: boolean;
  fn?: (value: unknown) => unknown;
}
type Schema = z.core.$ZodType & { safeParse(value: unknown): { success: boolean; data?: unknown } };

const definitionOf = (schema: Schema): Definition => schema._zod.def as unknown as Definition;

/** What is made of a schema; null where it has a part of which nothing can be made. */
export function madeOf<T>(schema: z.ZodType, maker: Maker<T>): T | null {
  try {
    return walk(schema as unknown as Schema, maker);
  } catch (error) {
    if (error instanceof UnknownSchema) return null;
    throw error;
  }
}

function walk<T>(schema: Schema, maker: Maker<T>): T {
  const def = definitionOf(schema);
  const make = (part: Schema | undefined): T => walk(part!, maker);
  switch (def.type) {
    case 'object':
      if (def.checks?.length) throw new UnknownSchema('an object with checks');
      return maker.object(
        Object.entries(def.shape!).map(([key, value]) => {
          const optional = definitionOf(value).type === 'optional';
          return { key, optional, made: make(optional ? definitionOf(value).innerType : value) };
        }),
      );
    case 'string':
      return maker.string(textOf(schema, def));
    case 'number':
      return maker.number(rangeOf(def));
    case 'boolean':
      return maker.boolean();
    case 'literal':
      return maker.oneOf(def.values!);
    case 'enum':
      return maker.oneOf(Object.values(def.entries!));
    case 'nullable':
      return maker.nullable(make(def.innerType));
    case 'default':
    case 'prefault':
      // A value that stands there is what the schema within makes of it.
      return make(def.innerType);
    case 'array': {
      const { others, ...lengths } = lengthsOf(checksOf(def));
      if (others.length > 0) throw new UnknownSchema('an array with other checks');
      return maker.array(make(def.element), lengths);
    }
    case 'record':
      return maker.record(make(def.keyType), make(def.valueType), predicateOf(schema, checksOf(def)));
    case 'union':
      return maker.union(
        def.options!.map((option) => ({ made: make(option), ...optionOf(option) })),
        def.discriminator,
      );
    default:
      throw new UnknownSchema(def.type);
  }
}

function optionOf(option: Schema): Omit<Option<never>, 'made'> {
  const { type, shape } = definitionOf(option);
  return {
    type,
    literals(key) {
      const value = shape?.[key];
      const def = value === undefined ? null : definitionOf(value);
      return def?.type === 'literal' ? def.values! : null;
    },
  };
}

function textOf(schema: Schema, def: Definition): Text {
  const { others, ...lengths } = lengthsOf(checksOf(def));
  const [only, ...more] = others;
  const run = only?.pattern !== undefined && more.length === 0 ? runOf(only.pattern) : null;
  return { ...lengths, run, fits: predicateOf(schema, others) };
}

function rangeOf(def: Definition): Range {
  const range = { least: Number.NEGATIVE_INFINITY, most: Number.POSITIVE_INFINITY, whole: false };
  for (const { check, format, value, inclusive } of checksOf(def)) {
    if (check === 'greater_than' && inclusive) range.least = Math.max(range.least, value!);
    else if (check === 'less_than' && inclusive) range.most = Math.min(range.most, value!);
    else if (check === 'number_format' && format === 'safeint') range.whole = true;
    else throw new UnknownSchema(check);
  }
  return range;
}

/** A string of some characters only, after a fixed beginning. */
export interface Run {
  pattern: RegExp;
  prefix: Uint8Array;
  /** 1 for each of the characters, by its code. */
  member: Uint8Array;
  /** How many of them there may be: one choice or two. */
  lengths: [Lengths, Lengths?];
}

interface Lengths {
  least: number;
  most: number;
}

const RUN = /^([A-Za-z0-9]*)(\[[A-Za-z0-9._-]+\])\{(\d+)(?:,(\d+))?\}$/;

/** `^PREFIX[characters]{n,m}$`, also as a choice of lengths in one group; null for any other pattern. */
function runOf(pattern: RegExp): Run | null {
  const whole = /^\^(?:\(([^()]*)\)|([^()|]*))\$$/.exec(pattern.source);
  if (whole === null || pattern.flags !== '') return null;
  const parts = (whole[1] ?? whole[2]!).split('|').map((part) => RUN.exec(part));
  const [first] = parts;
  if (!first || parts.some((part) => part === null || part[1] !== first[1] || part[2] !== first[2]))
    return null;
  if (parts.length > 2) return null;
  const one = new RegExp(`^${first[2]}$`);
  const member = Uint8Array.from({ length: 256 }, (_, code) =>
    code < 0x7f && one.test(String.fromCharCode(code)) ? 1 : 0,
  );
  const [shorter, other] = parts.map((part) => ({
    least: Number(part![3]),
    most: Number(part![4] ?? part![3]),
  }));
  const lengths: Run['lengths'] = other === undefined ? [shorter!] : [shorter!, other];
  return { pattern, prefix: Buffer.from(first[1]!), member, lengths };
}

/** Whether a value passes these checks; null where there are none. What is not a plain pattern or function the schema decides. */
function predicateOf<T>(schema: Schema, checks: readonly Check[]): Predicate<T> | null {
  if (checks.length === 0) return null;
  const plain = checks.map(({ check, format, pattern, fn }) => {
    if (check === 'custom' && fn !== undefined) return (value: T) => Boolean(fn(value));
    const regex = check === 'string_format' && format === 'regex' && !/[gy]/.test(pattern!.flags);
    return regex ? (value: T) => pattern!.test(value as string) : null;
  });
  if (plain.includes(null)) return (value) => schema.safeParse(value).success;
  const [only, ...more] = plain as ((value: T) => boolean)[];
  return more.length === 0 ? only! : (value) => only!(value) && more.every((fits) => fits(value));
}

/** The schema's own check, where its format is one, and those added to it. */
function checksOf(def: Definition): Check[] {
  const added = (def.checks ?? []).map((check) => check._zod.def);
  // Such a check gives back another value than it was given.
  if (added.some(({ check }) => check === 'overwrite')) throw new UnknownSchema('an overwritten value');
  return def.check === undefined ? added : [def as Check, ...added];
}

function lengthsOf(checks: readonly Check[]): { minimum: number; maximum: number; others: Check[] } {
  let minimum = 0;
  let maximum = Number.POSITIVE_INFINITY;
  const others: Check[] = [];
  for (const check of checks) {
    if (check.check === 'min_length') minimum = Math.max(minimum, check.minimum!);
    else if (check.check === 'max_length') maximum = Math.min(maximum, check.maximum!);
    else if (check.check === 'length_equals') {
      minimum = Math.max(minimum, check.length!);
      maximum = Math.min(maximum, check.length!);
    } else others.push(check);
  }
  return { minimum, maximum, others };
}
