import type { EventType } from '../lines/events.ts';
import { budgetReducer } from './budget.ts';
import { failuresReducer } from './failures.ts';
import { memoryReducer } from './memory.ts';
import type { PluginReducer } from './plugin-reducer.ts';

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
