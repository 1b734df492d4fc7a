import type { KnownEntry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import { loadPairs, type Reducer, savePairs } from './reducer.ts';

/** A live invite. One whose uses are spent is gone from the state; an expired one goes when the next is made. */
export interface InviteRecord extends Omit<EventBody<'invite.created'>, 'invite'> {
  usesLeft: number;
}

/** Invites by the SHA-256 of their secret. Expiry is judged by whoever admits, on the founder's wall clock. */
export type Invites = Map<string, InviteRecord>;

export const invitesReducer: Reducer<Invites> = {
  name: 'invites',
  version: 1,
  initial: () => new Map(),
  reduce(state, entry: KnownEntry) {
    if (entry.type === 'invite.created') {
      const { invite, ...facts } = entry.body;
      // Swept by the log's own time, so that every replica sweeps the same ones.
      for (const [old, { expiresAt }] of state) if (expiresAt < entry.time) state.delete(old);
      state.set(invite, { ...facts, usesLeft: facts.uses });
    } else if (entry.type === 'member.admitted' && entry.body.via.kind === 'invite') {
      const invite = state.get(entry.body.via.invite);
      if (invite !== undefined) {
        invite.usesLeft -= 1;
        if (invite.usesLeft <= 0) state.delete(entry.body.via.invite);
      }
    }
    return state;
  },
  save: savePairs,
  load: (saved) => loadPairs<InviteRecord>(saved),
};
