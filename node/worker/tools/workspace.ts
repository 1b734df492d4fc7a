import type { FileHandle } from 'node:fs/promises';
import { InsideFolder } from '../../attempt/open-inside.ts';
import { ToolFault } from './tool.ts';

/** Bytes of a file that is read or written whole. What is larger is no source a model could hold. */
export const fileBytesMax = 4 * 1024 * 1024;
/** Names looked at in one walk, and folders deep. */
const entriesMax = 200_000;
const depthMax = 64;
const pathLengthMax = 4096;
const nameBytesMax = 255;
/** What tools leave out unless it is named: not the repository's own, and large. */
export const SKIPPED: ReadonlySet<string> = new Set(['node_modules', '__pycache__', '.venv']);

export interface Found {
  /** Relative to the workspace. */
  path: string;
  kind: 'file' | 'folder' | 'other';
  bytes: number;
  /** For reading; null: it is no regular file, or closed to us. Only until the walk goes on. */
  open(): Promise<FileHandle | null>;
}

/**
 * The files of an attempt as tools see them, while no process of the task runs: every path is walked name by name below the
 * workspace, no link is followed, and `.git` is not there. What cannot be is a `ToolFault` for the model.
 */
export class WorkspaceFiles {
  readonly #path: string;
  readonly #writtenMax: number;
  #written = 0;

  /** Over the attempt at most `writtenBytesMax` are written. */
  constructor(path: string, writtenBytesMax: number) {
    this.#path = path;
    this.#writtenMax = writtenBytesMax;
  }

  /** Content and permissions' execute bit left aside: the bytes of a regular file of at most `fileBytesMax`. */
  async read(path: string): Promise<Buffer> {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined) throw new ToolFault(`${path} is a folder. Use list.`);
    return this.#in(names, path, false, async (folder) => {
      const file = await folder.file(name);
      if (file === null) throw new ToolFault(await whyNot(folder, name, path));
      try {
        const bytes = await readWhole(file, fileBytesMax);
        if (bytes !== null) return bytes;
        throw new ToolFault(
          `${path} has more than ${fileBytesMax} bytes, which is too large to be read. Use run with head, tail, sed -n or grep.`,
        );
      } finally {
        await file.close();
      }
    });
  }

  /** Puts a file in place, whole; missing folders are made. True: it is new. */
  async write(path: string, bytes: Uint8Array): Promise<boolean> {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined || path.endsWith('/'))
      throw new ToolFault(`${path} is a folder, and a file is needed.`);
    if (bytes.length > fileBytesMax) {
      throw new ToolFault(`${path} would have ${bytes.length} bytes, at most ${fileBytesMax} are written.`);
    }
    if (this.#written + bytes.length > this.#writtenMax) {
      throw new ToolFault(
        `this task has written ${this.#written} bytes; it may write ${this.#writtenMax} at most.`,
      );
    }
    return this.#in(names, path, true, async (folder) => {
      const before = await folder.look(name);
      if (!(await folder.replace(name, bytes))) throw new ToolFault(await whyNot(folder, name, path));
      this.#written += bytes.length;
      return before === null;
    });
  }

  /** Everything below a folder, each folder's names in the order of their bytes, at most `depth` folders deep. */
  async *walk(path: string, depth: number, signal: AbortSignal): AsyncGenerator<Found> {
    const names = namesOf(path);
    const prefix = names.map((name) => `${name}/`).join('');
    const folder = await this.#open(names, path, false);
    const count = { left: entriesMax };
    try {
      yield* walkIn(folder, prefix, Math.min(depth, depthMax), count, signal);
    } finally {
      await folder.close();
    }
  }

  async #in<T>(
    names: readonly string[],
    path: string,
    make: boolean,
    use: (folder: InsideFolder) => Promise<T>,
  ): Promise<T> {
    const folder = await this.#open(names, path, make);
    try {
      return await use(folder);
    } finally {
      await folder.close();
    }
  }

  async #open(names: readonly string[], path: string, make: boolean): Promise<InsideFolder> {
    let folder = await InsideFolder.root(this.#path);
    try {
      for (const [index, name] of names.entries()) {
        const next = await (make ? folder.makeFolder(name) : folder.folder(name));
        if (next === null) {
          const at = names.slice(0, index + 1).join('/');
          const there = await folder.look(name);
          throw new ToolFault(
            there === null
              ? `there is no folder ${at}${at === path ? '' : `, so no ${path}`}. Use list to see what there is.`
              : `${at} is ${there.isSymbolicLink() ? 'a link, which is not followed' : 'no folder that can be opened'}.`,
          );
        }
        await folder.close();
        folder = next;
      }
      return folder;
    } catch (error) {
      await folder.close();
      throw error;
    }
  }
}

