import { existsSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { z } from 'zod';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobId } from '../../protocol/ids.ts';
import { diskFault, syncFolder } from './files.ts';
import { chargeOf } from './quota.ts';

/** What the store asks of a level; keys are blob ids but for the counter's. */
export type SmallDatabase = Pick<
  ClassicLevel<string, Uint8Array>,
  'get' | 'getMany' | 'has' | 'hasMany' | 'keys' | 'iterator' | 'batch' | 'close'
>;

/** What was left of a damaged database. */
export interface SmallRepair {
  kept: number;
  /** Null: how many it held is not known. */
  lost: number | null;
}

/** How many blobs there are, and what they count. */
export interface Held {
  blobs: number;
  bytes: number;
}

export interface OpenedDatabase {
  db: SmallDatabase;
  held: Held;
  /** Null: it was whole. */
  repair: SmallRepair | null;
}

/** Behind every blob id: how many blobs there are and what they count, written with every change. */
export const COUNTER = 'held';
/** Beside the database: it is to be repaired when it is next opened. */
export const MARK = '.damaged';
/** Beside the database: what it held when it was closed in order. Away while it is open. */
export const CLOSED = '.closed';
/** Of memory, twice at most; what is not yet in a table is read again at the next start. */
const writeBufferSize = 8 * 1024 * 1024;
/** Of tables that a repair writes anew at most, where few are damaged. */
const repairedTablesBytes = 16 * 1024 * 1024;
/** For its manifest, its words and new files of a page or two. */
const slackBytes = 64 * 1024;
const OPTIONS = { valueEncoding: 'view', compression: false, writeBufferSize } as const;

/** Opens or makes the database; repairs one that is damaged, and puts one aside that cannot be. `SF_LOCKED` where it is open elsewhere. */
export async function openOrRepair(
  folder: string,
  open: (folder: string) => Promise<SmallDatabase>,
): Promise<OpenedDatabase> {
  const mark = folder + MARK;
  if (!existsSync(mark) && (await isWhole(folder))) {
    const db = await open(folder).catch((error: unknown) => {
      if (!isDamage(error)) throw openFailure(error, folder);
      return null;
    });
    const held = db === null ? null : await counted(db);
    if (db !== null && held !== null) return { db, held, repair: await lostSince(folder, held) };
    await db?.close();
  }
  await rm(folder + CLOSED, { force: true });
  await writeFile(mark, '').catch((error: unknown) => {
    throw diskFault(error);
  });
  requireRoom(folder);
  await ClassicLevel.repair(folder).catch(() => {});
  let aside = false;
  const db = await open(folder).catch(async (error: unknown) => {
    if (!isDamage(error)) throw openFailure(error, folder);
    aside = true;
    await rename(folder, `${folder}.damaged-${Date.now()}`);
    return open(folder).catch((cause: unknown) => {
      throw openFailure(cause, folder);
    });
  });
  const before = aside ? null : await counted(db);
  const held = await recount(db);
  await db
    .batch([{ type: 'put', key: COUNTER, value: encode(held) }], { sync: true })
    .catch(async (error) => {
      await db.close();
      throw openFailure(error, folder);
    });
  await rm(mark, { force: true });
  const lost = before === null ? null : Math.max(0, before.blobs - held.blobs);
  return { db, held, repair: { kept: held.blobs, lost } };
}

/**
 * Notes what a database holds that was closed just now. LevelDB takes a log whose end is missing for one that was not written
 * further, its counter with it; only from outside can be seen that something is gone.
 */
export async function noteClosed(folder: string, held: Held): Promise<void> {
  // Where there is no room for it, nothing is known at the next start.
  await writeFile(folder + CLOSED, JSON.stringify(held)).catch(() => {});
}

const closedHeld = z.object({ blobs: z.number(), bytes: z.number() });

