import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { newNonce } from '../../protocol/ids.ts';
import type { Instance } from '../../protocol/session.ts';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/**
 * This process, as it tells itself from one with the same identity on another machine. Nothing of it is in the data
 * folder, so that no copy of the folder has it: the boot id is the running system's, device and inode are the folder's.
 */
export function thisInstance(dir: string): Instance {
  const { dev, ino } = statSync(dir);
  const place = createHash('sha256').update(`${systemMark()} ${dev}:${ino}`).digest('hex');
  return {
    process: newNonce((length) => randomBytes(length)),
    place,
    host: hostname().slice(0, 64),
  };
}

/** The running system; where there is no boot id (not Linux) its host name has to do. */
export function systemMark(): string {
  try {
    return readFileSync(BOOT_ID, 'utf8').trim();
  } catch {
    return hostname();
  }
}
