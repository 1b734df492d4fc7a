import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SuperfleetError } from '../protocol/errors.ts';
import { syncFolder } from './atomic-file.ts';

/** Where a folder's log and those of a repair lie: part of `FolderPaths`. */
export interface LogPaths {
  log: string;
  repairingLog: string;
  repairedLog: string;
  damagedLog: string;
}

/** Damaged logs that are kept; a folder that needs more repairs is not healthy. */
const damagedLogsMax = 100;

/** Takes away what a repair that was cut short left, while the log stands in its place. */
export async function clearRepair(paths: LogPaths): Promise<void> {
  await rm(paths.repairingLog, { recursive: true, force: true });
  if (existsSync(paths.log)) await rm(paths.repairedLog, { recursive: true, force: true });
  await syncFolder(dirname(paths.log));
}

/**
 * Puts the log that lies whole and synced in `repairingLog` in the place of `log`, which is kept; returns where. Two names
 * can't change at once: the new log is first given the name by which `settleLog` knows that it is whole, so that whoever
 * opens the folder after a crash finds the old one or the new one.
 */
export async function replaceLog(paths: LogPaths): Promise<string | null> {
  const root = dirname(paths.log);
  await rename(paths.repairingLog, paths.repairedLog);
  await syncFolder(root);
  const kept = existsSync(paths.log) ? freeName(paths.damagedLog) : null;
  if (kept !== null) {
    await rename(paths.log, kept);
    await syncFolder(root);
  }
  await rename(paths.repairedLog, paths.log);
  await syncFolder(root);
  return kept;
}

/** Ends a `replaceLog` that a crash cut short after the old log was put aside. */
export async function settleLog(paths: LogPaths): Promise<void> {
  if (existsSync(paths.log) || !existsSync(paths.repairedLog)) return;
  await rename(paths.repairedLog, paths.log);
  await syncFolder(dirname(paths.log));
}

function freeName(path: string): string {
  for (let n = 1; n <= damagedLogsMax; n += 1) if (!existsSync(`${path}-${n}`)) return `${path}-${n}`;
  throw new SuperfleetError('SF_FULL', `there are ${damagedLogsMax} damaged logs beside the log already`, {
    expected: `a free name ${path}-N`,
    hint: 'move the oldest of them away',
  });
}
