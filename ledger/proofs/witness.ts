import { SuperfleetError } from '../../protocol/errors.ts';
import { type Leadership, logKeys } from '../../protocol/handover.ts';
import { publicKeyToBase64 } from '../../protocol/keys.ts';
import { type Checkpoint, verifyCheckpoint } from '../lines/checkpoint.ts';
import type { DurableLog } from '../log/durable-log.ts';

/** Two checkpoints of one mesh, both signed by keys of it, that no one history has: proof of an equivocation. */
export interface Equivocation {
  mesh: string;
  /** Signed notes. */
  checkpoints: [string, string];
}

/** What a checkpoint that somebody saw says about a log: it is of it, goes beyond it, contradicts it, or proves nothing. */
export type Testimony =
  | { kind: 'same' }
  | { kind: 'ahead'; checkpoint: Checkpoint }
  | { kind: 'fork'; equivocation: Equivocation }
  | { kind: 'unproved' };

/**
 * Holds a checkpoint that a member saw against a log. Only one that a key of this mesh signed says anything. One of an
 * epoch that a recovery has ended since is passed over: with the recovery key the operator chose this history, and gave up
 * whatever else was signed before.
 */
export async function testimonyOf(
  log: Pick<DurableLog, 'meshId' | 'leadership' | 'first' | 'size' | 'checkpoint' | 'checkpointAt'>,
  text: string,
): Promise<Testimony> {
  const signed = signedBy(log.leadership, text);
  if (signed === null) return { kind: 'unproved' };
  const { checkpoint, epoch } = signed;
  const since = log.leadership.handovers.slice(epoch - 1);
  if (since.some(({ body }) => body.authority === 'recovery')) return { kind: 'same' };
  if (checkpoint.size > log.size) return { kind: 'ahead', checkpoint };
  const own = await log.checkpointAt(checkpoint.size);
  if (own?.root === checkpoint.root) return { kind: 'same' };
  // Of entries that this log does not hold yet: there is nothing to hold it against.
  if (own === null && checkpoint.size < log.first) return { kind: 'same' };
  // Where no batch of ours ended there, our next checkpoint contradicts it just as well.
  const ours = own ?? log.checkpoint;
  return { kind: 'fork', equivocation: { mesh: log.meshId, checkpoints: [ours.text, text] } };
}

/** The checkpoint and the epoch whose key signed it; null where no key of the mesh did. */
export function signedBy(
  leadership: Leadership,
  text: string,
): { checkpoint: Checkpoint; epoch: number } | null {
  const origin = leadership.genesis.mesh;
  const keys = logKeys(leadership);
  for (let epoch = keys.length; epoch > 0; epoch -= 1) {
    const checkpoint = verified(text, origin, keys[epoch - 1]!);
    if (checkpoint !== null) return { checkpoint, epoch };
  }
  // Over a handover by the recovery key: the first of the epoch that it opens.
  const checkpoint = verified(text, origin, leadership.genesis.recoveryKey);
  const opened = leadership.handovers.find(({ index }) => index + 1 === checkpoint?.size);
  return checkpoint === null ? null : { checkpoint, epoch: opened?.epoch ?? keys.length + 1 };
}

/**
 * Whether two checkpoints prove an equivocation by themselves, to somebody who holds no log: both signed by the key of one
 * epoch (`within`: of this one), for one size, with different roots.
 */
export function provesEquivocation(
  leadership: Leadership,
  [one, other]: readonly [string, string],
  within?: number,
): boolean {
  const [a, b] = [signedBy(leadership, one), signedBy(leadership, other)];
  if (a === null || b === null || a.epoch !== b.epoch) return false;
  if (within !== undefined && a.epoch !== within) return false;
  return a.checkpoint.size === b.checkpoint.size && a.checkpoint.root !== b.checkpoint.root;
}

/**
 * What a member does with a checkpoint it is shown, given the newest it holds: keeps it where it is of a later epoch or
 * further in the same one, passes it over where it is not or where no key of the mesh signed it. `conflict`: the two are
 * proof of an equivocation.
 */
export function weighCheckpoint(
  leadership: Leadership,
  held: string | null,
  shown: string,
): 'keep' | 'pass' | 'conflict' {
  const next = signedBy(leadership, shown);
  if (next === null) return 'pass';
  const known = held === null ? null : signedBy(leadership, held);
  if (known === null || next.epoch > known.epoch) return 'keep';
  if (next.epoch < known.epoch || next.checkpoint.size < known.checkpoint.size) return 'pass';
  if (next.checkpoint.size > known.checkpoint.size) return 'keep';
  return next.checkpoint.root === known.checkpoint.root ? 'pass' : 'conflict';
}

/** What people are told of an equivocation. */
export const equivocationError = (
  { mesh, checkpoints }: Equivocation,
  kept: string | null,
): SuperfleetError =>
  new SuperfleetError(
    'SF_EQUIVOCATION',
    `two histories of mesh ${mesh} are signed; nothing is added to either`,
    {
      expected: checkpoints[0],
      got: checkpoints[1],
      hint:
        `Two founders ran with one key: a copied or restored folder, most likely. Stop both${kept === null ? '' : `; the proof is in ${kept}`}. ` +
        'Keep the one whose log is longer, or open a new epoch: mesh-hub start --accept-loss --recovery-key FILE',
    },
  );

function verified(text: string, origin: string, key: Uint8Array): Checkpoint | null {
  try {
    return verifyCheckpoint(text, { origin, publicKey: publicKeyToBase64(key) });
  } catch {
    return null;
  }
}
