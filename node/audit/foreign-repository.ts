import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';

/**
 * A repository that nobody vouches for, read without git: where its objects lie and what its refs say. Its configuration,
 * hooks, attributes, grafts and replacements are not looked at.
 */
export interface ForeignRepository {
  /** As the person named it. */
  path: string;
  objects: string;
  /** Full names and what they hold; `refs/replace/` and names that git would not take are left out. */
  refs: Map<string, string>;
  /** A full ref name, a commit id, or null where HEAD leads nowhere. */
  head: string | null;
  /** A shallow clone's history ends at these. */
  shallow: string[];
  objectFormat: 'sha1' | 'sha256';
}

/** Refs taken of one repository. */
const refsMax = 100_000;
const refFileBytesMax = 4 * 1024;
const packedRefsBytesMax = 64 * 1024 * 1024;
const refDepthMax = 16;

const objectId = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
/** git-check-ref-format(1), and nothing that would be two lines. */
const refName = /^refs\/(?!.*(\.\.|@\{|\/\/|\/\.|\.lock(\/|$)))[^\x00-\x20\x7f~^:?*[\\]+(?<![/.])$/;

/** `SF_REPOSITORY` where nothing that looks like a repository is at `path` or above it. */
export function readForeignRepository(path: string): ForeignRepository {
  const own = gitFolderFrom(path);
  const commonName = text(join(own, 'commondir'), refFileBytesMax)?.trim();
  const common = commonName === undefined ? own : resolve(own, commonName);
  const refs = new Map<string, string>();
  const packed = text(join(common, 'packed-refs'), packedRefsBytesMax) ?? '';
  for (const line of packed.split('\n')) {
    const [id = '', name = ''] = line.split(' ');
    take(refs, name, id);
  }
  readLoose(common, 'refs', refs, 0);
  const head = headOf(text(join(own, 'HEAD'), refFileBytesMax), refs);
  const ids = [...refs.values(), ...(head === null ? [] : [head])].filter((id) => objectId.test(id));
  return {
    path,
    objects: realpathSync(join(common, 'objects')),
    refs,
    head,
    shallow: (text(join(common, 'shallow'), packedRefsBytesMax) ?? '')
      .split('\n')
      .filter((id) => objectId.test(id)),
    objectFormat: ids.some((id) => id.length === 64) ? 'sha256' : 'sha1',
  };
}

function gitFolderFrom(path: string): string {
  let at: string;
  try {
    at = realpathSync(path);
  } catch (cause) {
    throw none(path, cause);
  }
  for (;;) {
    const inside = join(at, '.git');
    if (isGitFolder(inside)) return inside;
    const link = /^gitdir: (.+?)\n*$/s.exec(text(inside, refFileBytesMax) ?? '')?.[1];
    if (link !== undefined && isFolder(resolve(at, link))) return resolve(at, link);
    if (isGitFolder(at)) return at;
    if (dirname(at) === at) throw none(path);
    at = dirname(at);
  }
}

const isGitFolder = (path: string): boolean =>
  isFolder(path) && isFolder(join(path, 'objects')) && text(join(path, 'HEAD'), refFileBytesMax) !== null;

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** A bounded file, never a pipe, a device or a link; null where there is none. */
function text(path: string, bytesMax: number): string | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const found = fstatSync(file);
    if (!found.isFile() || found.size > bytesMax) return null;
    const buffer = Buffer.alloc(found.size);
    return buffer.toString('utf8', 0, readSync(file, buffer, 0, buffer.length, 0));
  } finally {
    closeSync(file);
  }
}

function readLoose(common: string, folder: string, refs: Map<string, string>, depth: number): void {
  if (depth > refDepthMax || !isFolder(join(common, folder))) return;
  for (const entry of readdirSync(join(common, folder), { withFileTypes: true })) {
    const name = `${folder}/${entry.name}`;
    if (entry.isDirectory()) readLoose(common, name, refs, depth + 1);
    else if (entry.isFile()) take(refs, name, (text(join(common, name), refFileBytesMax) ?? '').trim());
  }
}

function take(refs: Map<string, string>, name: string, id: string): void {
  if (!objectId.test(id) || !refName.test(name) || name.startsWith('refs/replace/')) return;
  if (refs.size < refsMax || refs.has(name)) refs.set(name, id);
}

function headOf(said: string | null, refs: ReadonlyMap<string, string>): string | null {
  const word = (said ?? '').trim();
  if (objectId.test(word)) return word;
  const name = /^ref: (.+)$/.exec(word)?.[1] ?? '';
  return refs.has(name) ? name : null;
}

const none = (path: string, cause?: unknown): SuperfleetError =>
  new SuperfleetError('SF_REPOSITORY', `there is no git repository at ${path}`, {
    expected: 'a git repository, or a folder inside one',
    got: 'none',
    hint: '--repo PATH names one',
    cause,
  });
