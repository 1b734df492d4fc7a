import { rm } from 'node:fs/promises';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Leadership } from '../../protocol/handover.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';
import type { FolderPaths } from '../folder.ts';
import { readKey, readOrMakeKey, writeKey } from './identity.ts';
import { InstanceMark } from './instance-mark.ts';
import type { Machine } from './machine.ts';
import { type Admission, Membership, smallFiles } from './membership.ts';

/** What a change of role needs of a machine. */
export type Changing = Pick<Machine, 'folder' | 'key' | 'config' | 'configure'>;

/** The key that will sign the log if this machine is made its founder; made on first use, and never used before. */
export const nextLogKey = (paths: Pick<FolderPaths, 'nextLogKey'>): Promise<SigningKey> =>
  readOrMakeKey(paths.nextLogKey);

/**
 * Makes the folder a founder's. Its log names this machine already, and that is the truth: a process that dies between any
 * two of these steps leaves a member's folder whose log says so, and the next start does the rest. `port`: where this
 * machine is known to listen. `SF_FOLDER` where the key that the log was handed over to is not here.
 */
export async function becomeFounder(
  machine: Changing,
  { leadership, checkpoint }: { leadership: Leadership; checkpoint: { size: number; root: string } },
  port: number | null,
): Promise<void> {
  const { paths } = machine.folder;
  const named = publicKeyToBase64(leadership.logKey);
  const holds = (key: SigningKey | null): key is SigningKey =>
    key !== null && publicKeyToBase64(key.publicKey) === named;
  const next = await readKey(paths.nextLogKey);
  if (holds(next)) await writeKey(paths.logKey, next);
  else if (!holds(await readKey(paths.logKey))) {
    throw new SuperfleetError('SF_FOLDER', 'the mesh was handed over to this machine, and its key is gone', {
      expected: `a key whose public half is ${named}, in ${paths.nextLogKey}`,
      got: 'none',
      hint: 'put the file back, or promote another replica: mesh-hub promote --recovery-key FILE',
    });
  }
  // Nothing is unknown of this log: it was acknowledged here, entry for entry.
  const { size, root } = checkpoint;
  await new InstanceMark(paths.root).stopped({ mesh: leadership.genesis.mesh, size, root });
  // Members look for the founder where they have heard of it.
  await machine.configure({
    kind: 'hub',
    mesh: null,
    founder: null,
    ...(port === null ? {} : { port: machine.config.port ?? port }),
  });
  for (const path of [paths.nextLogKey, paths.membership, paths.roster]) await rm(path, { force: true });
}

/**
 * Makes the folder a member's: `admission` proves this machine's membership and that another one is the founder. Until the
 * config is written the folder is a founder's whose log refuses its key, and the next start does this again. The old log key
 * signs nothing any more, and goes.
 */
export async function becomeMember(
  machine: Changing,
  admission: Admission,
  roster: Uint8Array | null,
): Promise<Membership> {
  const { paths } = machine.folder;
  const membership = await Membership.admit(admission, machine.key.peer, smallFiles(paths));
  if (roster !== null) await membership.takeRoster(roster);
  await machine.configure({
    kind: 'node',
    mesh: membership.genesis.mesh,
    founder: { peer: membership.founder, addresses: [...membership.addresses] },
  });
  await rm(paths.logKey, { force: true });
  return membership;
}

/** Whether a log of this size and epoch has entries that the mesh went on without: those of an epoch that was closed before them. */
export function divergesFrom(
  { size, epoch }: { size: number; epoch: number },
  leadership: Leadership,
): boolean {
  const closing = leadership.handovers.find((handover) => handover.epoch === epoch + 1);
  return closing !== undefined && size > closing.index;
}
