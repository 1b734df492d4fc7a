import { Option } from 'commander';
import { parseDuration } from '../../protocol/duration.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { brainPattern, personaPattern, tagPattern } from '../../protocol/limits.ts';
import { requirePolicy } from '../../protocol/policy.ts';
import { parseSize } from '../../protocol/size.ts';
import { usageError } from './usage-errors.ts';

/** Readers of what a person types for an option: the value, or `SF_USAGE` with expected and got. */

const wrong = (what: string, expected: string, got: string, hint: string | null = null): Error =>
  usageError(`${what} is not of the form asked for`, { expected, got, hint });

/** An integer from `min` to `max`. */
export const integer =
  (what: string, min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw wrong(what, `a whole number from ${min} to ${max}`, text);
    return value;
  };

/** `K=V` with a key of this form, gathered. */
export const pairs =
  (what: string, key: RegExp, keyForm: string, value: RegExp, valueForm: string) =>
  (text: string, gathered: Record<string, string> = {}): Record<string, string> => {
    const at = text.indexOf('=');
    const name = text.slice(0, at);
    if (at < 1 || !key.test(name)) throw wrong(what, `KEY=VALUE, KEY being ${keyForm}`, text);
    if (!value.test(text.slice(at + 1))) throw wrong(what, `a value of ${valueForm}`, text);
    return { ...gathered, [name]: text.slice(at + 1) };
  };

export const label = pairs(
  '--label',
  /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/,
  '1–63 of a–z 0–9 . _ / -',
  /^[^\p{C}]{0,63}$/u,
  'at most 63 printable characters',
);

export const environment = pairs(
  '--env',
  /^[A-Za-z_][A-Za-z0-9_]*$/,
  'an identifier',
  /^[^\0]{0,8192}$/,
  'at most 8192 characters',
);

/** A text of this form. */
export const matching =
  (what: string, form: RegExp, expected: string, hint: string | null = null) =>
  (text: string): string => {
    if (!form.test(text)) throw wrong(what, expected, text, hint);
    return text;
  };

/** Texts of this form, gathered. */
export const gathered =
  (what: string, form: RegExp, expected: string) =>
  // Before may be false: the flag's own `--no-`.
  (text: string, before: string[] | false = []): string[] => [
    ...(before || []),
    matching(what, form, expected)(text),
  ];

/** A reader that knows the words it takes, so that a shell can complete them. */
const choosing = <R extends (text: string, before?: never) => unknown>(read: R, choices: readonly string[]) =>
  Object.assign(read, { choices });

/** One of a few words. */
export const oneOf = <T extends string>(what: string, words: readonly T[]) =>
  choosing((text: string): T => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw wrong(what, `one of ${words.join(', ')}`, text);
    return found;
  }, words);

const anyText = /^[^\0]+$/;
const globForm = /^(?!\/)(?!(.*\/)?\.\.(\/|$))[^\0]{1,512}$/;
export const ROLES = ['worker', 'replica', 'submitter', 'viewer', 'operator'] as const;

export const checkLine = gathered('--check', /^[^\0]{1,4096}$/, 'a shell line of at most 4096 characters');
export const globOf = (flag: string) =>
  gathered(flag, globForm, 'a path or glob inside the workspace, without ..');
export const secret = (what: string) =>
  matching(what, /^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'a secret name: letters, digits and _');
export const secrets = gathered(
  '--secret',
  /^[A-Za-z_][A-Za-z0-9_]{0,63}$/,
  'a secret name: letters, digits and _',
);
export const nodeName = (what: string) =>
  matching(
    what,
    /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/,
    'a name of 1–63 letters, digits, . _ - or a peer id',
  );
