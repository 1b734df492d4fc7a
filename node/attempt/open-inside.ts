import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, opendir, rename, rm } from 'node:fs/promises';

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

  /** What has that name, a link as itself; null where nothing has, or it is closed to us. */
  async look(name: Buffer | string): Promise<Stats | null> {
    try {
      return await lstat(this.#at(name));
    } catch (error) {
      if (isNotThat(error)) return null;
      throw error;
    }
  }

  /** The folder of that name, made with mode 0755 where there is nothing; null where that name is anything else. */
  async makeFolder(name: Buffer | string): Promise<InsideFolder | null> {
    try {
      await mkdir(this.#at(name), 0o755);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return this.folder(name);
      if (isNotThat(error)) return null;
      throw error;
    }
    const made = await this.folder(name);
    // Whatever the umask of this process: the task's own is 022.
    if (made !== null) await made.#handle.chmod(0o755);
    return made;
  }

  /**
   * Puts `bytes` under that name, whole or not at all: a new file of mode 0644, or in the place of a regular file, whose
   * permissions it keeps. False where that name is anything else. What was there is never written into: its other
   * names (hard links), wherever they are, keep the old content.
   */
  async replace(name: Buffer | string, bytes: Uint8Array): Promise<boolean> {
    const target = this.#at(name);
    const before = await this.look(name);
    if (before !== null && !before.isFile()) return false;
    const fresh = this.#at(`.superfleet-${randomBytes(12).toString('hex')}`);
    try {
      const file = await open(fresh, FRESH, 0o600);
      try {
        await file.writeFile(bytes);
        await file.chmod(before === null ? 0o644 : before.mode & 0o777);
      } finally {
        await file.close();
      }
      await rename(fresh, target);
      return true;
    } catch (error) {
      await rm(fresh, { force: true });
      if (isNotThat(error) || (error as NodeJS.ErrnoException).code === 'EISDIR') return false;
      throw error;
    }
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

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;
const FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK;
const FILE = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
const FRESH = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
const DOT = Buffer.from('.');
const DOTS = Buffer.from('..');

/** Nothing of that kind there: missing, a link, a socket, a device without a driver, or closed to us. */
function isNotThat(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENODEV', 'EACCES', 'ENAMETOOLONG'].includes(code ?? '');
}
