import { handoverBatch } from '../../ledger/log/handover.ts';
import { Log } from '../../ledger/log/log.ts';
import { LogCopy } from '../../ledger/log/log-copy.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { Machine } from '../../node/daemon/machine.ts';
import { setProofAside } from '../../node/daemon/proof-file.ts';
import { becomeFounder, nextLogKey } from '../../node/daemon/succession.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import { requireRecoveryKey } from './recovery-key.ts';

/**
 * `start --accept-loss`: the founder goes on with what its log holds, in a new epoch that the recovery key opens, so that
 * members give up what they saw beyond it. A crash at any step is mended by the next start (`endNewEpoch`). Answers with the epoch.
 */
export async function openNewEpoch(machine: Machine, recovery: SigningKey): Promise<number> {
  const { paths } = machine.folder;
  const storage = new FileStorage(paths.log);
  const copy = await LogCopy.open({ storage, mesh: await meshOf(storage) });
  try {
    const { genesis } = copy.leadership;
    requireRecoveryKey(recovery, genesis.recoveryKey, genesis.mesh);
    const next = await nextLogKey(paths);
    const to = { founder: machine.key.peer, logKey: next.publicKey, authority: 'recovery' } as const;
    await copy.take(handoverBatch(copy.standing, to, recovery, Date.now()).bytes);
    const { leadership, checkpoint } = copy;
    await becomeFounder(machine, { leadership, checkpoint }, null);
    await setProofAside(paths.root, leadership.epoch);
    return leadership.epoch;
  } finally {
    await copy.close();
  }
}

/** Ends what a crash cut short: true where the log names this machine with a key that was only to be put in its place. */
export async function endNewEpoch(machine: Machine): Promise<boolean> {
  const log = await Log.open({ storage: new FileStorage(machine.folder.paths.log), key: null });
  const { leadership, checkpoint } = log;
  await log.close();
  if (leadership.founder !== machine.key.peer) return false;
  await becomeFounder(machine, { leadership, checkpoint }, null);
  await setProofAside(machine.folder.paths.root, leadership.epoch);
  return true;
}

async function meshOf(storage: FileStorage): Promise<string> {
  const log = await Log.open({ storage, key: null });
  await log.close();
  return log.meshId;
}
