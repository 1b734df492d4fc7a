import { posix } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { SANDBOX_HOME } from '../sandbox/profile.ts';
import type { MadeFolder } from './detect.ts';

/** One entry of a packed environment. Its path begins with the number of its part. */
export interface TreeEntry {
  path: string;
  kind: 'folder' | 'file' | 'link';
  /** Of a file; else 0. */
  bytes: number;
  /** Where a link leads. */
  to?: string;
}

export interface TreeBounds {
  entriesMax: number;
  /** Of all files, plain. */
  bytesMax: number;
}

/** A large `node_modules` has 100,000 entries and 1 GiB. */
export const shippedBounds: TreeBounds = { entriesMax: 400_000, bytesMax: 4 * 1024 ** 3 };

const nameBytesMax = 255;
const pathBytesMax = 2048;
const linkBytesMax = 4096;
const depthMax = 128;

/** What a link may lead to, as the sandbox sees it: beside these a task has nothing that an environment rests on. */
const REACHED = ['/workspace', SANDBOX_HOME, '/usr'];

/** Names that some file system takes for one. */
const folded = (name: string): string => name.normalize('NFC').toUpperCase().toLowerCase();

/** Order of names in a folder, and of the parts: by their UTF-16 code units. */
export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * What may be in a packed environment, whoever packs or unpacks it, one entry after the other: each folder before what is in it, names in
 * order, so that none comes twice and none lies below a link or a file. Throws `SF_NOT_PROVED` at the first that may not be there,
 * before anything of it is written.
 */
export class TreeCheck {
  readonly #parts: readonly MadeFolder[];
  readonly #bounds: TreeBounds;
  /** Folders that the next entry may be in, the innermost last; `last` is the name that came last there. */
  readonly #open: { name: string; last: string | null; names: Set<string> }[] = [
    { name: '', last: null, names: new Set() },
  ];
  #entries = 0;
  #files = 0;
  #bytes = 0;

  constructor(parts: readonly MadeFolder[], bounds: TreeBounds) {
    this.#parts = parts;
    this.#bounds = bounds;
  }

  /** Files and links so far. */
  get files(): number {
    return this.#files;
  }

  /** Of the files so far. */
  get bytes(): number {
    return this.#bytes;
  }

  add({ path, kind, bytes, to }: TreeEntry): void {
    const names = path.split('/');
    const fault = faultOfNames(path, names);
    if (fault !== null) throw refused(path, fault);
    this.#enter(path, names, kind === 'folder');
    const part = this.#parts[Number(names[0])];
    if (part === undefined || String(Number(names[0])) !== names[0]) throw refused(path, 'is of no part');
    if (kind === 'link') {
      if (names.length === 1) throw refused(path, 'is a link in place of a part');
      const why = faultOfLink(part, names, to ?? '');
      if (why !== null) throw refused(path, why);
    }
    if (!Number.isSafeInteger(bytes) || bytes < 0 || (kind !== 'file' && bytes !== 0))
      throw refused(path, `is a ${kind} of ${bytes} bytes`);
    this.#entries += 1;
    if (kind !== 'folder') this.#files += 1;
    this.#bytes += bytes;
    if (this.#entries > this.#bounds.entriesMax)
      throw refused(path, `is one more than ${this.#bounds.entriesMax} entries`);
    if (this.#bytes > this.#bounds.bytesMax) throw refused(path, `passes ${this.#bounds.bytesMax} bytes`);
  }

  /** Every part has come. */
  end(): void {
    const { names } = this.#open[0]!;
    if (names.size !== this.#parts.length)
      throw refused('', `has ${names.size} of ${this.#parts.length} parts`);
  }

  #enter(path: string, names: string[], folder: boolean): void {
    const depth = names.length;
    while (this.#open.length > depth) this.#open.pop();
    // Each folder that is open must be one that the path goes through.
    for (let at = 1; at < this.#open.length; at += 1) {
      if (this.#open[at]!.name !== names[at - 1]) this.#open.length = at;
    }
    if (this.#open.length !== depth) throw refused(path, 'is in no folder that came before it');
    const name = names[depth - 1]!;
    const parent = this.#open[depth - 1]!;
    if (parent.last !== null && byName(parent.last, name) >= 0)
      throw refused(path, 'is out of order or twice');
    parent.last = name;
    const one = folded(name);
    if (parent.names.has(one)) throw refused(path, 'differs from another name by case alone');
    parent.names.add(one);
    if (folder) this.#open.push({ name, last: null, names: new Set() });
  }
}

function faultOfNames(path: string, names: string[]): string | null {
  if (Buffer.byteLength(path) > pathBytesMax || names.length > depthMax) return 'has too long a path';
  for (const name of names) {
    if (name === '' || name === '.' || name === '..') return 'is no plain path';
    if (name.includes('\0') || name.includes('\ufffd')) return 'has a name that is no text';
    if (Buffer.byteLength(name) > nameBytesMax) return 'has too long a name';
  }
  return null;
}

function faultOfLink(part: MadeFolder, names: string[], to: string): string | null {
  if (to === '' || to.includes('\0') || to.includes('\ufffd') || Buffer.byteLength(to) > linkBytesMax)
    return 'is a link to nothing that is a path';
  const root = part.in === 'home' ? SANDBOX_HOME : '/workspace';
  const place = posix.join(root, part.path, ...names.slice(1, -1));
  const target = posix.resolve(place, to);
  const inside = REACHED.some((each) => target === each || target.startsWith(`${each}/`));
  return inside ? null : `is a link that leaves, to ${JSON.stringify(to.slice(0, 200))}`;
}

export const refused = (path: string, why: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `a packed environment may not be used: ${shownPath(path)} ${why}`, {
    expected: 'folders, files and links that stay inside, in order, within the bounds',
    got: `${shownPath(path)} ${why}`.slice(0, 400),
  });

const shownPath = (path: string): string =>
  path === '' ? 'it' : JSON.stringify(path.replace(/[^\x20-\x7e]/g, '?').slice(0, 200));
