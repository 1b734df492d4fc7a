import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, readlink, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createZstdCompress, createZstdDecompress } from 'node:zlib';
import { extract, type Header, type Pack, pack } from 'tar-stream';
import { collectBytes } from '../../protocol/bytes.ts';
import type { MadeFolder } from './detect.ts';
import { type PreparedFile, preparedFile } from './prepared.ts';
import { byName, refused, shippedBounds, type TreeBounds, TreeCheck } from './tree-check.ts';

/** First in an archive: which environment it is, and its parts. */
const LIST = 'made.json';
const listBytesMax = 2 * 1024 * 1024;
/** Bytes read or written at once. */
const pieceBytes = 256 * 1024;
/** Of tar around an entry: its header, one for a long name, and what fills its last block. */
const aroundEntryBytes = 8 * 1024;

/**
 * A prepared environment as one stream, a tar behind zstd: the same tree gives the same bytes. No process may write there meanwhile.
 * Of the modes only whether a file is a program is kept, of the times those of files, in seconds. Throws `SF_NOT_PROVED` where something
 * in it is not to be shipped: a device, a pipe, a link that leads out of what a task sees, too much of it.
 */
export async function* packEnvironment(
  folder: string,
  file: PreparedFile,
  signal: AbortSignal,
  bounds: TreeBounds = shippedBounds,
): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted();
  const archive = pack();
  const compress = createZstdCompress();
  // Of the two the one that failed first says why.
  const flow = pipeline(archive as unknown as NodeJS.ReadableStream, compress, { signal });
  const walk = new Packer(archive, folder, file, bounds, signal).run();
  walk.catch((error: Error) => archive.destroy(error));
  flow.catch(() => {});
  try {
    for await (const bytes of compress) yield bytes as Uint8Array;
    await walk;
    await flow;
  } catch (error) {
    signal.throwIfAborted();
    await walk;
    throw error;
  } finally {
    archive.destroy();
    await walk.catch(() => {});
  }
}

class Packer {
  readonly #archive: Pack;
  readonly #folder: string;
  readonly #file: PreparedFile;
  readonly #check: TreeCheck;
  readonly #signal: AbortSignal;
  readonly #closed: Promise<never>;

