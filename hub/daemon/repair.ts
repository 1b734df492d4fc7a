import { rm } from 'node:fs/promises';
import { type CopySource, storageSource } from '../../ledger/log/log-source.ts';
import { type RepairReport, repairFrom } from '../../ledger/log/repair.ts';
import { readSound } from '../../ledger/log/sound.ts';
import { diskFailure } from '../../ledger/log/writer.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { readConfig } from '../../node/config.ts';
import { libp2pKey, readKey } from '../../node/daemon/identity.ts';
import type { FolderPaths } from '../../node/folder.ts';
import { clearRepair, replaceLog } from '../../node/log-switch.ts';
import { createHost } from '../../node/network/host.ts';
import { fetchCopy, type NamedPeer, namedPeer } from '../../node/replica/fetch-copy.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { RepairLedger } from '../cli/options.ts';
import { openLogSource, openOffline } from './offline.ts';

/** A day: the log of years over a slow network. */
const FETCH_MS = 24 * 3_600_000;

/**
 * `mesh-hub ledger repair`: makes the repaired log beside the damaged one, and when it is whole and verified puts it in its
 * place. The damaged one stays, under another name.
 */
export const repairLedger: RepairLedger = async ({ dir, user, from, acceptLoss }) => {
  const peer = namedPeer(from);
  const opened = peer === null ? await openLogSource(from) : null;
  try {
    const folder = await openOffline({ dir, create: false, user });
    try {
      const { paths } = folder;
      const source = opened?.source ?? (await fetched(paths, peer!));
      const logKey = await readKey(paths.logKey);
      await clearRepair(paths);
      const into = new FileStorage(paths.repairingLog);
      let report: RepairReport | null;
      try {
        report = await repairFrom(new FileStorage(paths.log), source, {
          into,
          logKey: logKey?.publicKey ?? null,
          acceptLoss,
        });
      } catch (error) {
        await clearRepair(paths);
        throw error instanceof SuperfleetError ? error : diskFailure(error, paths.repairingLog);
      }
      if (report === null) {
        await clearRepair(paths);
        return null;
      }
      const kept = await replaceLog(paths);
      await rm(paths.fetchedLog, { recursive: true, force: true });
      const { damage, ...said } = report;
      return { ...said, damage: damage?.message ?? null, kept };
    } finally {
      await folder.release();
    }
  } finally {
    await opened?.close();
  }
};

/** The whole log of a replica, verified, in a folder of its own: the repair takes what it needs of it. */
async function fetched(paths: FolderPaths, peer: NamedPeer): Promise<CopySource> {
  const key = await readKey(paths.identityKey);
  if (key === null) throw new SuperfleetError('SF_FOLDER', `there is no identity in ${paths.root}`);
  const { mdns } = await readConfig(paths.config);
  const { state } = await readSound(new FileStorage(paths.log));
  const mesh = state.meshId;
  if (mesh === null) {
    throw new SuperfleetError(
      'SF_LOG_DAMAGED',
      'the first entry of the log is damaged, and with it which mesh it is of',
      {
        expected: 'a log whose first entry holds',
        hint: 'repair it from a file: mesh-hub ledger repair --from FILE; a replica exports one',
      },
    );
  }
  const host = await createHost({ privateKey: libp2pKey(key), listen: [], mdns });
  try {
    await rm(paths.fetchedLog, { recursive: true, force: true });
    const storage = new FileStorage(paths.fetchedLog);
    await fetchCopy(host, peer, { mesh, storage, signal: AbortSignal.timeout(FETCH_MS) });
    return { ...storageSource(storage), name: peer.peer };
  } finally {
    await host.stop();
  }
}
