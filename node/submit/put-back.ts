import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { gitWith } from './git.ts';
import type { Repository } from './repository.ts';
import { lying } from './temporary.ts';

/**
 * After git stopped half-way from `head` to `tree`: puts back those of the paths that it had written, told by their
 * content, which is the tree's. All of them were clean, or not there, before. Nothing else is touched.
 */
export async function putBack(
  repository: Repository,
  head: string | null,
  tree: string,
  paths: readonly string[],
  env: Record<string, string | undefined>,
): Promise<void> {
  const written = await asInTree(repository, tree, paths);
  const before = head === null ? new Map<string, string>() : await objectsOf(repository, head, paths);
  for (const path of written) if (!before.has(path)) rmSync(join(repository.folder, path), { force: true });
  // The index is still the one of before: git writes it last.
  const wanted = paths.filter((path) => {
    if (!before.has(path)) return false;
    return written.has(path) || lying(join(repository.folder, path)) === null;
  });
  const stdin = wanted.map((path) => `${path}\0`).join('');
  await gitWith(
    { stdin, stdout: null },
    repository.folder,
    ['checkout-index', '--force', '--quiet', '-z', '--stdin'],
    env,
  ).catch(() => {}); // What is not as it was is told by who looks afterwards.
}

/** Those files whose content is the tree's. */
async function asInTree(
  repository: Repository,
  tree: string,
  paths: readonly string[],
): Promise<Set<string>> {
  const objects = await objectsOf(repository, tree, paths);
  const found = new Set<string>();
  for (const [path, object] of objects) {
    if (lying(join(repository.folder, path))?.isFile() !== true) continue;
    const hashed = await repository.git(['hash-object', '--', path]).catch(() => '');
    if (hashed.trim() === object) found.add(path);
  }
  return found;
}

/** The objects of these paths in a tree. */
async function objectsOf(
  { git }: Repository,
  tree: string,
  paths: readonly string[],
): Promise<Map<string, string>> {
  const wanted = new Set(paths);
  const found = new Map<string, string>();
  for (const line of (await git(['ls-tree', '-r', '-z', '--full-tree', tree])).split('\0')) {
    const tab = line.indexOf('\t');
    const path = line.slice(tab + 1);
    if (wanted.has(path)) found.set(path, line.slice(0, tab).split(' ')[2] ?? '');
  }
  return found;
}
