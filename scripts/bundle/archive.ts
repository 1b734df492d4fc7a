import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { create } from 'tar';

/** The same for every archive, so that the same content is the same bytes: 1980-01-01, the oldest a zip could hold. */
const MTIME = new Date(315_532_800_000);

/** A file of at most this many bytes is read at once. */
const wholeBytesMax = 1024 * 1024;

/**
 * Packs a folder into `output/NAME.tar.gz`, with a `SHA256SUMS` of its files in it and `NAME.tar.gz.sha256` beside it.
 * The same folder at the same `level` of gzip (null: its own default) gives the same bytes. Returns the archive's path.
 */
export async function archive(folder: string, output: string, level: number | null = null): Promise<string> {
  const name = basename(folder);
  const files = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => ({ path: join(entry.parentPath, entry.name), link: entry.isSymbolicLink() }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const sums: string[] = [];
  for (const { path, link } of files) {
    if (!link) sums.push(`${await sha256(path)}  ${path.slice(folder.length + 1)}`);
  }
  await writeFile(join(folder, 'SHA256SUMS'), `${sums.join('\n')}\n`);
  const inside = [join(folder, 'SHA256SUMS'), ...files.map(({ path }) => path)].map(
    (path) => `${name}/${path.slice(folder.length + 1)}`,
  );
  const made = join(output, `${name}.tar.gz`);
  const options = {
    cwd: dirname(folder),
    gzip: level === null ? true : { level },
    portable: true,
    mtime: MTIME,
    noDirRecurse: true,
  };
  // A reader never sees half an archive.
  await create({ ...options, file: `${made}.part` }, inside);
  await rename(`${made}.part`, made);
  await writeFile(`${made}.sha256`, `${await sha256(made)}  ${basename(made)}\n`);
  return made;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  // Thousands of small files: a stream for each would take longer than what is read.
  if ((await stat(path)).size <= wholeBytesMax) return hash.update(await readFile(path)).digest('hex');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
