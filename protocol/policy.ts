import { formatDuration, parseDuration } from './duration.ts';
import { SuperfleetError } from './errors.ts';

/**
 * When a machine works: conditions joined by commas, all of which must hold. `always`; `idle` or `idle=DURATION`:
 * nobody has touched it for so long; `hours=HH:MM-HH:MM` by its own clock, across midnight where the end is earlier, and
 * `@mon-fri` or `@sat+sun` behind it for the days on which the window begins; `on-mains`: it does not run on a battery;
 * `load=50%`: what others run takes less of its processors than this. `kinds=command+code` and `submitters=NAME+NAME` are
 * about what it takes, not about when (`terms.ts`). No spelling needs quotes in a shell.
 */

/** Nobody there for so long counts as idle where nothing else is said. */
export const idleMsDefault = 5 * 60_000;
/** The kernel keeps a terminal's times to 8 s: less could not be told from no pause at all. */
export const idleMsMin = 10_000;
export const idleMsMax = 24 * 3_600_000;
export const policyCharactersMax = 256;

/** Kinds of tasks that a policy may name. */
const policyKinds = ['command', 'code'] as const;
export type PolicyKind = (typeof policyKinds)[number];
/** As members and accounts are named. */
const submitterName = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/;

/** Sunday is 0, as in `Date`. */
export const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;

export type PolicyCondition =
  | { kind: 'always' }
  | { kind: 'idle'; ms: number }
  /** Minutes since midnight, `to` at most 1440; `days`: those on which the window begins, null: every day. */
  | { kind: 'hours'; from: number; to: number; days: number[] | null }
  | { kind: 'on-mains' }
  /** Of all processors together, 1 to 100. */
  | { kind: 'load'; percent: number }
  | { kind: 'kinds'; kinds: PolicyKind[] }
  | { kind: 'submitters'; names: string[] }
  /** A word of a newer release. It never holds: what cannot be understood is not overridden. */
  | { kind: 'unknown'; word: string };

/** One condition, of this release or another. */
export const policyWord = /^[a-z][a-z0-9-]*(?:=[A-Za-z0-9:.@+%_-]+)?$/;

/** Its conditions, in the order written; words unknown or malformed here become `unknown`. Pure. */
export const readPolicy = (text: string): PolicyCondition[] => text.split(',').map(readWord);

/** The text itself where every word of it is known. `SF_USAGE` names the word that is not. */
export function requirePolicy(text: string): string {
  if (text.length > policyCharactersMax) throw unreadable(`${text.slice(0, 40)}…`);
  for (const condition of readPolicy(text)) {
    if (condition.kind === 'unknown') throw unreadable(condition.word);
  }
  return text;
}

function readWord(word: string): PolicyCondition {
  const [name, value = null] = word.split(/=(.*)/s);
  if (name === 'always' && value === null) return { kind: 'always' };
  if (name === 'idle') return readIdle(word, value);
  if (name === 'hours' && value !== null) return readHours(word, value);
  if (name === 'on-mains' && value === null) return { kind: 'on-mains' };
  if (name === 'load' && value !== null) return readLoad(word, value);
  if (name === 'kinds' && value !== null) return readKinds(word, value);
  if (name === 'submitters' && value !== null) return readSubmitters(word, value);
  return { kind: 'unknown', word };
}

function readIdle(word: string, value: string | null): PolicyCondition {
  if (value === null) return { kind: 'idle', ms: idleMsDefault };
  try {
    const ms = parseDuration(value);
    return ms >= idleMsMin && ms <= idleMsMax ? { kind: 'idle', ms } : { kind: 'unknown', word };
  } catch {
    return { kind: 'unknown', word };
  }
}

function readHours(word: string, value: string): PolicyCondition {
  const match = /^(\d\d):(\d\d)-(\d\d):(\d\d)(?:@(.+))?$/.exec(value);
  if (match === null) return { kind: 'unknown', word };
  const from = minutes(match[1]!, match[2]!);
  const to = minutes(match[3]!, match[4]!);
  const days = match[5] === undefined ? null : readDays(match[5]);
  const bad = from === null || to === null || from === to || from === 1440 || days?.length === 0;
  return bad ? { kind: 'unknown', word } : { kind: 'hours', from, to, days };
}

function readLoad(word: string, value: string): PolicyCondition {
  const percent = /^\d{1,3}%$/.test(value) ? Number.parseInt(value, 10) : 0;
  return percent >= 1 && percent <= 100 ? { kind: 'load', percent } : { kind: 'unknown', word };
}

function readKinds(word: string, value: string): PolicyCondition {
  const named = value.split('+');
  const kinds = policyKinds.filter((kind) => named.includes(kind));
  return kinds.length === new Set(named).size ? { kind: 'kinds', kinds } : { kind: 'unknown', word };
}

function readSubmitters(word: string, value: string): PolicyCondition {
  const names = [...new Set(value.split('+'))];
  return names.every((name) => submitterName.test(name))
    ? { kind: 'submitters', names }
    : { kind: 'unknown', word };
}

function minutes(hours: string, rest: string): number | null {
  const all = Number(hours) * 60 + Number(rest);
  return Number(rest) < 60 && all <= 1440 ? all : null;
}

/** `mon-fri`, `sat+sun`, `fri-mon+wed`; none for what is no list of days. */
function readDays(text: string): number[] {
  const days = new Set<number>();
  for (const part of text.split('+')) {
    const [first, last = first, ...more] = part.split('-').map((day) => DAYS.indexOf(day as never));
    if (first === undefined || last === undefined || first < 0 || last < 0 || more.length > 0) return [];
    for (let day = first; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === last) break;
    }
  }
  return [...days].sort();
}

const unreadable = (word: string): SuperfleetError =>
  new SuperfleetError('SF_USAGE', 'this is no policy', {
    expected: `always, idle, idle=DURATION (${formatDuration(idleMsMin)} to ${formatDuration(idleMsMax)}), hours=HH:MM-HH:MM, hours=HH:MM-HH:MM@mon-fri, on-mains, load=PERCENT%, kinds=command+code, submitters=NAME+NAME; several by comma, all of which must hold`,
    got: word,
    hint: 'for example --policy idle,hours=18:00-08:00@mon-fri',
  });
