import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { SuperfleetError } from '../../protocol/errors.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;
const openFd = promisify(fs.open);
const fstat = promisify(fs.fstat);
const fsync = promisify(fs.fsync);
const readFd = promisify(fs.read);
const writeFd = promisify(fs.write);

/**
 * A file of the store's own: opened without following a symlink, never a FIFO or device, closed by `close`. Writes
 * go to the end of the bytes given or throw: a full disk answers a write with fewer bytes before it answers with an
 * error.
 */
export class StoreFile {
  readonly #fd: number;
  readonly size: number;

  private constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  /** Null where there is no such file, or something that is not a plain file has its name. */
  static async open(path: string, mode: 'read' | 'write' = 'read'): Promise<StoreFile | null> {
    let fd: number;
    try {
      fd = await openFd(path, (mode === 'read' ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (['ENOENT', 'ELOOP', 'EISDIR', 'ENXIO'].includes(codeOf(error))) return null;
      throw diskFault(error);
    }
    const stat = await fstat(fd);
    if (stat.isFile()) return new StoreFile(fd, stat.size);
    fs.closeSync(fd);
    return null;
  }

  /** A new file, its owner's only; fails where the name is taken. */
  static async create(path: string): Promise<StoreFile> {
    try {
      return new StoreFile(await openFd(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600), 0);
    } catch (error) {
      throw diskFault(error);
    }
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await writeFd(this.#fd, bytes, at, bytes.length - at, position + at);
        at += bytesWritten;
      }
    } catch (error) {
      throw diskFault(error);
    }
  }

  /** Up to `length` bytes; fewer only at the end of the file. */
  async read(position: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafe(length);
    let at = 0;
    while (at < length) {
      const { bytesRead } = await readFd(this.#fd, bytes, at, length - at, position + at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes.subarray(0, at);
  }

  async truncate(bytes: number): Promise<void> {
    try {
      await promisify(fs.ftruncate)(this.#fd, bytes);
    } catch (error) {
      throw diskFault(error);
    }
  }

  async sync(): Promise<void> {
    try {
      await fsync(this.#fd);
    } catch (error) {
      throw diskFault(error);
    }
  }

  /** On this thread: it has nothing left to write, and a turn of the thread pool costs twenty times as much. */
  close(): void {
    fs.closeSync(this.#fd);
  }
}

/**
 * Syncs a folder for many callers with few syncs. Safe: whoever calls after its rename waits for a sync that *begins*
 * after the call, so the sync has seen that rename; callers that come while one runs share the next.
 */
export class FolderSync {
  readonly #folder: string;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  sync(): Promise<void> {
    if (this.#running === null) return this.#start();
    this.#next ??= this.#running.then(
      () => this.#start(),
      () => this.#start(),
    );
    return this.#next;
  }

  #start(): Promise<void> {
    this.#next = null;
    const running = syncFolder(this.#folder).finally(() => {
      if (this.#running === running) this.#running = null;
    });
    this.#running = running;
    return running;
  }
}

export async function syncFolder(folder: string): Promise<void> {
  const fd = fs.openSync(folder, O_RDONLY | fs.constants.O_DIRECTORY | O_NOFOLLOW);
  try {
    await fsync(fd);
  } catch (error) {
    throw diskFault(error);
  } finally {
    fs.closeSync(fd);
  }
}

export const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

/** A disk's refusal as `SF_DISK_FULL`; anything else as it is. */
export function diskFault(error: unknown): unknown {
  if (!['ENOSPC', 'EDQUOT'].includes(codeOf(error))) return error;
  return new SuperfleetError('SF_DISK_FULL', 'the disk is full', {
    expected: 'room for the blob',
    hint: 'free some space on the disk that holds the data folder; nothing was lost',
    cause: error,
  });
}
