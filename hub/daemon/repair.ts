import { type RepairReport, repairFrom } from '../../ledger/repair.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import { diskFailure } from '../../ledger/writer.ts';
import { readKey } from '../../node/daemon/identity.ts';
import { clearRepair, replaceLog } from '../../node/log-switch.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { RepairLedger } from '../cli/options.ts';
import { openLogSource, openOffline } from './offline.ts';

/**
 * `mesh-hub ledger repair`: makes the repaired log beside the damaged one, and when it is whole and verified puts it in its
 * place. The damaged one stays, under another name.
 */
export const repairLedger: RepairLedger = async ({ dir, user, from, acceptLoss }) => {
  const { source, close } = await openLogSource(from);
  try {
    const folder = await openOffline({ dir, create: false, user });
    try {
      const { paths } = folder;
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
      const { damage, ...said } = report;
      return { ...said, damage: damage?.message ?? null, kept };
    } finally {
      await folder.release();
    }
  } finally {
    await close();
  }
};
