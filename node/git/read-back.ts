import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { GitFault } from './fault.ts';

/**
 * A file that git's sandbox wrote: it must be a file, is not followed anywhere, and is bounded. Throws `RangeError` where it is
 * longer.
 */
export async function readBack(folder: string, name: string, bytesMax: number): Promise<Buffer> {
  const file = await open(
    join(folder, name),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  try {
    const facts = await file.stat();
    if (!facts.isFile()) throw new GitFault('machine', `${name} is not a file`);
    if (facts.size > bytesMax) throw new RangeError(`${name} has ${facts.size} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
