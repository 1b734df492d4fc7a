import type { KnownEntry } from '../lines/entry.ts';
import type { EventType } from '../lines/events.ts';
import type { Members } from './members.ts';
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
