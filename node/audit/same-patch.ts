import { createHash } from 'node:crypto';
import type { Mirror } from './mirror.ts';

/** Commits looked at for the same change, the newest that touch the same files. */
const candidatesMax = 200;
const pathsMax = 50;
/** Commits told of; each has its files hashed again. */
const sameMax = 5;

/** A change on a history: what `commit` does to `base`, looked for up to `tip`. */
export interface Change {
  commit: string;
  base: string;
  tip: string;
}

/**
 * Some of the commits of the history of `tip` that make the same change, newest first: cherry-picked, rebased or squashed.
 * None is named whose files, before or after, are not what their ids say.
 */
export async function samePatchIn(mirror: Mirror, { commit, base, tip }: Change): Promise<string[]> {
  if ((await mirror.commit(base)) === null) return [];
  const names = ['diff-tree', '-r', '-z', '--no-renames', '--name-only', base, commit];
  const paths = (await mirror.bytes(names)).toString('utf8').split('\0').slice(0, pathsMax);
  const touched = paths.filter((path) => path !== '');
  if (touched.length === 0) return [];
  const wanted = await patchDigest(mirror, base, commit);
  const listed = await mirror.text([
    '--literal-pathspecs',
    'rev-list',
    '--no-merges',
    `--max-count=${candidatesMax}`,
    '--parents',
    tip,
    `^${base}`,
    '--',
    ...touched,
  ]);
  const same: string[] = [];
  for (const line of listed.split('\n')) {
    const [id = ''] = line.split(' ');
    if (id === '' || id === commit) continue;
    const parent = await mirror.commit(`${id}^`);
    if (parent === null || (await patchDigest(mirror, parent, id)) !== wanted) continue;
    if (same.length === 0 && !(await areGenuine(mirror, base))) return [];
    if (await areGenuine(mirror, parent, id)) same.push(id);
    if (same.length >= sameMax) break;
  }
  return same;
}

/** Whether `asked` does to its one parent what `commit` does to `base`. */
export async function sameSoleChange(
  mirror: Mirror,
  { commit, base, asked }: { commit: string; base: string; asked: string },
): Promise<boolean> {
  const [parent, second] = [await mirror.commit(`${asked}^`), await mirror.commit(`${asked}^2`)];
  if (parent === null || second !== null || (await mirror.commit(base)) === null) return false;
  const same = (await patchDigest(mirror, base, commit)) === (await patchDigest(mirror, parent, asked));
  return same && (await areGenuine(mirror, base, parent, asked));
}

async function areGenuine(mirror: Mirror, ...commits: string[]): Promise<boolean> {
  for (const commit of commits) if (!(await mirror.isGenuine(commit, []).catch(() => false))) return false;
  return true;
}

/**
 * A patch by its text without line numbers and ids, white space kept: `git patch-id` would call two changes one that
 * differ in indentation alone.
 */
async function patchDigest(mirror: Mirror, from: string, to: string): Promise<string> {
  const how = [
    '-p',
    '--binary',
    '--full-index',
    '--no-renames',
    '--no-ext-diff',
    '--no-textconv',
    '--no-color',
  ];
  const patch = (await mirror.bytes(['diff-tree', ...how, from, to])).toString('latin1');
  const hash = createHash('sha256');
  for (const line of patch.split('\n')) {
    if (/^index [0-9a-f]+\.\./.test(line)) continue;
    hash.update(line.startsWith('@@ ') ? '@@\n' : `${line}\n`, 'latin1');
  }
  return hash.digest('hex');
}