/** The names of a path below the workspace, which commands know as `/workspace`. */
export function namesOf(path: string): string[] {
  if (path.length > pathLengthMax) throw new ToolFault(`a path has at most ${pathLengthMax} characters.`);
  if (path.includes('\0')) throw new ToolFault('a path has no NUL in it.');
  const inside = path.replace(/^\/workspace(?=\/|$)/, '.');
  if (inside.startsWith('/')) {
    throw new ToolFault(
      `${path} is not in the workspace. Expected a path relative to it, such as src/main.c.`,
    );
  }
  const names = inside.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) {
    throw new ToolFault(`${path} has a .. in it. Expected a path relative to the workspace, without any.`);
  }
  if (names.some((name) => Buffer.byteLength(name) > nameBytesMax)) {
    throw new ToolFault(`a name in a path has at most ${nameBytesMax} bytes.`);
  }
  if (names.length > depthMax) throw new ToolFault(`a path has at most ${depthMax} folders.`);
  if (names.some(isGit)) {
    throw new ToolFault(
      `${path} belongs to git's own files, which are not shown. Use the tool git to ask git.`,
    );
  }
  return names;
}

/** Format characters that HFS+ leaves out of names. */
const IGNORED = /[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]/g;

/** `.git` as any file system spells it: in any case, with what HFS+ ignores, NTFS's short name, endings and streams. */
export const isGit = (name: string): boolean =>
  name
    .normalize('NFKC')
    .replace(IGNORED, '')
    .toLowerCase()
    .split('\\')
    .some((part) => /^(\.git|git~\d+)[. ]*(:.*)?$/s.test(part));

async function whyNot(folder: InsideFolder, name: string, path: string): Promise<string> {
  const there = await folder.look(name);
  if (there === null)
    return `there is no file ${path}, or it cannot be made there. Use list to see what there is.`;
  if (there.isDirectory()) return `${path} is a folder. Use list.`;
  if (there.isSymbolicLink()) return `${path} is a link, which is not followed. Name the file itself.`;
  return there.isFile() ? `${path} may not be opened.` : `${path} is no regular file.`;
}

/** The whole file; null: it has more than `bytesMax`, whatever its size is said to be. */
export async function readWhole(file: FileHandle, bytesMax: number): Promise<Buffer | null> {
  const { size } = await file.stat();
  if (size > bytesMax) return null;
  const buffer = Buffer.alloc(size + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) return buffer.subarray(0, length);
    length += bytesRead;
  }
  return null;
}

async function* walkIn(
  folder: InsideFolder,
  prefix: string,
  depth: number,
  count: { left: number },
  signal: AbortSignal,
): AsyncGenerator<Found> {
  const entries: { name: Buffer; kind: Found['kind'] }[] = [];
  for await (const entry of folder.entries()) {
    count.left -= 1;
    if (count.left < 0)
      throw new ToolFault(`more than ${entriesMax} names to look through. Name a folder of it.`);
    if (!isGit(entry.name.toString('utf8'))) entries.push(entry);
  }
  entries.sort((a, b) => Buffer.compare(a.name, b.name));
  for (const { name, kind } of entries) {
    signal.throwIfAborted();
    const path = prefix + name.toString('utf8');
    const bytes = kind === 'file' ? ((await folder.look(name))?.size ?? 0) : 0;
    yield { path, kind, bytes, open: () => folder.file(name) };
    if (kind !== 'folder' || depth <= 1 || SKIPPED.has(name.toString('utf8'))) continue;
    const inner = await folder.folder(name);
    if (inner === null) continue;
    try {
      yield* walkIn(inner, `${path}/`, depth - 1, count, signal);
    } finally {
      await inner.close();
    }
  }
}
