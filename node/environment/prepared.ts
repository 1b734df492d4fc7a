import { randomUUID } from 'node:crypto';
import { lstat, mkdir, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { count } from '../../protocol/ids.ts';
import { removeTree } from '../git/remove-tree.ts';
import { SANDBOX_HOME } from '../sandbox/profile.ts';
import type { Mount } from '../sandbox/types.ts';
import { copyTree, makeParents } from './tree.ts';

/** `made.json` of an environment: what is kept, each part under the name of its place in the list. */
export const preparedFile = z.strictObject({
  format: z.literal(1),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  parts: z
    .array(z.strictObject({ in: z.enum(['workspace', 'home']), path: z.string().min(1).max(1024) }))
    .max(1024),
  bytes: count,
});
export type PreparedFile = z.infer<typeof preparedFile>;

/** Folders of programs: of npm and pnpm, and of a virtual environment of Python. */
const PROGRAMS = ['.bin', 'bin'];

async function programsIn(folder: string): Promise<string | null> {
  for (const name of PROGRAMS)
    if ((await lstat(join(folder, name)).catch(() => null))?.isDirectory()) return name;
  return null;
}

const inTheWay = (path: string): SuperfleetError =>
  new SuperfleetError(
    'SF_FOLDER',
    `the repository has ${JSON.stringify(path)} itself, where what was prepared belongs`,
    {
      expected: 'nothing there, or a folder in the root of the repository',
      hint: `leave ${path} out of the cache of .superfleet.yaml, or out of the repository`,
    },
  );

/** A prepared environment in use: it stays on the disk until it is released. */
export class Prepared {
  readonly digest: string;
  /** Where its parts lie. */
  readonly folder: string;
  readonly file: PreparedFile;
  #release: (() => void) | null;

  constructor(folder: string, file: PreparedFile, release: () => void) {
    this.digest = file.digest;
    this.folder = folder;
    this.file = file;
    this.#release = release;
  }

  /** What a sandbox is given, read-only; `place` leaves out what lies elsewhere. */
  mounts(place: 'workspace' | 'home' | 'both' = 'both'): Mount[] {
    return this.file.parts.flatMap((part, at) =>
      place === 'both' || place === part.in
        ? [
            {
              from: join(this.folder, String(at)),
              to: `${part.in === 'home' ? SANDBOX_HOME : '/workspace'}/${part.path}`,
              writable: false,
            },
          ]
        : [],
    );
  }

  /**
   * Copies the parts of the workspace to where they belong in a checkout, in which no process writes; what is there makes room.
   * The copy is the task's own. Throws `SF_FOLDER` or `SF_DISK_FULL`; then some parts may be there.
   */
  async copyInto(checkout: string, signal: AbortSignal): Promise<void> {
    for (const [at, part] of this.file.parts.entries()) {
      if (part.in !== 'workspace') continue;
      await makeParents(checkout, part.path);
      const to = join(checkout, part.path);
      // Whole at once: a copy cut short must not look like one.
      const temporary = join(dirname(to), `.${basename(to).slice(0, 64)}-${randomUUID()}`);
      try {
        await copyTree(join(this.folder, String(at)), temporary, signal);
        if ((await lstat(to).catch(() => null)) !== null) await removeTree(to);
        await rename(temporary, to);
      } catch (error) {
        await removeTree(temporary);
        throw error;
      }
    }
  }

  /** Paths in the repository that it fills. */
  get paths(): string[] {
    return this.file.parts.flatMap((part) => (part.in === 'workspace' ? [part.path] : []));
  }

  /**
   * Makes a checkout, in which no process writes, ready for its steps, and gives what their sandboxes are to be given. A folder in the
   * root is mounted read-only, and its programs go on PATH. What lies deeper and files are copied: a task could put a link where a
   * folder above a mount was, and the mount would follow it. Throws `SF_FOLDER` where the repository has something else there.
   */
  async placeIn(checkout: string, signal: AbortSignal): Promise<Mount[]> {
    const mounts = this.mounts('home');
    for (const [at, part] of this.file.parts.entries()) {
      if (part.in !== 'workspace') continue;
      const from = join(this.folder, String(at));
      const to = join(checkout, part.path);
      await makeParents(checkout, part.path);
      const there = await lstat(to).catch(() => null);
      const mounted = !part.path.includes('/') && (await lstat(from)).isDirectory();
      if (there !== null && !(mounted && there.isDirectory())) throw inTheWay(part.path);
      if (mounted) {
        if (there === null) await mkdir(to);
        const programs = await programsIn(from);
        const mount = { from, to: `/workspace/${part.path}`, writable: false };
        mounts.push(programs === null ? mount : { ...mount, programs });
      } else await copyTree(from, to, signal);
    }
    return mounts;
  }

  /** May be called more than once. */
  release(): void {
    this.#release?.();
    this.#release = null;
  }
}
