import type { KnownEntry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import type { Reducer } from './reducer.ts';

/** What the mesh is, who writes its log, and whether the operator has paused it. */
export interface MeshFacts {
  genesis: EventBody<'mesh.created'> | null;
  /** Peer id of the founder now; null before the genesis. */
  founder: string | null;
  /** Lines of the handovers, oldest first. */
  handovers: string[];
  /** Of the newest entry. */
  epoch: number;
  paused: boolean;
  /** Nothing more is given out, and what runs may finish; absent: no. Never while it is paused. */
  draining?: true;
  /** As the operator has set them; absent: the defaults. */
  capacity?: { ring: number; elastic: number };
  /** The default of all machines' policies, which hold besides; absent: there is none. */
  policy?: string;
  /** Replicas that must have synced an entry before it is acknowledged; absent: none, the founder's disk is enough. */
  durability?: number;
  /** Of the newest entry; the next entry's is not smaller. */
  time: number;
  /** Entries reduced so far: the next one has this index. */
  size: number;
}

/** Whether nothing is given out: paused, or let run empty. */
export const isHalted = ({ paused, draining }: Pick<MeshFacts, 'paused' | 'draining'>): boolean =>
  paused || draining === true;

export const meshReducer: Reducer<MeshFacts> = {
  name: 'mesh',
  version: 3,
  initial: () => ({ genesis: null, founder: null, handovers: [], epoch: 0, paused: false, time: 0, size: 0 }),
  reduce(state, entry: KnownEntry) {
    switch (entry.type) {
      case 'mesh.created':
        state.genesis = entry.body;
        state.founder = entry.body.founder;
        break;
      case 'epoch.handover': {
        const { index, epoch, time, type, body } = entry;
        state.founder = body.founder;
        state.handovers.push(JSON.stringify({ index, epoch, time, type, body }));
        break;
      }
      case 'mesh.paused':
        state.paused = true;
        delete state.draining;
        break;
      case 'mesh.resumed':
        state.paused = false;
        delete state.draining;
        break;
      case 'mesh.draining':
        if (!state.paused) state.draining = true;
        break;
      case 'mesh.capacity':
        state.capacity = { ring: entry.body.ring, elastic: entry.body.elastic };
        break;
      case 'mesh.policy':
        if (entry.body.policy === null) delete state.policy;
        else state.policy = entry.body.policy;
        break;
      case 'mesh.durability':
        // Absent, not 0: the state of a log that never says so is what it was before there was such an entry.
        if (entry.body.replicas === 0) delete state.durability;
        else state.durability = entry.body.replicas;
        break;
    }
    return state;
  },
  save: (state) => ({ ...state, handovers: [...state.handovers] }),
  load: (saved) => ({ ...(saved as MeshFacts), handovers: [...(saved as MeshFacts).handovers] }),
};
