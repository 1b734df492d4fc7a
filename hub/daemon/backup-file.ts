import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { extract, type Header } from 'tar-stream';
import { z } from 'zod';
import { type VerifyReport, verifyExport } from '../../ledger/log/verify.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { count, meshId, sha256Hex } from '../../protocol/ids.ts';

/** Last file of a backup: what the others are, so that one that was cut or changed is told. */
export const LIST = 'backup.json';
/** What else may be in one; `restore` writes nothing of another name. */
const NAME =
  /^(config\.json|identity\.key|log\.key|secrets\.json|log\/[0-9]{16}\.jsonl|blobs\/[0-9a-f]{64})$/;
const listBytesMax = 256 * 1024 * 1024;

const list = z.strictObject({
  format: z.literal(1),
  mesh: meshId,
  size: count,
  root: sha256Hex,
  /** Unix ms. */
  time: count,
  blobs: z.boolean(),
  secrets: z.boolean(),
  files: z.array(z.strictObject({ name: z.string().regex(NAME), bytes: count, sha256: sha256Hex })),
});
/** What a backup holds. */
export type BackupList = z.infer<typeof list>;

type Read = (name: string, bytes: AsyncIterable<Uint8Array>) => Promise<void>;

/** Hands on each file of an archive in order; one that is not read is passed over. */
async function eachFile(file: FileHandle, read: Read): Promise<void> {
  const archive = extract();
  const source = file.createReadStream({ start: 0, autoClose: false });
  source.on('error', (error) => archive.destroy(error));
  source.pipe(archive);
  try {
    for await (const entry of archive) {
      const { name, type } = entry.header as Header;
      if (type !== 'file' || (name !== LIST && !NAME.test(name))) throw noBackup(`a ${type} named ${name}`);
      await read(name, entry as AsyncIterable<Uint8Array>);
      entry.resume();
    }
  } catch (error) {
    throw error instanceof SuperfleetError ? error : noBackup((error as Error).message);
  }
}

/**
 * Checks a whole backup: every file against the list, the log line by line. `SF_NOT_PROVED` or `SF_LOG_DAMAGED` where
 * anything does not hold.
 */
export async function verifyBackup(file: FileHandle, path: string): Promise<BackupList> {
  const found: BackupList['files'] = [];
  let last: BackupList | null = null;
  await eachFile(file, async (name, bytes) => {
    if (last !== null) throw noBackup(`${name} behind its list`);
    if (name === LIST) {
      last = parseList(await collectBytes(bytes, listBytesMax, () => noBackup('a list without end')));
      return;
    }
    const hash = createHash('sha256');
    let length = 0;
    for await (const chunk of bytes) {
      hash.update(chunk);
      length += chunk.length;
    }
    found.push({ name, bytes: length, sha256: hash.digest('hex') });
  });
  if (last === null) throw noBackup('it has no list: it was cut off');
  const listed: BackupList = last;
  if (JSON.stringify(found) !== JSON.stringify(listed.files)) {
    const at = listed.files.findIndex((each, n) => JSON.stringify(each) !== JSON.stringify(found[n]));
    throw noBackup(`${listed.files[at]?.name ?? found.at(-1)?.name ?? 'a file'} is not as it was written`);
  }
  const report = await verifyLogIn(file, path);
  if (report.mesh !== listed.mesh || report.size !== listed.size || report.root !== listed.root) {
    throw noBackup('its log is not the one that its list names');
  }
  return listed;
}

function parseList(bytes: Uint8Array): BackupList {
  try {
    return list.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch (cause) {
    throw noBackup((cause as Error).message.slice(0, 200));
  }
}

/** The segments in an archive, one behind the other: an export. */
async function verifyLogIn(file: FileHandle, path: string): Promise<VerifyReport> {
  const pipe = new TransformStream<Uint8Array, Uint8Array>();
  const writer = pipe.writable.getWriter();
  const read = eachFile(file, async (name, bytes) => {
    if (!name.startsWith('log/')) return;
    for await (const chunk of bytes) await writer.write(chunk);
  }).then(
    () => writer.close(),
    (error) => writer.abort(error),
  );
  const [report] = await Promise.all([verifyExport(pipe.readable, `the log in ${path}`), read]);
  return report;
}

/** Calls back with each file but the list, of a backup that `verifyBackup` has passed. */
export const unpack = (file: FileHandle, read: Read): Promise<void> =>
  eachFile(file, async (name, bytes) => {
    if (name !== LIST) await read(name, bytes);
  });

const noBackup = (why: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', `this is no whole backup: ${why}`, {
    expected: 'a file that `mesh-hub backup` wrote',
    got: why.slice(0, 200),
    hint: 'take another backup',
  });
