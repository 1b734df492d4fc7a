import { constants, createWriteStream } from 'node:fs';
import { lstat, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ClassicLevel } from 'classic-level';
import { SuperfleetError } from '../../protocol/errors.ts';
import { codeOf, diskFault } from './files.ts';
import { openSmallDatabase } from './small-database.ts';

/** A copy is taken so often until the database stood still meanwhile; each after the first copies only what is new. */
const triesMax = 100;
/** What a LevelDB is made of; the rest is its diary and its lock. */
const FILE = /^(CURRENT|MANIFEST-\d+|\d+\.(log|ldb|sst))$/;

/** The small blobs of a store as they were at one moment, which other processes go on writing. */
export interface SmallCopy {
  readonly blobs: ReadonlySet<string>;
  /** Not checked by its digest. */
  read(blob: string): Promise<Uint8Array>;
  /** Removes the copy. */
  close(): Promise<void>;
}

/**
 * Copies the database in `small` into the new folder `into`, also while its process runs: every blob that was
 * acknowledged before is in it. Null: there is none. What is damaged is repaired in the copy.
 */
export async function copySmall(small: string, into: string): Promise<SmallCopy | null> {
  const found = await lstat(small).catch(() => null);
  if (found === null || !found.isDirectory()) return null;
  await mkdir(into, { mode: 0o700 });
  try {
    for (let tries = 1; !(await copied(small, into)); tries += 1) {
      if (tries < triesMax) continue;
      throw new SuperfleetError('SF_CONFLICT', `the small blobs in ${small} do not stand still`, {
        expected: 'no table written for as long as the last one takes to copy',
        hint: 'try again when fewer tasks run',
      });
    }
    return await opened(into);
  } catch (error) {
    await rm(into, { recursive: true, force: true });
    throw error;
  }
}

/**
 * One try. LevelDB only adds to its log and manifest, and never changes a table: where the manifest is as long after as
 * before, the tables and logs that it names were all copied.
 */
async function copied(small: string, into: string): Promise<boolean> {
  const before = await state(small);
  const files = (await names(small)) ?? [];
  for (const name of (await names(into)) ?? []) if (!files.includes(name)) await rm(join(into, name));
  for (const name of files) {
    const table = /\.(ldb|sst)$/.test(name);
    if (table && (await sizeOf(join(into, name))) === (await sizeOf(join(small, name)))) continue;
    if (!(await copyFile(join(small, name), join(into, name)))) return false;
  }
  return before === (await state(small));
}

/** What changes whenever a table or a log comes or goes. */
async function state(small: string): Promise<string> {
  const current = await readFile(join(small, 'CURRENT'), 'utf8').catch(() => '');
  const logs = ((await names(small)) ?? []).filter((name) => name.endsWith('.log'));
  const manifest = /^MANIFEST-\d+\n$/.test(current) ? await sizeOf(join(small, current.trim())) : null;
  return JSON.stringify([current, manifest, logs.sort()]);
}

async function opened(folder: string): Promise<SmallCopy> {
  let blobs: Set<string>;
  let db = await openSmallDatabase(folder).catch(() => null);
  try {
    blobs = new Set(await db!.keys().all());
  } catch {
    await db?.close();
    await ClassicLevel.repair(folder);
    db = await openSmallDatabase(folder);
    blobs = new Set(await db.keys().all());
  }
  const whole = db!;
  return {
    blobs,
    read: async (blob) => (await whole.get(blob))!,
    close: async () => {
      await whole.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** False: it is gone. A link that was planted there could let others' files out. */
async function copyFile(from: string, to: string): Promise<boolean> {
  const file = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      if (codeOf(error) === 'ENOENT') return null;
      throw error;
    },
  );
  if (file === null) return false;
  if (!(await file.stat()).isFile()) {
    await file.close();
    throw new SuperfleetError('SF_FOLDER', `${from} is no file`, {
      expected: 'a file',
      got: 'something else',
    });
  }
  try {
    await pipeline(file.createReadStream(), createWriteStream(to, { mode: 0o600 }));
    return true;
  } catch (error) {
    throw diskFault(error);
  }
}

const names = async (folder: string): Promise<string[] | null> =>
  (await readdir(folder).catch(() => null))?.filter((name) => FILE.test(name)) ?? null;

const sizeOf = async (path: string): Promise<number | null> =>
  (await stat(path).catch(() => null))?.size ?? null;
