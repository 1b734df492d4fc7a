import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeSnapshotInProcess } from '../../hub/daemon/snapshot-maker.ts';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import type { LongLog } from './long-log.ts';

/** A folder of snapshots whose newest has about so many entries of the log after it. */
export interface Snapshots {
  folder: string;
  newer: number;
}

/**
 * Two such folders, made as a founder makes them: one with nothing newer, and one with the first batch's end from `newer`
 * entries before the end on. Removed at the end of the process.
 */
export async function snapshotsOf(
  { folder: log, mesh, entries }: LongLog,
  newer: number,
): Promise<Snapshots[]> {
  const made = async (size: number): Promise<Snapshots> => {
    const folder = mkdtempSync(join(tmpdir(), 'superfleet-bench-snapshots-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    const order = { log, snapshots: folder, mesh, size };
    await makeSnapshotInProcess(order, new AbortController().signal);
    return { folder, newer: entries - size };
  };
  const newest = await made(entries);
  const storage = new FileStorage(log);
  const begun = await restart(storage, new FileSnapshotStore(newest.folder), (at) =>
    Log.open({ storage, key: null, ...at }),
  );
  let size = entries - newer;
  while ((await begun.log.checkpointAt(size)) === null) size += 1;
  await begun.log.close();
  return [newest, await made(size)];
}
