import { rm } from 'node:fs/promises';
import { Level } from 'level';
import { SuperfleetError } from '../../protocol/errors.ts';

/** What the store asks of a level: `Level` on disk and `MemoryLevel` both have it. */
export interface IndexDatabase {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
  /** All of it or, after a crash, none. */
  batch(changes: IndexChange[]): Promise<void>;
  iterator(range: { gte: string; lte: string; limit: number; reverse?: boolean }): {
    all(): Promise<[string, string][]>;
  };
  clear(range: { gte: string; lt: string }): Promise<void>;
  close(): Promise<void>;
}

export type IndexChange = { type: 'put'; key: string; value: string } | { type: 'del'; key: string };

/** Opens the level of a folder; one that cannot be opened is thrown away, since it can be rebuilt. */
export async function openIndexDatabase(folder: string): Promise<Level<string, string>> {
  const db = new Level<string, string>(folder);
  try {
    await db.open();
    return db;
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause;
    if (cause?.code === 'LEVEL_LOCKED') {
      throw new SuperfleetError('SF_LOCKED', `the index in ${folder} is open elsewhere`, { cause: error });
    }
    await rm(folder, { recursive: true, force: true });
    const fresh = new Level<string, string>(folder);
    await fresh.open();
    return fresh;
  }
}
