import type { CompressingStorage, SegmentFile, SegmentForm } from '../../ledger/storage/storage.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';

/** Calls that change something on the disk. */
export type Call =
  | 'create'
  | 'write'
  | 'sync'
  | 'syncDirectory'
  | 'truncate'
  | 'keepCut'
  | 'beginCompressed'
  | 'keepCompressed'
  | 'remove';

/**
 * What happens instead of one such call. An error is thrown, by a sync after the pages were given up where the disk is
 * in memory; a number is how many bytes a write takes; a promise that never resolves stops the process there.
 */
export type Instead = Error | number | Promise<never> | undefined;

/** Any storage with every call that changes something counted (from 1), noted, and open to faults. */
export class SteppedStorage implements CompressingStorage {
  readonly calls: Call[] = [];
  readonly #inner: CompressingStorage;
  readonly #instead: (step: number, call: Call) => Instead;

  constructor(inner: CompressingStorage, instead: (step: number, call: Call) => Instead = () => undefined) {
    this.#inner = inner;
    this.#instead = instead;
  }

  list = (): Promise<number[]> => this.#inner.list();
  describe = (first: number): string => this.#inner.describe(first);

  async create(first: number): Promise<SegmentFile> {
    await this.#step('create');
    return this.#file(await this.#inner.create(first));
  }

  async open(first: number, mode: 'read' | 'write'): Promise<SegmentFile> {
    return this.#file(await this.#inner.open(first, mode));
  }

  async syncDirectory(): Promise<void> {
    await this.#step('syncDirectory');
    await this.#inner.syncDirectory();
  }

  async keepCut(first: number, offset: number): Promise<string> {
    await this.#step('keepCut');
    return this.#inner.keepCut(first, offset);
  }

  forms = (first: number): Promise<SegmentForm[]> => this.#inner.forms(first);

  dropUnfinished = (): Promise<void> => this.#inner.dropUnfinished();

  async beginCompressed(first: number): Promise<SegmentFile> {
    await this.#step('beginCompressed');
    return this.#file(await this.#inner.beginCompressed(first));
  }

  async keepCompressed(first: number): Promise<void> {
    await this.#step('keepCompressed');
    await this.#inner.keepCompressed(first);
  }

  async remove(first: number, form: SegmentForm): Promise<void> {
    await this.#step('remove');
    await this.#inner.remove(first, form);
  }

  #file(file: SegmentFile): SegmentFile {
    return {
      size: () => file.size(),
      read: (into, position) => file.read(into, position),
      close: () => file.close(),
      write: async (bytes, position) => {
        const taken = await this.#step('write');
        return file.write(taken === null ? bytes : bytes.subarray(0, taken), position);
      },
      sync: async () => {
        try {
          await this.#step('sync');
        } catch (error) {
          if (this.#inner instanceof MemoryStorage) await failingSync(this.#inner, file, error);
          throw error;
        }
        await file.sync();
      },
      truncate: async (size) => {
        await this.#step('truncate');
        await file.truncate(size);
      },
    };
  }

  async #step(call: Call): Promise<number | null> {
    this.calls.push(call);
    const instead = await this.#instead(this.calls.length, call);
    if (instead instanceof Error) throw instead;
    return typeof instead === 'number' ? instead : null;
  }
}

async function failingSync(storage: MemoryStorage, file: SegmentFile, error: unknown): Promise<void> {
  storage.faults.sync = () => {
    throw error;
  };
  await file.sync().catch(() => undefined);
  delete storage.faults.sync;
}