/** What is gone since it was closed; null: nothing, or it was not closed in order. */
async function lostSince(folder: string, held: Held): Promise<SmallRepair | null> {
  const text = await readFile(folder + CLOSED, 'utf8').catch(() => null);
  if (text === null) return null;
  await rm(folder + CLOSED, { force: true });
  // One that came back after a crash would tell of losses that there were not.
  await syncFolder(join(folder, '..'));
  const closed = closedHeld.safeParse(jsonOf(text)).data;
  if (closed === undefined || (closed.blobs === held.blobs && closed.bytes === held.bytes)) return null;
  const lost = closed.blobs - held.blobs;
  return { kept: held.blobs, lost: lost > 0 ? lost : null };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A repair without room would put aside what it cannot write anew. */
function requireRoom(folder: string): void {
  const { logs, tables } = sizesOf(folder);
  const needed = logs + Math.min(tables, repairedTablesBytes) + slackBytes;
  const { bavail, bsize } = statfsSync(join(folder, '..'));
  if (bavail * bsize < needed) throw diskFull(needed, `${bavail * bsize} bytes`);
}

/** Bytes of what LevelDB has not yet sorted, and of what it has. It writes the former anew whenever it opens. */
function sizesOf(folder: string): { logs: number; tables: number } {
  const sizes = { logs: 0, tables: 0 };
  if (!existsSync(folder)) return sizes;
  for (const name of readdirSync(folder)) {
    const of = name.endsWith('.log') ? 'logs' : name.endsWith('.ldb') ? 'tables' : null;
    if (of !== null) sizes[of] += statSync(join(folder, name)).size;
  }
  return sizes;
}

const diskFull = (needed: number, got: string | null, cause?: unknown): SuperfleetError =>
  new SuperfleetError('SF_DISK_FULL', 'the disk is full', {
    expected: `room to open the store of blobs, about ${needed} bytes`,
    got,
    hint: 'free some space on the disk that holds the data folder, then start again; nothing was lost',
    cause,
  });

/** A new database is made where there is none, its name synced. */
export async function openSmallDatabase(folder: string): Promise<ClassicLevel<string, Uint8Array>> {
  const made = !existsSync(folder);
  const db = new ClassicLevel<string, Uint8Array>(folder, OPTIONS);
  await db.open();
  if (made) await syncFolder(join(folder, '..'));
  return db;
}

/** LevelDB takes a folder without its first file for a new one, and removes the tables in it. */
async function isWhole(folder: string): Promise<boolean> {
  if (!existsSync(folder) || existsSync(join(folder, 'CURRENT'))) return true;
  return !(await readdir(folder)).some((name) => /^MANIFEST-|\.(ldb|log)$/.test(name));
}

/** Null where the counter is missing though there are blobs, or is none. */
async function counted(db: SmallDatabase): Promise<Held | null> {
  try {
    const value = await db.get(COUNTER);
    if (value === undefined) {
      for await (const _ of db.keys({ limit: 1 })) return null;
      return { blobs: 0, bytes: 0 };
    }
    if (value.length !== 16) return null;
    const numbers = new DataView(value.buffer, value.byteOffset, value.byteLength);
    return { blobs: Number(numbers.getBigUint64(0)), bytes: Number(numbers.getBigUint64(8)) };
  } catch {
    return null;
  }
}

export function encode({ blobs, bytes }: Held): Uint8Array {
  const value = Buffer.alloc(16);
  value.writeBigUInt64BE(BigInt(Math.max(0, blobs)), 0);
  value.writeBigUInt64BE(BigInt(Math.max(0, bytes)), 8);
  return value;
}

async function recount(db: SmallDatabase): Promise<Held> {
  const held = { blobs: 0, bytes: 0 };
  try {
    for await (const [key, value] of db.iterator()) {
      if (!blobId.safeParse(key).success) continue;
      held.blobs += 1;
      held.bytes += chargeOf(value.length);
    }
  } catch {
    // What cannot be read even now counts nothing.
  }
  return held;
}

/** LevelDB's own code, which `open` gives as the cause of another. */
export function levelCode(error: unknown): string {
  const { code, cause } = error as { code?: string; cause?: { code?: string } };
  return cause?.code ?? code ?? '';
}

/** Not a full disk, a lock or a right that is missing, which a repair makes no better. */
const isDamage = (error: unknown): boolean =>
  levelCode(error) === 'LEVEL_CORRUPTION' || /No such file|Invalid argument/.test(causeOf(error));

const causeOf = (error: unknown): string =>
  (error as { cause?: Error }).cause?.message ?? (error as Error).message;

function openFailure(error: unknown, folder: string): SuperfleetError {
  if (levelCode(error) === 'LEVEL_LOCKED') {
    return new SuperfleetError('SF_LOCKED', `the small blobs in ${folder} are open elsewhere`, {
      cause: error,
    });
  }
  if (/No space left|quota exceeded/i.test(causeOf(error))) {
    return diskFull(sizesOf(folder).logs + slackBytes, null, error);
  }
  return new SuperfleetError('SF_FOLDER', `the small blobs in ${folder} cannot be opened`, {
    expected: 'a LevelDB of this user',
    got: causeOf(error),
    cause: error,
  });
}
