import { z } from 'zod';
import { count, meshId, sha256Hex } from '../../protocol/ids.ts';
import { TASK_STATES } from '../../protocol/task.ts';

/** What the index keeps under which keys. Whatever changes its meaning takes the next format: an index of another one is made anew. */

/** To which checkpoint it was built. It is written with what it speaks of, or not at all. */
export const marker = z.strictObject({
  format: z.literal(3),
  mesh: meshId,
  size: count,
  root: sha256Hex,
  /** Tasks submitted so far: they have the numbers below it. */
  tasks: count,
});
export type Marker = z.infer<typeof marker>;

/** One task. */
export const about = z.strictObject({
  /** Entries about it: its parts name as many, or some went missing. */
  entries: count,
  number: count.nullable(),
  by: z.string().nullable(),
  ended: z.enum(TASK_STATES).nullable(),
});
export type About = z.infer<typeof about>;

/** Indexes of entries about one task that were written together. */
export const part = z.array(count).min(1);

/** Entries that one part names. */
export const placesMax = 256;
/** Tasks that one record of numbers names. */
export const runMax = 256;

export const MARKER = 'built';
/** Of all formats so far: `count!` and `state!` are what the first one had. */
export const KINDS = ['about', 'count', 'number', 'state', 'task'] as const;

const INDEX_DIGITS = 16;
const ID_CHARACTERS = 12;
const padded = (index: number): string => String(index).padStart(INDEX_DIGITS, '0');

export const aboutKey = (task: string): string => `about!${task}`;
/** A part, by the first index in it. */
export const partKey = (task: string, index: number): string => `task!${task}!${padded(index)}`;
/** Ids of tasks whose numbers follow each other, by the first number. */
export const runKey = (number: number): string => `number!${padded(number)}`;
/** The index or number in the key of a part or of a run. */
export const placeOf = (key: string): number => Number(key.slice(-INDEX_DIGITS));
export const runOf = (tasks: readonly string[]): string => tasks.join('');

/** The task of a number in the run that begins at or before it; null: it is not in it. */
export function taskInRun([key, run]: readonly [string, string], number: number): string | null {
  const at = (number - placeOf(key)) * ID_CHARACTERS;
  const id = at < 0 ? '' : run.slice(at, at + ID_CHARACTERS);
  return id.length === ID_CHARACTERS ? id : null;
}

/** What a text is by its schema; null where it is not there, or not of it. */
export function parsed<T>(schema: z.ZodType<T>, text: string | undefined): T | null {
  if (text === undefined) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
