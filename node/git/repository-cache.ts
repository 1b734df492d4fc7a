import {
  copyFile,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { count } from '../../protocol/ids.ts';
import { OwnTurns, type Turns } from '../turns.ts';
import { removeTree } from './remove-tree.ts';

const GiB = 1024 ** 3;
/** Bundles kept over all repositories, unless told otherwise. */
export const cacheEntriesMax = 4096;
/** Bytes kept over all repositories, unless told otherwise. */
export const cacheBytesMax = 16 * GiB;

/** What a cache keeps at most; see `cacheEntriesMax` and `cacheBytesMax`. */
export interface CacheBounds {
  entriesMax?: number;
  bytesMax?: number;
}

/** Files and bytes of the tree at a commit. */
export interface TreeSize {
  commit: string;
  files: number;
  bytes: number;
}
const treeSize = z.object({ commit: z.string(), files: count, bytes: count });
const SIZE_FILE = 'size.json';
const PACK_FILE = /^pack-[0-9a-f]{40,64}\.(pack|idx|rev)$/;

/**
 * What a member keeps of the repositories it worked on: `<repository>.git/<bundle>/pack-….{pack,idx}`, one folder
 * per bundle, named by the bundle's blob. Git in its sandbox makes the packs; this program only moves and links them.
 * An attempt gets hard links to just the packs of its own chain, so that it sees nothing of other chains, and the
 * cache can be deleted at any time, under running attempts too.
 */
export class RepositoryCache {
  readonly #folder: string;
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  readonly #turns: Turns;
  #trash = 0;

  /** `turns`: of all that use the folder. @default those of this process */
  constructor(folder: string, bounds: CacheBounds = {}, turns: Turns = new OwnTurns()) {
    this.#folder = folder;
    this.#turns = turns;
    this.#entriesMax = bounds.entriesMax ?? cacheEntriesMax;
    this.#bytesMax = bounds.bytesMax ?? cacheBytesMax;
  }

  /** Removes what a crash left half deleted, and what is past the bounds, which may have been larger. */
  async sweep(): Promise<void> {
    const names = await readdir(this.#folder).catch(() => []);
    for (const name of names) if (name.startsWith('.')) await removeTree(join(this.#folder, name));
    await this.#collect(null);
  }

  #entry(repository: string, bundle: string): string {
    return join(this.#folder, `${repository}.git`, bundle);
  }

  /** Hard-links the packs of a bundle into `folder` and marks them as used now; false: the cache has no such bundle. */
  async linkInto(repository: string, bundle: string, folder: string): Promise<boolean> {
    const entry = this.#entry(repository, bundle);
    const files = (await namesIn(entry)).filter((name) => PACK_FILE.test(name));
    if (!files.some((name) => name.endsWith('.pack')) || !files.some((name) => name.endsWith('.idx')))
      return false;
    try {
      await Promise.all(files.map((name) => linkOrCopy(join(entry, name), join(folder, name))));
      const now = new Date();
      await utimes(entry, now, now);
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    }
  }

  /** Moves a folder of packs, just made by git, into the cache; an older entry of that bundle makes room for it. */
  async add(repository: string, bundle: string, packs: string): Promise<void> {
    const entry = this.#entry(repository, bundle);
    await mkdir(join(this.#folder, `${repository}.git`), { recursive: true });
    await this.#discard(entry);
    await rename(packs, entry);
    await this.#collect(entry);
  }

  /** The size of the tree at `commit` as it was measured when the bundle came; null: not known. */
  async size(repository: string, bundle: string, commit: string): Promise<TreeSize | null> {
    try {
      const text = await readFile(join(this.#entry(repository, bundle), SIZE_FILE), 'utf8');
      const parsed = treeSize.safeParse(JSON.parse(text));
      return parsed.success && parsed.data.commit === commit ? parsed.data : null;
    } catch {
      return null;
    }
  }

  /** Remembers it. Lost with the entry, and worth no error where the disk has no room. */
  async setSize(repository: string, bundle: string, size: TreeSize): Promise<void> {
    await writeFile(join(this.#entry(repository, bundle), SIZE_FILE), JSON.stringify(size)).catch(() => {});
  }

  /** Fetches into one repository take turns, so that a bundle is fetched and unpacked once; `work` has the turn. */
  inTurn<T>(repository: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.inTurn(repository, work);
  }

  /** Least recently used bundles go until both bounds hold again; `kept` stays. */
  async #collect(kept: string | null): Promise<void> {
    const entries: { path: string; used: number; bytes: number }[] = [];
    for (const repository of await namesIn(this.#folder)) {
      for (const bundle of await namesIn(join(this.#folder, repository))) {
        const path = join(this.#folder, repository, bundle);
        const sizes = (await namesIn(path)).map((name) => lstat(join(path, name)).catch(() => null));
        const bytes = (await Promise.all(sizes)).reduce((sum, facts) => sum + (facts?.size ?? 0), 0);
        const used = (await stat(path).catch(() => null))?.mtimeMs ?? 0;
        entries.push({ path, used, bytes });
      }
    }
    entries.sort((a, b) => a.used - b.used);
    let bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    let held = entries.length;
    for (const entry of entries) {
      if (held <= this.#entriesMax && bytes <= this.#bytesMax) return;
      if (entry.path === kept) continue;
      await this.#discard(entry.path);
      held -= 1;
      bytes -= entry.bytes;
    }
  }

  async #discard(path: string): Promise<void> {
    this.#trash += 1;
    const grave = join(this.#folder, `.trash-${process.pid}-${this.#trash}`);
    try {
      await rename(path, grave);
    } catch (error) {
      if (isGone(error)) return;
      throw error;
    }
    await removeTree(grave);
  }
}

/** A second name for a file; a copy where the file system has none to give. Links are not followed. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  if (!(await lstat(from)).isFile()) throw new Error(`not a file: ${from}`);
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    if (isGone(error)) throw error;
    // Another file system, or one without hard links.
    await copyFile(from, to);
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => !name.startsWith('.'));
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
