import { type LogStorage, readOnly, readOnlyFile, type SegmentFile } from './storage.ts';
import { FileStorage } from './storage-file.ts';

/** Segments that are held open at one time: a log of 256 GiB. */
const segmentsMax = 4096;

/**
 * The segments of a folder, opened at once and only read: whoever gives up the right to open them can read them still. What
 * is begun later is not seen.
 */
export class HeldStorage implements LogStorage {
  readonly #files: FileStorage;
  readonly #held = new Map<number, { file: SegmentFile; path: string }>();

  private constructor(files: FileStorage) {
    this.#files = files;
  }

  static async open(folder: string): Promise<HeldStorage> {
    const files = new FileStorage(folder);
    const held = new HeldStorage(files);
    const segments = await files.list();
    if (segments.length > segmentsMax) throw new Error(`more than ${segmentsMax} segments in ${folder}`);
    try {
      for (const first of segments) held.#held.set(first, await files.openForm(first));
    } catch (error) {
      await held.close();
      throw error;
    }
    return held;
  }

  async close(): Promise<void> {
    for (const { file } of this.#held.values()) await file.close();
  }

  async list(): Promise<number[]> {
    return [...this.#held.keys()];
  }

  async open(first: number): Promise<SegmentFile> {
    const held = this.#held.get(first);
    if (held === undefined) throw Object.assign(new Error(`no segment ${first}`), { code: 'ENOENT' });
    const { file } = held;
    return readOnlyFile({
      size: () => file.size(),
      read: (into, position) => file.read(into, position),
      close: async () => {},
    });
  }

  create = readOnly;
  syncDirectory = readOnly;
  keepCut = readOnly;

  describe(first: number): string {
    return this.#held.get(first)?.path ?? this.#files.describe(first);
  }
}
