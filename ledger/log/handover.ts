import { SuperfleetError } from '../../protocol/errors.ts';
import { HANDOVER_TYPE, type HandoverBody, type Leadership, signHandover } from '../../protocol/handover.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';
import { type Checkpoint, makeCheckpoint } from '../lines/checkpoint.ts';
import { makeEntry } from '../lines/line.ts';
import { Frontier, type FrontierState, leafDigest } from '../proofs/merkle.ts';
import { batchOf } from './batch.ts';
import type { CommittedBatch } from './durable-log.ts';

/** Where a log stands when it changes hands. */
export interface HandoverFrom {
  leadership: Leadership;
  checkpoint: Checkpoint;
  frontier: FrontierState;
  /** Of the last entry, Unix ms. */
  time: number;
}

/** To whom, and whose signature it rests on. */
export interface HandoverTo {
  /** Peer id. */
  founder: string;
  /** Raw public key. */
  logKey: Uint8Array;
  authority: HandoverBody['authority'];
}

/**
 * The batch that hands a log over: one entry and a checkpoint, both signed by `key`, which is the log key or the
 * recovery key as `authority` says. Whoever holds the log takes it as any other batch, and so checks it.
 */
export function handoverBatch(
  { leadership, checkpoint: last, frontier, time: before }: HandoverFrom,
  { founder, logKey, authority }: HandoverTo,
  key: SigningKey,
  time: number,
): CommittedBatch & { line: string } {
  const origin = leadership.genesis.mesh;
  const epoch = leadership.epoch + 1;
  const said = { founder, logKey: publicKeyToBase64(logKey), authority, size: last.size, root: last.root };
  const body = signHandover(origin, epoch, said, key);
  const head = { index: last.size, epoch, time: Math.max(time, before) };
  const { entry, line } = makeEntry(head, { type: HANDOVER_TYPE, body });
  const tree = Frontier.from(frontier);
  const leaf = leafDigest(line);
  tree.append(leaf);
  const checkpoint = makeCheckpoint({ origin, size: tree.size, root: tree.root().toString('hex') }, key);
  const bytes = batchOf([line], checkpoint);
  return { first: last.size, last: last.size, checkpoint, entries: [entry], leaves: [leaf], bytes, line };
}

/** The mesh is led by another founder, or will be. */
export const fenced = ({ founder, epoch }: Leadership): SuperfleetError =>
  new SuperfleetError('SF_FENCED', `this log was handed over: ${founder} leads the mesh in epoch ${epoch}`, {
    expected: 'the founder of the newest epoch',
    got: 'a former founder',
    hint: 'start this machine as a member: mesh-node start',
  });
