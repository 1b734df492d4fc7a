import { type FileHandle, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type IncomingSnapshot,
  type OpenSnapshot,
  type ReceivingStore,
  snapshotName,
  snapshotSize,
} from './snapshot-store.ts';

/** What is being written. One process writes one at a time, so that a crash leaves at most one, and the next writes over it. */
const PART = 'part';

/** Snapshots as files of one folder, mode 0600. */
export class FileSnapshotStore implements ReceivingStore {
  readonly #folder: string;

  /** The folder is made (0700) when the first snapshot is. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async list(): Promise<number[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names
      .map(snapshotSize)
      .filter((size) => size !== null)
      .sort((a, b) => a - b);
  }

  read(size: number): Promise<Buffer> {
    return readFile(this.describe(size));
  }

  async open(size: number): Promise<OpenSnapshot> {
    const file = await open(this.describe(size), 'r');
    return {
      bytes: (await file.stat()).size,
      read: async (into, position) => (await file.read(into, 0, into.length, position)).bytesRead,
      close: () => file.close(),
    };
  }

  async receive(): Promise<IncomingSnapshot> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const part = join(this.#folder, PART);
    const file = await open(part, 'w+', 0o600);
    return {
      append: (bytes) => file.writeFile(bytes),
      read: () => readFile(part),
      keep: async (size) => {
        await withFile(file, () => file.sync());
        await rename(part, this.describe(size));
        await withFile(await open(this.#folder, 'r'), (folder) => folder.sync());
      },
      drop: async () => {
        await file.close();
        await rm(part, { force: true });
      },
    };
  }

  async write(size: number, pieces: Iterable<string>): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const part = join(this.#folder, PART);
    try {
      await withFile(await open(part, 'w', 0o600), async (file) => {
        for (const piece of pieces) await file.writeFile(piece);
        await file.sync();
      });
      await rename(part, this.describe(size));
      await withFile(await open(this.#folder, 'r'), (folder) => folder.sync());
    } catch (error) {
      await rm(part, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  async remove(size: number): Promise<void> {
    await rm(this.describe(size), { force: true });
  }

  describe(size: number): string {
    return join(this.#folder, snapshotName(size));
  }
}

async function withFile(file: FileHandle, use: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await use(file);
  } finally {
    await file.close();
  }
}
