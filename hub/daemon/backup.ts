import { createHash } from 'node:crypto';
import { constants, createWriteStream, existsSync } from 'node:fs';
import { open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { lineRuns } from '../../ledger/lines/lines.ts';
import { scanLog } from '../../ledger/log/scan.ts';
import { readSound, type Sound } from '../../ledger/log/sound.ts';
import { type SegmentFile, segmentName } from '../../ledger/storage/storage.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { fileFailure, syncFolder } from '../../node/atomic-file.ts';
import { copySmall, type SmallCopy } from '../../node/blobs/small-copy.ts';
import { folderPaths } from '../../node/folder.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { BackUp } from '../cli/options.ts';
import { type BackupList, LIST, verifyBackup } from './backup-file.ts';
import { secretsFile } from './secrets.ts';

/** A file of the backup, and how many of its bytes. */
interface Part {
  name: string;
  bytes: number | null;
  open(): Promise<PartBytes>;
}

/** What a file of the folder is read by. */
type PartBytes = Pick<SegmentFile, 'size' | 'read' | 'close'>;

/**
 * `mesh-hub backup`: one archive of a founder's folder, also while it runs. The log goes in up to a checkpoint that is
 * durable (`size`; null: no founder runs), then the blobs it names, which were synced before it named them. Read back and
 * verified before it has its name.
 */
export const backUp: BackUp = async ({ dir, file, size, withSecrets, withoutBlobs }) => {
  const paths = folderPaths(dir);
  if (!existsSync(paths.logKey)) {
    throw new SuperfleetError('SF_CONFLICT', `${dir} is not a founder’s data folder`, {
      expected: 'a folder that was made by `mesh-hub init`',
      got: `no ${paths.logKey}`,
      hint: 'a log without its key is kept by `mesh-hub ledger export`',
    });
  }
  // A segment goes in plain, however it lies here; as a link it could let others' files out.
  const storage = new FileStorage(paths.log, { followLinks: false });
  const sound = await readSound(storage, size === null ? {} : { upTo: size });
  // Refuses what is damaged; a torn tail is no part of the log.
  if (sound.damage !== null && (size === null || sound.state.frontier.size < size)) {
    if (size !== null) throw sound.damage;
    await scanLog(storage, { signatures: 'all' });
  }
  const { state, end } = sound;
  const files = join(paths.blobs, 'blobs');
  // After the log's end was settled: the blobs that it names are all there.
  const small = withoutBlobs
    ? null
    : await copySmall(join(paths.blobs, 'small'), `${file}.${process.pid}.small`).catch((error: unknown) => {
        throw error instanceof SuperfleetError ? error : fileFailure(error, file);
      });
  try {
    const there = new Set([
      ...(withoutBlobs ? [] : await readdir(files).catch(() => [])),
      ...(small?.blobs ?? []),
    ]);
    const blobs = withoutBlobs ? [] : await namedBlobs(storage, sound, there);
    const segments = (await storage.list()).filter((first) => first <= end!.segment);
    const secrets = withSecrets && existsSync(secretsFile(dir));
    const parts: Part[] = [
      { name: 'config.json', bytes: null, open: () => openFile(paths.config) },
      { name: 'identity.key', bytes: null, open: () => openFile(paths.identityKey) },
      { name: 'log.key', bytes: null, open: () => openFile(paths.logKey) },
      ...(secrets ? [{ name: 'secrets.json', bytes: null, open: () => openFile(secretsFile(dir)) }] : []),
      ...segments.map((first) => ({
        name: `log/${segmentName(first)}`,
        bytes: first === end!.segment ? end!.offset : null,
        open: () => storage.open(first, 'read'),
      })),
      ...blobs.map((blob) => ({
        name: `blobs/${blob}`,
        bytes: null,
        open: () => (small?.blobs.has(blob) ? openBytes(small, blob) : openFile(join(files, blob))),
      })),
    ];
    const checkpoint = state.checkpoint!;
    const said = {
      format: 1 as const,
      mesh: state.meshId!,
      size: checkpoint.size,
      root: checkpoint.root,
      time: Date.now(),
      blobs: !withoutBlobs,
      secrets,
    };
    const { bytes } = await write(file, said, parts);
    const { mesh, size: entries, root } = said;
    return { file, mesh, size: entries, root, bytes, blobs: withoutBlobs ? null : blobs.length, secrets };
  } finally {
    await small?.close();
  }
};

async function write(
  path: string,
  said: Omit<BackupList, 'files'>,
  parts: readonly Part[],
): Promise<{ bytes: number }> {
  const part = `${path}.${process.pid}.part`;
  const free = await open(path, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EEXIST') throw fileFailure(cause, path);
    throw new SuperfleetError('SF_EXISTS', `${path} is there already`, {
      expected: 'a name that is free',
      got: path,
      hint: 'remove it, or name another file',
    });
  });
  await free.close();
  try {
    const archive = pack();
    const out = createWriteStream(part, { flags: 'wx', mode: 0o600 });
    const written = finished(archive.pipe(out));
    // Told where it is awaited.
    written.catch((error: Error) => archive.destroy(error));
    const files: BackupList['files'] = [];
    for (const each of parts) files.push(await add(archive, each));
    const text = JSON.stringify({ ...said, files });
    archive.entry({ name: LIST, mode: 0o600 }, text);
    archive.finalize();
    await written;
    const file = await open(part, 'r+');
    try {
      await file.sync();
      await verifyBackup(file, path);
      const { size } = await file.stat();
      await rename(part, path);
      await syncFolder(dirname(path));
      return { bytes: size };
    } finally {
      await file.close();
    }
  } catch (error) {
    await Promise.all([rm(part, { force: true }), rm(path, { force: true })]);
    throw error instanceof SuperfleetError ? error : fileFailure(error, path);
  }
}

