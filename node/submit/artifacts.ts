import { linkSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Artifact } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import { download } from './quarantine.ts';
import { lying } from './temporary.ts';

/** Names under which a file would be a repository's own, on any file system. */
const gitName = /^(\.git|git~\d+)[ .]*(:.*)?$/i;

/**
 * Writes a task's artifacts under `folder`. A link is never followed, nothing is written outside, nothing into a `.git`,
 * and nothing over a file that is there unless `force`. Each file appears whole, checked against its digest. Answers the
 * paths written.
 */
export async function placeArtifacts(
  client: Client,
  artifacts: Artifact[],
  folder: string,
  force: boolean,
  signal?: AbortSignal,
): Promise<string[]> {
  const targets = artifacts.map((artifact) => ({ artifact, parts: safeParts(artifact.path) }));
  mkdirSync(folder, { recursive: true });
  for (const { parts } of targets) {
    // All are looked at before the first is written: it is all or nothing for what can be known.
    const found = lying(join(folder, ...parts));
    if (found !== null && (!force || found.isDirectory()))
      throw inTheWay(join(folder, ...parts), found.isDirectory());
  }
  const written: string[] = [];
  for (const { artifact, parts } of targets) {
    const path = join(folder, ...parts);
    makeFolders(folder, parts.slice(0, -1));
    const part = join(dirname(path), `.${basename(path)}.${process.pid}.part`.slice(-200));
    try {
      await download(client, artifact, part, signal);
      if (force) renameSync(part, path);
      else linkSync(part, path);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') throw inTheWay(path, false);
      throw thrown;
    } finally {
      rmSync(part, { force: true });
    }
    written.push(path);
  }
  return written;
}

function safeParts(path: string): string[] {
  const parts = path.split('/');
  if (
    parts.some(
      (part) => part === '' || part === '.' || part === '..' || part.includes('\0') || gitName.test(part),
    )
  ) {
    throw new SuperfleetError('SF_REFUSED', 'an artifact has a path that is not written', {
      expected: 'a path inside the folder, with no ".." and no ".git"',
      got: path,
    });
  }
  return parts;
}

/** Makes the folders between, one by one: a link among them is refused, not followed. */
function makeFolders(folder: string, parts: string[]): void {
  let at = folder;
  for (const part of parts) {
    at = join(at, part);
    const found = lying(at);
    if (found === null) mkdirSync(at);
    else if (!found.isDirectory()) throw inTheWay(at, found.isSymbolicLink());
  }
}

const inTheWay = (path: string, isFolder: boolean): SuperfleetError =>
  new SuperfleetError('SF_EXISTS', `${path} is in the way of an artifact`, {
    expected: 'nothing there',
    got: isFolder ? 'a folder or a link' : 'a file',
    hint: isFolder ? 'choose another --output' : '--force writes over files, --output names another folder',
  });
