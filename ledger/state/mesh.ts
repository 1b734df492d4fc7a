import type { KnownEntry } from '../entry.ts';
import type { EventBody } from '../events.ts';
import type { Reducer } from './reducer.ts';

/** What the mesh is, who writes its log, and whether the operator has paused it. */
export interface MeshFacts {
  genesis: EventBody<'mesh.created'> | null;
  /** Of the newest entry. */
  epoch: number;
  paused: boolean;
  /** Of the newest entry; the next entry's is not smaller. */
  time: number;
  /** Entries reduced so far: the next one has this index. */
  size: number;
}

export const meshReducer: Reducer<MeshFacts> = {
  name: 'mesh',
  version: 1,
  initial: () => ({ genesis: null, epoch: 0, paused: false, time: 0, size: 0 }),
  reduce(state, entry: KnownEntry) {
    switch (entry.type) {
      case 'mesh.created':
        state.genesis = entry.body;
        break;
      case 'mesh.paused':
        state.paused = true;
        break;
      case 'mesh.resumed':
        state.paused = false;
        break;
    }
    return state;
  },
  save: (state) => ({ ...state }),
  load: (saved) => ({ ...(saved as MeshFacts) }),
};
