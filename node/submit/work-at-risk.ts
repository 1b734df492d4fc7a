import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type Repository, uncommitted } from './repository.ts';
import { gitPath } from './snapshot.ts';
import { lying } from './temporary.ts';

/** Bytes of paths given to one git command. */
const argumentBytesMax = 96 * 1024;

/** Those of the paths where something lies that no commit holds: edited, staged, untracked, or ignored. */
export async function workAtRisk(repository: Repository, paths: readonly string[]): Promise<string[]> {
  const changed = new Set((await uncommitted(repository, 'none')).map(({ path }) => path));
  const folders = new Set<string>();
  for (const path of changed) for (const folder of ancestors(path)) folders.add(folder);
  const there = new Map<string, boolean>();
  for (const path of paths) {
    for (const at of [path, ...ancestors(path)]) {
      if (there.has(at)) continue;
      const found = lying(join(repository.folder, at));
      // A folder on the way is none of anybody's work.
      if (found !== null && (at === path || !found.isDirectory())) there.set(at, found.isDirectory());
    }
  }
  const tracked = await trackedOf(repository, [...there.keys()]);
  return paths.filter((path) => {
    if (changed.has(path) || folders.has(path)) return true;
    return [path, ...ancestors(path)].some((at) => {
      if (changed.has(at)) return true;
      const isFolder = there.get(at);
      if (isFolder === undefined || tracked.has(at)) return false;
      // A folder in the place of a file: in the way if anything in it is not git's.
      return true;
    });
  });
}

/** Which of these paths the index has, as a file or as a folder of files and of nothing else. */
async function trackedOf(repository: Repository, paths: string[]): Promise<Set<string>> {
  const found = new Set<string>();
  for (let at = 0; at < paths.length; ) {
    const some: string[] = [];
    for (let bytes = 0; at < paths.length && bytes < argumentBytesMax; at++) {
      some.push(paths[at]!);
      bytes += Buffer.byteLength(paths[at]!) + 1;
    }
    const listed = await repository.git(['--literal-pathspecs', 'ls-files', '-z', '--', ...some]);
    for (const path of listed.split('\0')) {
      found.add(path);
      for (const folder of ancestors(path)) found.add(folder);
    }
    const others = await repository.git(['--literal-pathspecs', 'ls-files', '-z', '--others', '--', ...some]);
    for (const path of others.split('\0')) for (const folder of ancestors(path)) found.delete(folder);
  }
  return found;
}

/** What git is in the middle of here, with the files that say so. */
const unfinished = {
  MERGE_HEAD: 'a merge',
  CHERRY_PICK_HEAD: 'a cherry-pick',
  REVERT_HEAD: 'a revert',
  'rebase-merge': 'a rebase',
  'rebase-apply': 'a rebase',
};

/** `SF_CONFLICT` while a merge, a rebase or the like waits for the person. */
export async function refuseUnfinished(repository: Repository): Promise<void> {
  for (const [name, what] of Object.entries(unfinished)) {
    if (!existsSync(await gitPath(repository, name))) continue;
    throw new SuperfleetError('SF_CONFLICT', `${what} is not finished here`, {
      expected: 'a repository in which git is in the middle of nothing',
      got: what,
      hint: `git status says how to finish or abort it; then apply again. Nothing was changed`,
    });
  }
}

function ancestors(path: string): string[] {
  const found: string[] = [];
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
    found.push(path.slice(0, at));
  return found;
}
