import { Log } from '../../ledger/log/log.ts';
import { applyEntry, initialState, knownEntry } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { readKey } from '../../node/daemon/identity.ts';
import type { Machine } from '../../node/daemon/machine.ts';
import { type Admission, Membership, smallFiles } from '../../node/daemon/membership.ts';
import { becomeMember } from '../../node/daemon/succession.ts';
import type { Envelope } from '../../protocol/dsse.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { HANDOVER_TYPE, type Leadership, leadershipOf, newerLeadership } from '../../protocol/handover.ts';
import { Notary } from './roster.ts';

/** What proves that a former founder is a member, and whom it follows. */
export const admissionOf = (
  leadership: Leadership,
  genesis: string,
  certificate: Envelope,
  addresses: readonly string[],
): Admission => ({
  genesis,
  handovers: leadership.handovers.map(({ line }) => line),
  certificate,
  addresses: addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, '')),
});

/** What a former founder was told of the mesh's founder of now. */
export interface Told {
  handovers: readonly string[];
  addresses: readonly string[];
}

/**
 * Makes the folder of a founder that was relieved a member's: what its log says of this machine, signed with the key that
 * signs nothing else any more. `told`: what others said, where the log itself does not have the handover.
 */
export async function stepDown(machine: Machine, told: Told | null = null): Promise<Membership> {
  const { paths } = machine.folder;
  const key = await readKey(paths.logKey);
  const log = await Log.open({ storage: new FileStorage(paths.log), key: null });
  try {
    if (key === null) {
      throw new SuperfleetError('SF_FOLDER', 'the log key of this former founder is gone', {
        hint: 'join the mesh anew, with an empty folder: mesh-node join TOKEN --dir PATH',
      });
    }
    const state = initialState();
    const [genesis] = await log.read(0, 1);
    const line = JSON.stringify(genesis);
    const notary = new Notary(line, () => state, key);
    // The last that its key may sign: where the log holds the handover, the roster of the moment before.
    let roster: Uint8Array | null = null;
    for await (const entry of log.entries()) {
      if (entry.type === HANDOVER_TYPE && entry.epoch === log.epoch && told === null)
        roster = notary.roster().bytes;
      applyEntry(state, entry, knownEntry(entry));
    }
    if (told !== null) roster = notary.roster().bytes;
    const leadership =
      told === null ? log.leadership : newerLeadership(log.leadership, leadershipOf(line, told.handovers));
    const { peer } = machine.key;
    const prepared = told === null ? await Membership.load(peer, smallFiles(paths)).catch(() => null) : null;
    const addresses = told?.addresses ?? prepared?.addresses ?? [];
    const admission = admissionOf(leadership, line, notary.certificate(peer), addresses);
    const policy = state.members.byPeer.get(peer)?.policy ?? null;
    return await becomeMember(machine, { ...admission, policy }, roster);
  } finally {
    await log.close();
  }
}
