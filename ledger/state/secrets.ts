import type { KnownEntry } from '../lines/entry.ts';
import type { Reducer } from './reducer.ts';

/** Names of secrets; a value is never in the log. */
export type Secrets = Set<string>;

export const secretsReducer: Reducer<Secrets> = {
  name: 'secrets',
  version: 1,
  initial: () => new Set(),
  reduce(state, entry: KnownEntry) {
    if (entry.type === 'secret.set') state.add(entry.body.name);
    else if (entry.type === 'secret.removed') state.delete(entry.body.name);
    return state;
  },
  save: (state) => [...state],
  load: (saved) => new Set(saved as string[]),
};
