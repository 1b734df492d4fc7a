import type { Entry } from './entry.ts';

/** An entry as a later program would have written it. */
export type Upgraded = Pick<Entry, 'type' | 'body'>;

/**
 * What lifts an entry of an older form to the next one, by the type that it has in the log. A type names the form of its
 * body: where a form changes, the new one gets a type of its own (`task.submitted.2`), for the program that writes it may
 * go on with a log that an older one began. The line stays what it is, and so does its hash. None yet.
 */
export type Upgrades = Readonly<Record<string, (body: unknown) => Upgraded>>;
const upgrades: Upgrades = {};

/** The entry in the newest form of its type. Pure: the same entry gives the same one on every machine. */
export function upgraded(entry: Entry, steps: Upgrades = upgrades): Entry {
  let now = entry;
  while (Object.hasOwn(steps, now.type)) now = { ...now, ...steps[now.type]!(now.body) };
  return now;
}
