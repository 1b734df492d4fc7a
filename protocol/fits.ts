import type { z } from 'zod';
import {
  checksOf,
  type Definition,
  lengthsOf,
  predicateOf,
  type Schema,
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
  try {
    return compile(schema as unknown as Schema);
  } catch (error) {
    if (error instanceof UnknownSchema) return null;
    throw error;
  }
}

function compile(schema: Schema): Fits {
  const def = schema._zod.def as unknown as Definition;
  switch (def.type) {
    case 'object':
      return objectFits(def);
    case 'string':
      return stringFits(schema, def);
    case 'number':
      return numberFits(def);
    case 'boolean':
      return (value) => typeof value === 'boolean';
    case 'literal':
      return oneOf(def.values!);
    case 'enum':
      return oneOf(Object.values(def.entries!));
    case 'nullable':
      return nullableFits(compile(def.innerType!));
    case 'default':
    case 'prefault':
      // A value that stands there is what the schema within makes of it.
      return compile(def.innerType!);
    case 'array':
      return arrayFits(def);
    case 'record':
      return recordFits(schema, def);
    case 'union':
      return unionFits(def);
    default:
      throw new UnknownSchema(def.type);
  }
}

/**
 * Written out as a function of its own, so that every field has its own place in the code. Nothing but the keys of our schemas goes
 * into the text.
 */
function objectFits(def: Definition): Fits {
  if (def.checks?.length) throw new UnknownSchema('an object with checks');
  const shape = Object.entries(def.shape!);
  const optional = shape.map(([, schema]) => schema._zod.def.type === 'optional');
  const fits = shape.map(([, schema], at) =>
    compile(optional[at] ? (schema._zod.def as unknown as Definition).innerType! : schema),
  );
  const names = shape.map(([key]) => key);
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
function unionFits(def: Definition & { discriminator?: string }): Fits {
  const { discriminator: key } = def;
  const options = def.options!;
  if (key === undefined) {
    if (options.some((option) => !PLAIN.has(option._zod.def.type)))
      throw new UnknownSchema('a union of objects');
    const fits = options.map(compile);
    return (value) => fits.some((option) => option(value));
  }
  const byValue = new Map<unknown, Fits>();
  for (const option of options) {
    const { shape } = option._zod.def as unknown as Definition;
    const literal = shape?.[key]?._zod.def as unknown as Definition | undefined;
    if (literal?.type !== 'literal') throw new UnknownSchema('a union told apart by something else');
    const fits = compile(option);
    for (const value of literal.values!) byValue.set(value, fits);
  }
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    return byValue.get((value as Record<string, unknown>)[key])?.(value) ?? false;
  };
}

const PLAIN: ReadonlySet<string> = new Set(['string', 'number', 'boolean', 'literal', 'enum']);

function arrayFits(def: Definition): Fits {
  const { minimum, maximum, others } = lengthsOf(def.checks);
  if (others.length > 0) throw new UnknownSchema('an array with other checks');
  const fits = compile(def.element!);
  return (value) => {
    if (!Array.isArray(value) || value.length < minimum || value.length > maximum) return false;
    for (let at = 0; at < value.length; at += 1) if (!fits(value[at])) return false;
    return true;
  };
}

function recordFits(schema: Schema, def: Definition): Fits {
  const whole = predicateOf(schema, checksOf(def));
  const key = compile(def.keyType!);
  const fits = compile(def.valueType!);
  return (value) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    for (const [name, each] of Object.entries(value)) {
      if (name === '__proto__' || !key(name) || !fits(each)) return false;
    }
    return whole === null || whole(value);
  };
}

function numberFits(def: Definition): Fits {
  let whole = false;
  let least = Number.NEGATIVE_INFINITY;
  let most = Number.POSITIVE_INFINITY;
  for (const { check, format, value, inclusive } of checksOf(def)) {
    if (check === 'greater_than' && inclusive) least = Math.max(least, value!);
    else if (check === 'less_than' && inclusive) most = Math.min(most, value!);
    else if (check === 'number_format' && format === 'safeint') whole = true;
    else throw new UnknownSchema(check);
  }
  return (value) =>
    typeof value === 'number' &&
    value >= least &&
    value <= most &&
    (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
}

function stringFits(schema: Schema, def: Definition): Fits {
  const { minimum, maximum, others } = lengthsOf(checksOf(def));
  const fits = predicateOf<string>(schema, others);
  return (value) =>
    typeof value === 'string' &&
    value.length >= minimum &&
    value.length <= maximum &&
    (fits === null || fits(value));
}
