import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobBytesMax } from '../../protocol/limits.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import type { Client } from '../api/client.ts';
import { bundleHeaderBytesMax, parseBundleHeader } from '../git/bundle-header.ts';
import { GitFailed, gitIn, gitWith } from './git.ts';
import { hasCommit, type Repository } from './repository.ts';
import { bareBeside } from './temporary.ts';

/** What a task gave, as the founder names it. */
export interface Given {
  task: string;
  /** null: the task began with an empty workspace. */
  base: string | null;
  commit: string;
  bundle: ResultBlob;
  /** Where the base comes from if it is a snapshot, which no repository holds until a result on it is placed. */
  source?: { blob: string; name: string } | null;
}

/** Downloads a blob into a file of this user; checks it against the digest the receipt signs, where there is one. */
export async function download(
  client: Client,
  blob: Pick<ResultBlob, 'blob'> & Partial<ResultBlob>,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  const hash = createHash('sha256');
  const bytesMax = blob.bytes ?? blobBytesMax;
  let bytes = 0;
  async function* checked(): AsyncGenerator<Uint8Array> {
    for await (const chunk of client.bytes(`/v1/blobs/${blob.blob}`, signal)) {
      bytes += chunk.byteLength;
      if (bytes > bytesMax) break;
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(checked, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
  const sha256 = hash.digest('hex');
  if (bytes > bytesMax || bytes !== (blob.bytes ?? bytes) || sha256 !== (blob.sha256 ?? sha256)) {
    await rm(path, { force: true });
    throw new SuperfleetError('SF_NOT_PROVED', 'what the founder sent is not what the receipt names', {
      expected: `${blob.bytes ?? `at most ${bytesMax}`} bytes${blob.sha256 === undefined ? '' : ` with SHA-256 ${blob.sha256}`}`,
      got: bytes > bytesMax ? `more than ${bytesMax} bytes` : `${bytes} bytes with SHA-256 ${sha256}`,
    });
  }
}

export interface Quarantined {
  /** The bare repository it was checked in. */
  path: string;
  /** Its ref in the bundle. */
  ref: string;
  /** Where its pack begins in the bundle. */
  packOffset: number;
  objects: number;
}

/**
 * Brings a result's bundle into a bare repository of its own under `folder`, beside the objects of `repository` (null:
 * of none), and answers with what it found. The header is checked first; then every object in it goes through git's fsck, and
 * everything it points at must be there. Nothing is checked out, no hook, template or attribute takes part, and the
 * submitter's repository is only read. Bytes that passed may be taken in.
 */
export async function quarantine(
  given: Pick<Given, 'base' | 'commit'>,
  bundle: string,
  repository: Repository | null,
  folder: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<Quarantined> {
  const file = await open(bundle, 'r');
  try {
    const header = await headerOf(file);
    const sent = header.refs[0];
    if (sent?.commit !== given.commit) {
      throw refused(`it carries ${sent?.commit ?? 'nothing'}`, `commit ${given.commit}`);
    }
    if (repository !== null && header.objectFormat !== repository.objectFormat) {
      throw refused(`objects of ${header.objectFormat}`, `objects of ${repository.objectFormat}`);
    }
    for (const commit of header.prerequisites) {
      if (commit === given.base && repository !== null) continue; // The caller has looked for it.
      if (repository === null || !(await hasCommit(repository, commit)))
        throw otherRepository(repository, commit);
    }
    const path = join(folder, 'received.git');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    bareBeside(path, { objects: repository?.objects ?? '', objectFormat: header.objectFormat }, null);
    // Taking in a bundle checks nothing; reading its pack with `--strict` does, before git could use an object of it.
    const unpack = ['index-pack', '--stdin', '--fix-thin', '--strict'];
    await gitWith({ stdin: file.fd, stdout: null }, path, unpack, env, signal);
    const without = header.prerequisites.map((commit) => `^${commit}`);
    await gitIn(path, env, signal)(['rev-list', '--objects', '--quiet', given.commit, ...without]);
    return { path, ref: sent.name, packOffset: header.packOffset, objects: header.objects };
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    throw refused(thrown.message, 'a bundle whose objects pass git fsck', thrown);
  } finally {
    await file.close();
  }
}

/** Reads just the header, so that the file stands where its pack begins. */
async function headerOf(file: FileHandle): Promise<ReturnType<typeof parseBundleHeader>> {
  const buffer = Buffer.alloc(bundleHeaderBytesMax + 64);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  try {
    const header = parseBundleHeader(buffer.subarray(0, bytesRead));
    await file.read(buffer, 0, header.packOffset, null);
    return header;
  } catch (thrown) {
    throw refused(thrown instanceof Error ? thrown.message : String(thrown), 'a bundle with one ref', thrown);
  }
}

const refused = (got: string, expected: string, cause?: unknown): SuperfleetError =>
  new SuperfleetError('SF_NOT_PROVED', 'the bundle of the result is not taken in', {
    expected,
    got,
    hint: 'nothing was changed here; the member that made it is named by: task describe',
    cause,
  });

/** `SF_REPOSITORY`: this is not where the task came from. */
export function otherRepository(repository: Repository | null, commit: string): SuperfleetError {
  return new SuperfleetError('SF_REPOSITORY', 'the task did not run on this repository', {
    expected: `a repository with the commit ${commit}`,
    got: repository === null ? 'no repository' : repository.folder,
    hint: 'go into the repository the task was sent from, or name it with --repo',
  });
}