  constructor(archive: Pack, folder: string, file: PreparedFile, bounds: TreeBounds, signal: AbortSignal) {
    this.#archive = archive;
    this.#folder = folder;
    this.#file = file;
    this.#check = new TreeCheck(file.parts, bounds);
    this.#signal = signal;
    this.#closed = new Promise((_, reject) => {
      archive.on('close', () => reject(new Error('the archive was closed')));
    });
    this.#closed.catch(() => {});
  }

  async run(): Promise<void> {
    const list = Buffer.from(JSON.stringify(this.#file));
    await this.#entry({ name: LIST, type: 'file', size: list.length, mode: 0o644 }, [list]);
    for (const part of [...this.#file.parts.keys()].map(String).sort(byName)) await this.#add(part);
    this.#check.end();
    this.#archive.finalize();
  }

  async #add(path: string): Promise<void> {
    this.#signal.throwIfAborted();
    const at = join(this.#folder, path);
    const facts = await lstat(at);
    if (facts.isDirectory()) {
      this.#check.add({ path, kind: 'folder', bytes: 0 });
      await this.#entry({ name: path, type: 'directory', mode: 0o755 });
      for (const name of (await readdir(at)).sort(byName)) await this.#add(`${path}/${name}`);
    } else if (facts.isSymbolicLink()) {
      const to = await readlink(at);
      this.#check.add({ path, kind: 'link', bytes: 0, to });
      await this.#entry({ name: path, type: 'symlink', linkname: to, mode: 0o777 });
    } else if (facts.isFile()) await this.#addFile(path, at);
    else throw refused(path, 'is neither a folder nor a file nor a link');
  }

  async #addFile(path: string, at: string): Promise<void> {
    const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const facts = await file.stat();
      if (!facts.isFile()) throw refused(path, 'is no file any more');
      this.#check.add({ path, kind: 'file', bytes: facts.size });
      const mtime = new Date(Math.max(0, Math.floor(facts.mtimeMs / 1000)) * 1000);
      const mode = (facts.mode & 0o100) === 0 ? 0o644 : 0o755;
      await this.#entry(
        { name: path, type: 'file', size: facts.size, mode, mtime },
        pieces(file, facts.size),
      );
    } finally {
      await file.close();
    }
  }

  async #entry(
    header: Partial<Header> & Pick<Header, 'name'>,
    body: Iterable<Uint8Array> | AsyncIterable<Uint8Array> = [],
  ): Promise<void> {
    const whole = { uid: 0, gid: 0, mtime: new Date(0), ...header };
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    const sink = this.#archive.entry(whole, (error) => (error ? reject(error) : resolve()));
    done.catch(() => {});
    sink.on('error', reject);
    if (header.type === 'file') {
      for await (const bytes of body) {
        if (sink.write(bytes)) continue;
        const drained = new Promise<void>((go) => sink.once('drain', () => go()));
        await Promise.race([drained, done, this.#closed]);
      }
      sink.end(undefined);
    }
    await Promise.race([done, this.#closed]);
  }
}

/** Exactly so many bytes of a file; fewer where it has fewer. */
async function* pieces(file: FileHandle, bytes: number): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(left, pieceBytes)));
    if (bytesRead === 0) return;
    left -= bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Which environment an archive must be, and what the recipe here says that it makes. */
export interface WantedArchive {
  digest: string;
  makes: readonly MadeFolder[];
  /** @default shippedBounds */
  bounds?: TreeBounds;
}

export interface Unpacked {
  parts: MadeFolder[];
  /** Files and links. */
  files: number;
  bytes: number;
}

/**
 * Unpacks into `keep`, an empty folder of this user's alone: each part under its number. Every entry is looked at before it is written,
 * and nothing is written over or through anything. Throws `SF_NOT_PROVED` for what is not of the form, another environment's, or past the bounds;
 * what was written until then is the caller's to remove.
 */
export async function unpackEnvironment(
  source: AsyncIterable<Uint8Array>,
  keep: string,
  wanted: WantedArchive,
  signal: AbortSignal,
): Promise<Unpacked> {
  const bounds = wanted.bounds ?? shippedBounds;
  const archive = extract();
  const plainMax = bounds.bytesMax + (bounds.entriesMax + 2) * aroundEntryBytes + listBytesMax;
  const flow = pipeline(
    Readable.from(source, { objectMode: false }),
    createZstdDecompress(),
    (plain: AsyncIterable<Uint8Array>) => bounded(plain, plainMax),
    archive as unknown as NodeJS.WritableStream,
    { signal },
  );
  let failed: unknown = null;
  flow.catch((error: unknown) => {
    failed ??= error;
  });
  let check: TreeCheck | null = null;
  let parts: MadeFolder[] = [];
  try {
    for await (const entry of archive) {
      const { name, type, linkname, size, mode, mtime } = entry.header;
      const body = entry as unknown as AsyncIterable<Uint8Array>;
      if (check === null) {
        if (name !== LIST || type !== 'file') throw refused(name, 'is where the list should be');
        parts = partsOf(await collectBytes(body, listBytesMax, () => refused(LIST, 'is too long')), wanted);
        check = new TreeCheck(parts, bounds);
        continue;
      }
      const kind = KINDS[type];
      if (kind === undefined) throw refused(name, `is a ${type}`);
      // A folder's name has a slash at its end there, and only a folder's.
      const path = kind === 'folder' ? name.replace(/\/$/, '') : name;
      check.add({ path, kind, bytes: size, ...(kind === 'link' ? { to: linkname } : {}) });
      const at = join(keep, path);
      if (kind === 'folder') await mkdir(at, { mode: 0o755 });
      else if (kind === 'link') await symlink(linkname, at);
      else await writeNew(at, body, (mode & 0o100) === 0 ? 0o644 : 0o755, mtime, signal);
      entry.resume();
    }
    await flow;
    if (check === null) throw refused('', 'is empty');
    check.end();
    return { parts, files: check.files, bytes: check.bytes };
  } catch (thrown) {
    signal.throwIfAborted();
    throw faultOf(failed ?? thrown, thrown);
  } finally {
    archive.destroy();
    await flow.catch(() => {});
  }
}

const KINDS: Readonly<Record<string, 'folder' | 'file' | 'link' | undefined>> = Object.assign(
  Object.create(null),
  { directory: 'folder', file: 'file', symlink: 'link' },
);

/** Past so many bytes nothing more is unpacked, whatever they are. */
async function* bounded(plain: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const piece of plain) {
    bytes += piece.length;
    if (bytes > bytesMax) throw refused('', `unpacks to more than ${bytesMax} bytes`);
    yield piece;
  }
}

/** What is placed in a checkout later goes by these paths: they are the recipe's own, or they are not taken. */
function partsOf(bytes: Uint8Array, { digest, makes }: WantedArchive): MadeFolder[] {
  let value: unknown = null;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    // Said below.
  }
  const list = preparedFile.safeParse(value);
  if (!list.success) throw refused(LIST, 'is not of the form');
  if (list.data.digest !== digest) throw refused(LIST, 'names another environment');
  const places = list.data.parts.map((part) =>
    makes.findIndex((made) => made.in === part.in && made.path === part.path),
  );
  if (places.some((place, at) => place < 0 || (at > 0 && place <= places[at - 1]!)))
    throw refused(LIST, 'has parts that its recipe does not make');
  return list.data.parts;
}

async function writeNew(
  path: string,
  body: AsyncIterable<Uint8Array>,
  mode: number,
  mtime: Date,
  signal: AbortSignal,
): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(path, flags, 0o600);
  try {
    for await (const piece of body) {
      signal.throwIfAborted();
      for (let at = 0; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
    }
    await file.chmod(mode);
    await file.utimes(mtime, mtime);
  } finally {
    await file.close();
  }
}

/** Faults of the archive are one kind; those of the disk and the store stay what they are. */
function faultOf(first: unknown, thrown: unknown): unknown {
  for (const each of [thrown, first]) {
    const code = (each as { code?: unknown } | null)?.code;
    if (typeof code === 'string' && /^(SF_|ENOSPC|EDQUOT|EACCES|EIO|EROFS|EMFILE|ENFILE)/.test(code))
      return each;
  }
  return refused(
    '',
    `is no archive: ${(first instanceof Error ? first.message : String(first)).slice(0, 120)}`,
  );
}
