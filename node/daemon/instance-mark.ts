import { statSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { count, meshId, sha256Hex } from '../../protocol/ids.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import { systemMark } from './instance.ts';

/** Where the mark of a data folder lies: beside it, so that neither a copy of the folder nor a backup has it. */
export const markFolder = (dir: string): string => `${dir}.instance`;

/** So long after the log has grown the mark says so. */
const KEEP_UP_MS = 3_000;

const mark = z.strictObject({
  format: z.literal(1),
  mesh: meshId,
  /** Device and inode of the data folder, and when it was made (ns; 0 where the file system does not say). */
  place: z.string().max(64),
  /** Entries when it was written; there are no fewer now. */
  size: count,
  /** Set by an orderly stop: the root then, and the system that ran. */
  clean: z.strictObject({ root: sha256Hex, system: z.string().max(256) }).nullable(),
});

export type Mark = z.infer<typeof mark>;

/**
 * What the mark says of the folder: `sure`, the last founder here stopped in order with exactly this log, and the machine
 * ran on; `unsure`, it is the same folder, and who ran there was cut off; `strange`, it may be a copy or an older state.
 */
export type Marked = { kind: 'sure' } | { kind: 'unsure' } | { kind: 'strange'; why: string };

/** Where a log stands: mesh, size and root. */
export interface Standing {
  mesh: string;
  size: number;
  root: string;
}

/** What a mark (null: there is none) says of a log that stands there, in a folder at this place of this system. */
export function markedBy(
  found: Mark | null,
  { mesh, size, root }: Standing,
  place: string,
  system: string,
): Marked {
  if (found === null) return { kind: 'strange', why: 'no founder ran in this folder on this machine before' };
  if (found.mesh !== mesh) return { kind: 'strange', why: 'another mesh ran in this folder before' };
  if (found.place !== place) {
    return { kind: 'strange', why: 'this is another folder than the one that ran here before' };
  }
  if (found.size > size) {
    return { kind: 'strange', why: `its log held ${found.size} entries and holds ${size} now` };
  }
  const { clean } = found;
  const sure = clean !== null && found.size === size && clean.root === root && clean.system === system;
  return { kind: sure ? 'sure' : 'unsure' };
}

/**
 * The instance mark of a founder's data folder: kept outside it, so that a restored or copied folder is told from the one
 * that ran here (design §3). Losing it loses nothing: the founder then asks its members before it goes on.
 */
export class InstanceMark {
  readonly #dir: string;
  readonly #path: string;

  constructor(dir: string) {
    this.#dir = dir;
    this.#path = join(markFolder(dir), 'mark.json');
  }

  async read(standing: Standing): Promise<Marked> {
    return markedBy(await readMark(this.#path), standing, placeOf(this.#dir), systemMark());
  }

  /** A founder runs here from now on. */
  running(at: Standing): Promise<void> {
    return this.#write(at, null);
  }

  /**
   * Writes how far the log has come a few seconds after it has grown, so that an older state of the folder is told from this
   * one. Answers with what ends that.
   */
  keepUp(onGrowth: (listener: () => void) => () => void, at: () => Standing): () => void {
    let due: NodeJS.Timeout | null = null;
    const unsubscribe = onGrowth(() => {
      due ??= setTimeout(() => {
        due = null;
        // What cannot be written now is written after the next growth, or by the stop.
        this.running(at()).catch(() => {});
      }, KEEP_UP_MS);
    });
    return () => {
      unsubscribe();
      if (due !== null) clearTimeout(due);
    };
  }

  /** It has stopped in order. */
  stopped(at: Standing): Promise<void> {
    return this.#write(at, { root: at.root, system: systemMark() });
  }

  async #write({ mesh, size }: Standing, clean: Mark['clean']): Promise<void> {
    await mkdir(markFolder(this.#dir), { recursive: true, mode: 0o700 });
    const text = JSON.stringify({ format: 1, mesh, place: placeOf(this.#dir), size, clean });
    await writeFileAtomic(this.#path, `${text}\n`);
  }
}

/** A folder that is made where another was removed may have its number: when it was made tells them apart. */
function placeOf(dir: string): string {
  const { dev, ino, birthtimeNs } = statSync(dir, { bigint: true });
  return `${dev}:${ino}:${birthtimeNs}`;
}

async function readMark(path: string): Promise<Mark | null> {
  try {
    return mark.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}
