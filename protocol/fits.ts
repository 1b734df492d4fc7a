import type { z } from 'zod';
import {
  type Field,
  type Maker,
  madeOf,
  type Option,
  type Range,
  type Text,
  UnknownSchema,
} from './schema-parts.ts';

/** Whether a value that JSON gave is already what the schema makes of it: then it may be used as it stands. */
export type Fits = (value: unknown) => boolean;

/**
 * A check made from a zod schema, many times as fast as the schema: true only for a value that the schema would give back equal, with its
 * keys in the same order. False says nothing: whoever asks goes to the schema then. Null where the schema has a part of which none can
 * be made. Only for values that `JSON.parse` made.
 */
export function fitsOf(schema: z.ZodType): Fits | null {
  return madeOf(schema, maker);
}

/**
 * Written out as a function of its own, so that every field has its own place in the code. Nothing but the keys of our schemas goes
 * into the text.
 */
function objectFits(fields: readonly Field<Fits>[]): Fits {
  const names = fields.map(({ key }) => key);
  const optional = fields.map((field) => field.optional);
  const fits = fields.map(({ made }) => made);
  const steps = names.map((key, at) => {
    const read = `const v${at} = value[${JSON.stringify(key)}];`;
    const step = `if (!f${at}(v${at})) return false;`;
    return optional[at] ? `${read} if (v${at} !== undefined) ${step}` : `${read} ${step}`;
  });
  const body = `
    ${fits.map((_, at) => `const f${at} = fits[${at}];`).join('\n')}
    return (value) => {
      if (typeof value !== 'object' || value === null || isArray(value)) return false;
      ${steps.join('\n')}
      return inOrder(value, names, optional);
    };`;
  const make = new Function('fits', 'names', 'optional', 'isArray', 'inOrder', body);
  return make(fits, names, optional, Array.isArray, inOrder) as Fits;
}

/** Whether the keys of an object are these, in this order, all but the optional ones of them, and no others. */
function inOrder(value: object, names: readonly string[], optional: readonly boolean[]): boolean {
  let at = 0;
  for (const key in value) {
    while (key !== names[at]) {
      if (at === names.length || !optional[at]) return false;
      at += 1;
    }
    at += 1;
  }
  while (at < names.length) if (!optional[at++]) return false;
  return true;
}

function nullableFits(inner: Fits): Fits {
  return (value) => value === null || inner(value);
}

function oneOf(values: readonly unknown[]): Fits {
  const known = new Set(values);
  // A set takes both zeros for one, which the schema gives back as they came.
  return (value) => known.has(value) && !Object.is(value, -0);
}

/**
 * Options that are told apart by one key, each by the literal that it has there; or plain values of any kind. Of other objects
 * an earlier one might take a value, and give it back without what it does not know.
 */
function unionFits(options: readonly Option<Fits>[], key: string | undefined): Fits {
  if (key === undefined) {
    if (options.some(({ type }) => !PLAIN.has(type))) throw new UnknownSchema('a union of objects');
    return (value) => options.some(({ made }) => made(value));
  }
  const byValue = new Map<unknown, Fits>();
  for (const { made, literals } of options) {
    const values = literals(key);
    if (values === null) throw new UnknownSchema('a union told apart by something else');
    for (const value of values) byValue.set(value, made);
  }
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    return byValue.get((value as Record<string, unknown>)[key])?.(value) ?? false;
  };
}

const PLAIN: ReadonlySet<string> = new Set(['string', 'number', 'boolean', 'literal', 'enum']);

function arrayFits(fits: Fits, { minimum, maximum }: { minimum: number; maximum: number }): Fits {
  return (value) => {
    if (!Array.isArray(value) || value.length < minimum || value.length > maximum) return false;
    for (let at = 0; at < value.length; at += 1) if (!fits(value[at])) return false;
    return true;
  };
}

function recordFits(key: Fits, fits: Fits, whole: Fits | null): Fits {
  return (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    for (const [name, each] of Object.entries(value)) {
      if (name === '__proto__' || !key(name) || !fits(each)) return false;
    }
    return whole === null || whole(value);
  };
}

function numberFits({ least, most, whole }: Range): Fits {
  return (value) =>
    typeof value === 'number' &&
    value >= least &&
    value <= most &&
    (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
}

function stringFits({ minimum, maximum, fits }: Text): Fits {
  return (value) =>
    typeof value === 'string' &&
    value.length >= minimum &&
    value.length <= maximum &&
    (fits === null || fits(value));
}

const maker: Maker<Fits> = {
  object: objectFits,
  string: stringFits,
  number: numberFits,
  boolean: () => (value) => typeof value === 'boolean',
  oneOf,
  nullable: nullableFits,
  array: arrayFits,
  record: recordFits,
  union: unionFits,
};
