import { endedTasksMax } from '../../protocol/limits.ts';
import type { KnownEntry } from '../lines/entry.ts';

/** How much a state keeps. Part of its meaning: one log gives one state only under the same bounds. */
export interface StateBounds {
  /** Tasks that have ended and are kept, at least 1. @default endedTasksMax */
  endedTasks: number;
}

export const defaultBounds: StateBounds = { endedTasks: endedTasksMax };

/**
 * One part of the replayed state. `reduce` is deterministic, reads no clock, and may mutate the state it was
 * given and return it: whoever wants an older state keeps its saved form. `save` gives plain JSON, and
 * `load(save(s))` behaves as `s` for every later entry (promise 9).
 */
export interface Reducer<S> {
  readonly name: string;
  /** Rises when the meaning of the saved form or of an entry changes; a saved state of another version is not loaded. */
  readonly version: number;
  initial(bounds: StateBounds): S;
  reduce(state: S, entry: KnownEntry): S;
  save(state: S): unknown;
  load(saved: unknown): S;
}

/** A map as JSON: its pairs in order of insertion, which is part of the state. */
export const savePairs = <V>(map: ReadonlyMap<string, V>): [string, V][] => [...map];

/** The inverse of `savePairs`. The caller vouches for the shape: saved states are checked by their digest. */
export const loadPairs = <V>(saved: unknown): Map<string, V> => new Map(saved as [string, V][]);
