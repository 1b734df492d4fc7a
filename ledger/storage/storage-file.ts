import { constants } from 'node:fs';
import { access, type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openCompressed } from './seekable-zstd.ts';
import {
  type CompressingStorage,
  compressedName,
  cutCopiesMax,
  cutName,
  type SegmentFile,
  type SegmentForm,
  segmentName,
  segmentsAmong,
} from './storage.ts';

const COPY_BYTES = 1024 * 1024;
/** What one process writes until it is a segment; another, that is to die, may write one of its own. */
const PART = /^[0-9]{16}\.jsonl\.[0-9]+\.part$/;

const nameOf = { plain: segmentName, compressed: compressedName };
const noEntry = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** Segments as files of one folder, mode 0600. All calls run in the thread pool, never on the event loop. */
export class FileStorage implements CompressingStorage {
  readonly #folder: string;
  readonly #readFlags: number;
  /** Those that lie here compressed only, as far as was seen: for `describe`. */
  #compressed = new Set<number>();

  /** The folder is made (0700) when the first segment is. `followLinks`: false refuses a segment that is a link. @default true */
  constructor(folder: string, { followLinks = true } = {}) {
    this.#folder = folder;
    this.#readFlags = constants.O_RDONLY | (followLinks ? 0 : constants.O_NOFOLLOW | constants.O_NONBLOCK);
  }

  async list(): Promise<number[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    const there = new Set(names);
    const segments = segmentsAmong(names);
    this.#compressed = new Set(segments.filter((first) => !there.has(segmentName(first))));
    return segments;
  }

  async create(first: number): Promise<SegmentFile> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    if ((await this.forms(first)).includes('compressed')) {
      throw Object.assign(new Error(`there is ${compressedName(first)}`), { code: 'EEXIST' });
    }
    return new OpenFile(await open(this.#path(first, 'plain'), 'wx+', 0o600));
  }

  /** A segment that lies here compressed is made plain again where it is to be written. */
  async open(first: number, mode: 'read' | 'write'): Promise<SegmentFile> {
    if (mode === 'read') return (await this.openForm(first)).file;
    try {
      return new OpenFile(await open(this.#path(first, 'plain'), 'r+'));
    } catch (error) {
      if (!noEntry(error)) throw error;
      await this.#expand(first);
      return new OpenFile(await open(this.#path(first, 'plain'), 'r+'));
    }
  }

  /** A segment to be read, and the path of the file that it is read from. */
  async openForm(
    first: number,
    damage: 'show' | 'refuse' = 'show',
  ): Promise<{ file: SegmentFile; path: string }> {
    const path = this.#path(first, 'plain');
    try {
      return { file: new OpenFile(await open(path, this.#readFlags)), path };
    } catch (error) {
      // The compressed form is there before the plain one goes.
      if (!noEntry(error)) throw error;
    }
    const compressed = this.#path(first, 'compressed');
    const handle = new OpenFile(await open(compressed, this.#readFlags));
    this.#compressed.add(first);
    return { file: await openCompressed(handle, damage).catch(closing(handle)), path: compressed };
  }

  async forms(first: number): Promise<SegmentForm[]> {
    const there: SegmentForm[] = [];
    for (const form of ['plain', 'compressed'] as const) {
      const found = await access(this.#path(first, form)).then(
        () => true,
        (error) => (noEntry(error) ? false : Promise.reject(error)),
      );
      if (found) there.push(form);
    }
    return there;
  }

  async beginCompressed(first: number): Promise<SegmentFile> {
    return new OpenFile(await open(this.#part(first), 'wx+', 0o600));
  }

  async dropUnfinished(): Promise<void> {
    for (const name of await readdir(this.#folder)) {
      if (PART.test(name)) await rm(join(this.#folder, name), { force: true });
    }
  }

  async keepCompressed(first: number): Promise<void> {
    await rename(this.#part(first), this.#path(first, 'compressed'));
  }

  async remove(first: number, form: SegmentForm): Promise<void> {
    await rm(this.#path(first, form), { force: true });
    if (form === 'plain') this.#compressed.add(first);
    else this.#compressed.delete(first);
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
    const source = await this.open(first, 'read');
    try {
      const { path, file } = await this.#newCut(first, offset);
      try {
        const chunk = Buffer.allocUnsafe(COPY_BYTES);
        for (let at = offset; ; ) {
          const read = await source.read(chunk, at);
          if (read === 0) break;
          await writeAll(file, chunk.subarray(0, read), at - offset);
          at += read;
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
    return this.#path(first, this.#compressed.has(first) ? 'compressed' : 'plain');
  }

  #path(first: number, form: SegmentForm): string {
    return join(this.#folder, nameOf[form](first));
  }

  #part(first: number): string {
    return join(this.#folder, `${segmentName(first)}.${process.pid}.part`);
  }

  /** Only where segments behind it are gone is a compressed one the last, and written to. */
  async #expand(first: number): Promise<void> {
    const { file: source } = await this.openForm(first, 'refuse');
    try {
      const part = new OpenFile(await open(this.#part(first), 'w', 0o600));
      try {
        await copy(source, part);
        await part.sync();
      } finally {
        await part.close();
      }
      await rename(this.#part(first), this.#path(first, 'plain'));
      await this.syncDirectory();
      await this.remove(first, 'compressed');
    } finally {
      await source.close();
    }
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

async function copy(from: SegmentFile, to: SegmentFile): Promise<void> {
  const chunk = Buffer.allocUnsafe(COPY_BYTES);
  for (let at = 0; ; ) {
    const read = await from.read(chunk, at);
    if (read === 0) return;
    for (let done = 0; done < read; ) done += await to.write(chunk.subarray(done, read), at + done);
    at += read;
  }
}

const closing =
  (file: SegmentFile) =>
  async (error: unknown): Promise<never> => {
    await file.close();
    throw error;
  };

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