async function add(
  archive: ReturnType<typeof pack>,
  { name, bytes, open: opened }: Part,
): Promise<BackupList['files'][number]> {
  const file = await opened();
  try {
    const length = bytes ?? (await file.size());
    const hash = createHash('sha256');
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    done.catch(() => {});
    const sink = archive.entry({ name, size: length, mode: 0o600 }, (error) =>
      error ? reject(error) : resolve(),
    );
    for (let at = 0; at < length; ) {
      // The sink may hold on to it.
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, length - at));
      const read = await file.read(chunk, at);
      if (read === 0) break;
      at += read;
      hash.update(chunk.subarray(0, read));
      if (sink.write(chunk.subarray(0, read))) continue;
      // A sink that is torn down, because the disk is full, drains no more.
      await Promise.race([done, new Promise<void>((drained) => sink.once('drain', () => drained()))]);
    }
    sink.end(null);
    await done;
    return { name, bytes: length, sha256: hash.digest('hex') };
  } finally {
    await file.close();
  }
}

/** A file of the folder and nothing else: run as root, a link planted there would let others' files out. */
async function openFile(path: string): Promise<PartBytes> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if ((await file.stat()).isFile()) {
    return {
      size: async () => (await file.stat()).size,
      read: async (into, position) => (await file.read(into, 0, into.length, position)).bytesRead,
      close: () => file.close(),
    };
  }
  await file.close();
  throw new SuperfleetError('SF_FOLDER', `${path} is no file`, { expected: 'a file', got: 'something else' });
}

/** A small blob, which is no file of its own. */
async function openBytes(small: SmallCopy, blob: string): Promise<PartBytes> {
  const bytes = Buffer.from(await small.read(blob));
  return {
    size: async () => bytes.length,
    read: async (into, position) => bytes.copy(into, 0, position),
    close: async () => {},
  };
}

const CHUNK_BYTES = 256 * 1024;
const DIGEST = /"([0-9a-f]{64})"/g;

/** Blobs of the store that an entry names, in order of their ids. */
async function namedBlobs(
  storage: FileStorage,
  { end }: Sound,
  there: ReadonlySet<string>,
): Promise<string[]> {
  const named = new Set<string>();
  for (const segment of (await storage.list()).filter((first) => first <= end!.segment)) {
    const file = await storage.open(segment, 'read');
    try {
      const to = segment === end!.segment ? end!.offset : await file.size();
      for await (const { lines } of lineRuns(file, 0, to)) {
        for (const { line } of lines) {
          for (const [, id] of line.toString('latin1').matchAll(DIGEST)) if (there.has(id!)) named.add(id!);
        }
      }
    } finally {
      await file.close();
    }
  }
  return [...named].sort();
}
