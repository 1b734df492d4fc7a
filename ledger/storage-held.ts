import { type FileHandle, open } from 'node:fs/promises';
import type { LogStorage, SegmentFile } from './storage.ts';
import { FileStorage } from './storage-file.ts';

/** Segments that are held open at one time: a log of 256 GiB. */
const segmentsMax = 4096;

/**
 * The segments of a folder, opened at once and only read: whoever gives up the right to open them can read them still. What
 * is begun later is not seen.
 */
export class HeldStorage implements LogStorage {
  readonly #files: FileStorage;
  readonly #held = new Map<number, FileHandle>();

  private constructor(files: FileStorage) {
    this.#files = files;
  }

  static async open(folder: string): Promise<HeldStorage> {
    const files = new FileStorage(folder);
    const held = new HeldStorage(files);
    const segments = await files.list();
    if (segments.length > segmentsMax) throw new Error(`more than ${segmentsMax} segments in ${folder}`);
    try {
      for (const first of segments) held.#held.set(first, await open(files.describe(first), 'r'));
    } catch (error) {
      await held.close();
      throw error;
    }
    return held;
  }

  async close(): Promise<void> {
    for (const handle of this.#held.values()) await handle.close();
  }

  async list(): Promise<number[]> {
    return [...this.#held.keys()];
  }

  async open(first: number): Promise<SegmentFile> {
    const handle = this.#held.get(first);
    if (handle === undefined) throw Object.assign(new Error(`no segment ${first}`), { code: 'ENOENT' });
    const write = readOnly;
    return {
      size: async () => (await handle.stat()).size,
      read: async (into, position) => (await handle.read(into, 0, into.length, position)).bytesRead,
      close: async () => {},
      write,
      sync: write,
      truncate: write,
    };
  }

  create = readOnly;
  syncDirectory = readOnly;
  keepCut = readOnly;

  describe(first: number): string {
    return this.#files.describe(first);
  }
}

const readOnly = (): Promise<never> =>
  Promise.reject(Object.assign(new Error('these segments are only read'), { code: 'EROFS' }));
