import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  cutCopiesMax,
  cutName,
  type LogStorage,
  type SegmentFile,
  segmentFirst,
  segmentName,
} from './storage.ts';

const COPY_BYTES = 1024 * 1024;

/** Segments as files of one folder, mode 0600. All calls run in the thread pool, never on the event loop. */
export class FileStorage implements LogStorage {
  readonly #folder: string;

  /** The folder is made (0700) when the first segment is. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async list(): Promise<number[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names
      .map(segmentFirst)
      .filter((first) => first !== null)
      .sort((a, b) => a - b);
  }

  async create(first: number): Promise<SegmentFile> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    return new OpenFile(await open(this.describe(first), 'wx+', 0o600));
  }

  async open(first: number, mode: 'read' | 'write'): Promise<SegmentFile> {
    return new OpenFile(await open(this.describe(first), mode === 'read' ? 'r' : 'r+'));
  }

  async syncDirectory(): Promise<void> {
    const folder = await open(this.#folder, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async keepCut(first: number, offset: number): Promise<string> {
    const source = await open(this.describe(first), 'r');
    try {
      const { path, file } = await this.#newCut(first, offset);
      try {
        const chunk = Buffer.allocUnsafe(COPY_BYTES);
        for (let at = offset; ; ) {
          const { bytesRead } = await source.read(chunk, 0, chunk.length, at);
          if (bytesRead === 0) break;
          await writeAll(file, chunk.subarray(0, bytesRead), at - offset);
          at += bytesRead;
        }
        await file.sync();
      } catch (error) {
        // A copy of some of it would stay at every start until there is room, and there is a bound on their number.
        await rm(path, { force: true });
        throw error;
      } finally {
        await file.close();
      }
      await this.syncDirectory();
      return path;
    } finally {
      await source.close();
    }
  }

  describe(first: number): string {
    return join(this.#folder, segmentName(first));
  }

  async #newCut(first: number, offset: number): Promise<{ path: string; file: FileHandle }> {
    for (let copy = 0; copy < cutCopiesMax; copy += 1) {
      const path = join(this.#folder, cutName(first, offset, copy));
      try {
        return { path, file: await open(path, 'wx', 0o600) };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
    throw Object.assign(new Error(`more than ${cutCopiesMax} copies of one cut`), { code: 'EEXIST' });
  }
}

class OpenFile implements SegmentFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.write(bytes, 0, bytes.length, position)).bytesWritten;
  }

  async sync(): Promise<void> {
    await this.#handle.datasync();
  }

  async truncate(size: number): Promise<void> {
    await this.#handle.truncate(size);
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.read(into, 0, into.length, position)).bytesRead;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
