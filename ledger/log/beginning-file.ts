import { mkdir, rename, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FileSnapshotStore } from '../snapshots/snapshot-store-file.ts';
import { compressedName, segmentName } from '../storage/storage.ts';
import { FileStorage } from '../storage/storage-file.ts';
import type { Beginning } from './beginning.ts';

/** Folder of the segments that are fetched, in that of the log: a rename moves them. */
const FOLDER = 'backfill';

/** The beginning of the log in this folder. The snapshot lies beside the segments that it vouches for. */
export function fileBeginning(log: string): Beginning {
  const folder = join(log, FOLDER);
  return {
    base: new FileSnapshotStore(log),
    segments: new FileStorage(folder),
    move: async (first, to) => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const [from, into] = to === 'log' ? [folder, log] : [log, folder];
      for (const form of await new FileStorage(from).forms(first)) {
        const name = form === 'plain' ? segmentName(first) : compressedName(first);
        await rename(join(from, name), join(into, name));
      }
    },
    clear: async () => {
      // What recovery cut from a torn end and kept stays, and so does the folder then.
      await rmdir(folder).catch(() => undefined);
    },
  };
}
