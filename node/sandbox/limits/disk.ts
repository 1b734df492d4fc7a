import { type Dirent, readdirSync, statSync } from 'node:fs';
import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';

/** Entries of one workspace; a tree with more is treated as past its bytes (each costs an inode and our walk). */
export const workspaceEntriesMax = 2_000_000;
const BLOCK = 512;

export interface DiskUse {
  bytes: number;
  entries: number;
  /** Folders that could not be looked into: a task may take its own folder's rights away. */
  closed: number;
}

/**
 * Allocated bytes under `folder`: symbolic links are not followed, other file systems not entered, a file with many
 * names counts once. Stops as soon as `limit` is passed.
 */
export async function diskUse(folder: string, limit: number, signal: AbortSignal): Promise<DiskUse> {
  const use: DiskUse = { bytes: 0, entries: 0, closed: 0 };
  const linked = new Set<bigint>();
  const device = (await lstat(folder, { bigint: true })).dev;
  const waiting = [folder];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    let entries: AsyncIterable<Dirent>;
    try {
      entries = await opendir(next, { bufferSize: 256 });
      for await (const entry of entries) {
        if (signal.aborted || use.bytes > limit || use.entries >= workspaceEntriesMax) return use;
        use.entries += 1;
        const path = join(next, entry.name);
        const stat = await lstat(path, { bigint: true }).catch(() => null);
        if (stat === null || stat.dev !== device) continue;
        if (stat.isDirectory()) waiting.push(path);
        else if (stat.nlink > 1n) {
          if (linked.has(stat.ino)) continue;
          linked.add(stat.ino);
        }
        use.bytes += Number(stat.blocks) * BLOCK;
      }
    } catch (thrown) {
      const code = (thrown as NodeJS.ErrnoException).code;
      if (code === 'EACCES' || code === 'EPERM') use.closed += 1;
      // ENOENT, ENOTDIR: it was removed or replaced while we walked.
    }
  }
  return use;
}

/** Bytes of files that have no name any more and are kept by an open descriptor of the tree, on the device of `folder`. */
export function unnamedBytes(tree: number[], folder: string): number {
  const device = statSync(folder).dev;
  const seen = new Map<number, number>();
  for (const pid of tree) {
    let names: string[];
    try {
      names = readdirSync(`/proc/${pid}/fd`);
    } catch {
      continue;
    }
    for (const name of names) {
      try {
        const stat = statSync(`/proc/${pid}/fd/${name}`);
        if (stat.nlink === 0 && stat.dev === device && stat.isFile()) seen.set(stat.ino, stat.blocks * BLOCK);
      } catch {
        // Closed meanwhile.
      }
    }
  }
  return seen.values().reduce((sum, bytes) => sum + bytes, 0);
}
