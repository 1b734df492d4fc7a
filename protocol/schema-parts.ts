import type { z } from 'zod';

/** What of a zod schema the reader and the writer of canonical JSON are made from. */

/** A schema that no reader or writer is made of; its values are read and written in the ordinary way. */
export class UnknownSchema extends Error {}

// zod publishes its definitions for libraries like this; these are the parts that are used here.
export interface Definition {
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
  keyType?: Schema;
  valueType?: Schema;
}
export interface Check {
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
export type Schema = z.core.$ZodType & { safeParse(value: unknown): { success: boolean; data?: unknown } };

/** A string of some characters only, after a fixed beginning. */
export interface Run {
  prefix: Uint8Array;
  /** 1 for each of the characters, by its code. */
  member: Uint8Array;
  /** How many of them there may be: one choice or two. */
  lengths: [Lengths, Lengths?];
}

export interface Lengths {
  least: number;
  most: number;
}

const RUN = /^([A-Za-z0-9]*)(\[[A-Za-z0-9._-]+\])\{(\d+)(?:,(\d+))?\}$/;

/** `^PREFIX[characters]{n,m}$`, also as a choice of lengths in one group; null for any other pattern. */
export function runOf(pattern: RegExp): Run | null {
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
  return { prefix: Buffer.from(first[1]!), member, lengths };
}

/** Whether a value passes these checks; null where there are none. What is not a plain pattern or function the schema decides. */
export function predicateOf<T>(schema: Schema, checks: readonly Check[]): ((value: T) => boolean) | null {
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
export function checksOf(def: Definition): Check[] {
  const added = (def.checks ?? []).map((check) => check._zod.def);
  // Such a check gives back another value than it was given.
  if (added.some(({ check }) => check === 'overwrite')) throw new UnknownSchema('an overwritten value');
  return def.check === undefined ? added : [def as Check, ...added];
}

export function lengthsOf(checks: (Check | { _zod: { def: Check } })[] = []): {
  minimum: number;
  maximum: number;
  others: Check[];
} {
  let minimum = 0;
  let maximum = Number.POSITIVE_INFINITY;
  const others: Check[] = [];
  for (const each of checks) {
    const check = '_zod' in each ? each._zod.def : each;
    if (check.check === 'min_length') minimum = Math.max(minimum, check.minimum!);
    else if (check.check === 'max_length') maximum = Math.min(maximum, check.maximum!);
    else if (check.check === 'length_equals') {
      minimum = Math.max(minimum, check.length!);
      maximum = Math.min(maximum, check.length!);
    } else others.push(check);
  }
  return { minimum, maximum, others };
}
