import type { KnownEntry } from '../entry.ts';
import type { EventType } from '../events.ts';
import { budgetReducer } from './budget.ts';
import { failuresReducer } from './failures.ts';
import type { Members } from './members.ts';
import { memoryReducer } from './memory.ts';
import type { Reducer } from './reducer.ts';
import type { Tasks } from './task-set.ts';

/** The replayed part of a plugin (design §1). It is handed only what it reads: a log is mostly of other things. */
export interface PluginReducer<S> extends Reducer<S> {
  readonly reads: readonly EventType[];
  reduce(state: S, entry: KnownEntry, replayed?: Replayed): S;
}

/** What a plugin's reducer may look up besides: the parts of every mesh, which have taken the entry already. To be read only. */
export interface Replayed {
  readonly tasks: Tasks;
  readonly members: Members;
}

/**
 * Every plugin's, by name. They are replayed on every machine that replays the log, also where the plugin is switched
 * off: so one log gives one state, and what is switched on later finds what it needs.
 */
// biome-ignore lint/suspicious/noExplicitAny: each knows its own state, and only it looks inside.
export const PLUGIN_REDUCERS: readonly PluginReducer<any>[] = [memoryReducer, budgetReducer, failuresReducer];

/** States of plugins by name. */
export type PluginStates = Map<string, unknown>;

const READERS = new Map<string, readonly PluginReducer<unknown>[]>();
for (const reducer of PLUGIN_REDUCERS) {
  for (const type of reducer.reads) READERS.set(type, [...(READERS.get(type) ?? []), reducer]);
}

/** Those that read entries of this type; undefined: none. */
export const readersOf = (type: EventType): readonly PluginReducer<unknown>[] | undefined =>
  READERS.get(type);
