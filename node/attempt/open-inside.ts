import { constants } from 'node:fs';
import { type FileHandle, open, opendir } from 'node:fs/promises';

/**
 * A walk below a folder that a task filled, in the manner of openat(2): each name is opened relative to the folder
 * already held open (by `/proc/self/fd`), and no name is ever followed as a link. What a path means can so not be
 * changed by links, nor by `..`, nor by length.
 */
export class InsideFolder {
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** The root of a walk; a folder of this program's own. */
  static async root(path: string): Promise<InsideFolder> {
    return new InsideFolder(await open(path, FOLDER));
  }

  #at(name: Buffer | string): Buffer {
    const bytes = Buffer.from(name as string);
    if (
      bytes.length === 0 ||
      bytes.includes(0x2f) ||
      bytes.includes(0) ||
      bytes.equals(DOTS) ||
      bytes.equals(DOT)
    ) {
      throw new Error(`not a name inside a folder: ${JSON.stringify(bytes.toString())}`);
    }
    return Buffer.concat([Buffer.from(`/proc/self/fd/${this.#handle.fd}/`), bytes]);
  }

  /** A folder in it; null where that name is anything else, a link to a folder included. */
  async folder(name: Buffer | string): Promise<InsideFolder | null> {
    try {
      return new InsideFolder(await open(this.#at(name), FOLDER));
    } catch (error) {
      if (isNotThat(error)) return null;
      throw error;
    }
  }

  /** A file in it, open for reading; null where that name is anything else. Never waits, on a FIFO either. */
  async file(name: Buffer | string): Promise<FileHandle | null> {
    let handle: FileHandle;
    try {
      handle = await open(this.#at(name), FILE);
    } catch (error) {
      if (isNotThat(error)) return null;
      throw error;
    }
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
    return null;
  }

  /** Names in it as bytes, and what they are said to be; opening is what counts. */
  async *entries(): AsyncGenerator<{ name: Buffer; kind: 'file' | 'folder' | 'other' }> {
    const options = { encoding: 'buffer' as BufferEncoding };
    for await (const entry of await opendir(`/proc/self/fd/${this.#handle.fd}`, options)) {
      const kind = entry.isFile() ? 'file' : entry.isDirectory() ? 'folder' : 'other';
      yield { name: entry.name as unknown as Buffer, kind };
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
const FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK;
const FILE = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
const DOT = Buffer.from('.');
const DOTS = Buffer.from('..');

/** Nothing of that kind there: missing, a link, a socket, a device without a driver, or closed to us. */
function isNotThat(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'EACCES', 'ENAMETOOLONG'].includes(code ?? '');
}
