import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gitWith, objectsPath } from './git.ts';
import type { Repository } from './repository.ts';
import { TemporaryFolder } from './temporary.ts';

/** What a commit names and no bundle of it carries. */
export interface StaysBehind {
  /** Paths of submodules: folders that are empty for the task. */
  submodules: string[];
  /** Files of Git LFS, whose pointer is all the task sees. */
  pointers: string[];
}

/** No pointer of Git LFS is larger (its specification). */
const pointerBytesMax = 1024;
const pointerBegins = 'version https://git-lfs.github.com/spec/v1\n';
/** Bytes asked of git in one command. */
const batchBytesMax = 8 * 1024 * 1024;

/**
 * Looks through the tree of a commit. Its list is streamed over a temporary file, so that memory does not grow with the
 * repository; file contents are read only where a `.gitattributes` names the LFS filter.
 */
export async function staysBehind(
  repository: Repository,
  commit: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<StaysBehind> {
  using folder = new TemporaryFolder();
  // A snapshot's objects lie beside the repository.
  const more = { GIT_ALTERNATE_OBJECT_DIRECTORIES: objectsPath(repository.objects) };
  let files = 0;
  const saved = async (words: string[], stdin: string): Promise<string> => {
    const path = join(folder.path, `out${files++}`);
    const file = await open(path, 'wx', 0o600);
    try {
      await gitWith({ stdin, stdout: file.fd, more }, repository.folder, words, env, signal);
    } finally {
      await file.close();
    }
    return path;
  };
  const submodules: string[] = [];
  const attributes: string[] = [];
  for await (const { mode, object, path } of entries(
    await saved(['ls-tree', '-r', '-z', '--full-tree', commit], ''),
  )) {
    if (mode === '160000') submodules.push(path);
    else if (/(^|\/)\.gitattributes$/.test(path)) attributes.push(object);
  }
  const contents = (objects: string[]): Promise<string> =>
    saved(['cat-file', '--batch'], `${objects.join('\n')}\n`);
  if (attributes.length === 0 || !(await holds(await contents(attributes), 'filter=lfs'))) {
    return { submodules, pointers: [] };
  }
  const pointers: string[] = [];
  let batch: { object: string; path: string }[] = [];
  let bytes = 0;
  const look = async (): Promise<void> => {
    if (batch.length === 0) return;
    const found = await pointersIn(await contents(batch.map(({ object }) => object)));
    for (const { object, path } of batch) if (found.has(object)) pointers.push(path);
    batch = [];
    bytes = 0;
  };
  const sized = await saved(['ls-tree', '-r', '-l', '-z', '--full-tree', commit], '');
  for await (const { mode, object, size, path } of entries(sized)) {
    if (!mode.startsWith('100') || size < pointerBegins.length || size > pointerBytesMax) continue;
    batch.push({ object, path });
    bytes += size;
    if (bytes > batchBytesMax) await look();
  }
  await look();
  return { submodules, pointers };
}

interface TreeEntry {
  mode: string;
  object: string;
  size: number;
  path: string;
}

/** The entries of `git ls-tree -z`, with `-l` or without. */
async function* entries(file: string): AsyncGenerator<TreeEntry> {
  let rest = '';
  for await (const chunk of createReadStream(file, { encoding: 'utf8', highWaterMark: 256 * 1024 })) {
    const lines = (rest + (chunk as string)).split('\0');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const tab = line.indexOf('\t');
      const [mode = '', , object = '', size = ''] = line.slice(0, tab).split(/ +/);
      yield { mode, object, size: Number(size), path: line.slice(tab + 1) };
    }
  }
}

/** Whether the text is in the file, over the edges of what is read at once too. */
async function holds(file: string, text: string): Promise<boolean> {
  let rest = '';
  for await (const chunk of createReadStream(file, 'latin1')) {
    const read = rest + (chunk as string);
    if (read.includes(text)) return true;
    rest = read.slice(1 - text.length);
  }
  return false;
}

/** Objects of a `git cat-file --batch` that begin as a pointer does. */
async function pointersIn(file: string): Promise<Set<string>> {
  const found = new Set<string>();
  const all = await readFile(file, 'latin1');
  const head = /^([0-9a-f]{40,64}) blob (\d+)\n/;
  for (let at = 0; at < all.length; ) {
    const said = head.exec(all.slice(at, at + 128));
    if (said === null) break;
    const from = at + said[0].length;
    if (all.startsWith(pointerBegins, from)) found.add(said[1]!);
    at = from + Number(said[2]) + 1;
  }
  return found;
}
