import { randomUUID } from 'node:crypto';
import { chmod, lstat, mkdir, opendir, rename, rm, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Rounds of emptying a folder before it is given up: nobody writes there any more, so one is enough. */
const roundsMax = 3;

/**
 * Deletes a folder that foreign code filled. Links are deleted, never followed; folders that forbid it are opened up;
 * a tree deeper than any path may be long is taken apart from its top. The caller has seen to it that no process can
 * write there any more. A path that does not exist is deleted already.
 */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch {
    await takeApart(path);
  }
}

/**
 * Every folder is moved up next to the root before it is emptied, so that no path grows long, whatever the depth; a
 * folder without permissions is given them first (moving it needs to write its `..`).
 */
async function takeApart(root: string): Promise<void> {
  const facts = await lstat(root).catch(() => null);
  if (facts === null) return;
  if (!facts.isDirectory()) return unlink(root);
  const pit = join(dirname(root), `.removing-${randomUUID()}`);
  await mkdir(pit, { mode: 0o700 });
  let next = 0;
  const sink = async (from: Buffer | string): Promise<string> => {
    // It was a folder a moment ago and nobody else writes here: this follows no link.
    await chmod(from, 0o700);
    const to = join(pit, String(next++));
    await rename(from, to);
    return to;
  };
  const waiting = [await sink(root)];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    for (let round = 0; ; round += 1) {
      for await (const entry of await opendir(folder, { encoding: 'buffer' as BufferEncoding })) {
        const child = Buffer.concat([Buffer.from(`${folder}/`), entry.name as unknown as Buffer]);
        if (entry.isDirectory()) waiting.push(await sink(child));
        else await unlink(child);
      }
      try {
        await rmdir(folder);
        break;
      } catch (error) {
        if (round === roundsMax) throw error;
      }
    }
  }
  await rmdir(pit);
}