export const owner = matching('--owner', /^[^\p{C}]{1,64}$/u, '1–64 printable characters');
export const task = matching(
  'the task',
  /^[a-z2-7]{12}$/,
  'a task id: 12 characters a–z 2–7',
  '"task list" names them',
);
export const mesh = matching(
  '--mesh',
  /^[0-9a-f]{64}$/,
  'a mesh id: 64 hex digits',
  '"mesh-hub status" on the machine of the founder says it',
);
export const code = matching('the code', /^\d[\d-]{6,14}\d$/, 'the code on both screens: 123-456-789');
export const correlation = matching('--correlation', /^[A-Za-z0-9._-]{1,64}$/, '1–64 letters, digits, . _ -');
export const text = (what: string) => matching(what, anyText, 'some text');
export const port = integer('--port', 0, 65_535);
export const role = choosing(
  (word: string, before: string[] = []): string[] => [...before, oneOf('--role', ROLES)(word)],
  ROLES,
);

export const model = matching(
  '--model',
  /^[^\p{C}\s]{1,128}$/u,
  'the name of a model, as `mesh-hub node describe` shows it',
);

const toolForm = /^([a-z0-9](?:[a-z0-9+._-]{0,31}?))(?:(>=|<=|>|<|=|@)v?(\d{1,9}(?:\.\d{1,9}){0,2}))?$/;

/** `node`, `node>=20`, `node@20` (any 20), gathered; two about one tool must both hold. */
export const tool = (text: string, gathered: Record<string, string> = {}): Record<string, string> => {
  const [, name, operator, version] = toolForm.exec(text) ?? [];
  if (name === undefined) {
    throw wrong('--tool', "a tool, or one with its version: python3, go@1.22, 'node>=20' (quoted)", text);
  }
  const asked = operator === undefined ? '' : `${operator.replace('@', '=')}${version}`;
  const before = (gathered[name] ?? '*').replace('*', '');
  return { ...gathered, [name]: `${before} ${asked}`.trim() || '*' };
};

export const policy = (text: string): string => {
  try {
    return requirePolicy(text);
  } catch (cause) {
    throw named('--policy', cause);
  }
};

/** `50%` of the memory. */
export const share = (text: string): string => {
  if (/^([1-9]\d?|100)%$/.test(text)) return text;
  throw wrong('--memory-share', 'a share of the memory from 1% to 100%, such as 50%', text);
};

/** An option with its reader; `read` may gather over repetitions. */
export function option(
  flags: string,
  summary: string,
  read?: (text: string, before?: never) => unknown,
): Option {
  const made = new Option(flags, summary);
  if (read !== undefined) made.argParser(read as (text: string) => unknown);
  if (read !== undefined && 'choices' in read) made.argChoices = [...(read.choices as readonly string[])];
  return made;
}

/** `500ms 30s 5m 2h 1d` as ms. */
export const duration =
  (what: string, maxMs = 366 * 86_400_000) =>
  (text: string): number => {
    let ms: number;
    try {
      ms = parseDuration(text);
    } catch (cause) {
      throw named(what, cause);
    }
    if (ms < 1 || ms > maxMs)
      throw wrong(what, `a duration from 1ms to ${Math.floor(maxMs / 86_400_000)}d`, text);
    return ms;
  };

/** `64KiB 100MiB 2GiB` as bytes. */
export const size =
  (what: string) =>
  (text: string): number => {
    try {
      return parseSize(text);
    } catch (cause) {
      throw named(what, cause);
    }
  };

/** Words from a fixed set, by comma. */
export const words = <T extends string>(what: string, known: readonly T[]) =>
  choosing((text: string): T[] => text.split(',').map(oneOf(what, known)), known);

/** The same error, saying which option it is about. */
function named(what: string, cause: unknown): Error {
  const error = asSuperfleetError(cause);
  return usageError(`${what}: ${error.message}`, {
    expected: error.expected,
    got: error.got,
    hint: error.hint,
  });
}

/** What works on a goal. */
export const brain = (text: string): string => {
  if (!brainPattern.test(text)) throw wrong('--brain', 'a name such as ollama', text);
  return text;
};

/** What kind of work a goal is, gathered. */
export const tag = gathered('--tag', tagPattern, 'a word such as docs');

/** Whom a model speaks as. */
export const persona = (text: string): string => {
  if (!personaPattern.test(text)) throw wrong('--persona', 'a name such as benjamin', text);
  return text;
};
