import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import type { Client } from '../api/client.ts';
import { bundleHeaderBytesMax, parseBundleHeader } from '../git/bundle-header.ts';
import { GitFailed, gitIn } from './git.ts';
import { hasCommit, type Repository } from './repository.ts';
import { bareBeside } from './temporary.ts';

/** What a task gave, as the founder names it. */
export interface Given {
  task: string;
  /** null: the task began with an empty workspace. */
  base: string | null;
  commit: string;
  bundle: ResultBlob;
}

/** Downloads a blob into a file of this user and checks it against the digest the receipt signs. */
export async function download(
  client: Client,
  blob: ResultBlob,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  async function* checked(): AsyncGenerator<Uint8Array> {
    for await (const chunk of client.bytes(`/v1/blobs/${blob.blob}`, signal)) {
      bytes += chunk.byteLength;
      if (bytes > blob.bytes) break;
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(checked, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
  const sha256 = hash.digest('hex');
  if (bytes !== blob.bytes || sha256 !== blob.sha256) {
    await rm(path, { force: true });
    throw new SuperfleetError('SF_NOT_PROVED', 'what the founder sent is not what the receipt names', {
      expected: `${blob.bytes} bytes with SHA-256 ${blob.sha256}`,
      got: bytes > blob.bytes ? `more than ${blob.bytes} bytes` : `${bytes} bytes with SHA-256 ${sha256}`,
    });
  }
}

/**
 * Brings a result's bundle into a bare repository of its own under `folder`, beside the objects of `repository` (null:
 * of none), and answers its path and ref. The header is checked first; every object that is new has gone through git's
 * fsck on its way into the second of two repositories (a bundle is taken in unchecked, a fetch is not). Nothing is
 * checked out, no hook, template or attribute takes part, and the submitter's repository is only read.
 */
export async function quarantine(
  given: Given,
  bundle: string,
  repository: Repository | null,
  folder: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<{ path: string; ref: string }> {
  const header = await headerOf(bundle);
  const sent = header.refs[0];
  if (sent?.commit !== given.commit) {
    throw refused(`it carries ${sent?.commit ?? 'nothing'}`, `commit ${given.commit}`);
  }
  if (repository !== null && header.objectFormat !== repository.objectFormat) {
    throw refused(`objects of ${header.objectFormat}`, `objects of ${repository.objectFormat}`);
  }
  for (const commit of header.prerequisites) {
    if (repository === null || !(await hasCommit(repository, commit)))
      throw otherRepository(repository, commit);
  }
  const beside = { objects: repository?.objects ?? '', objectFormat: header.objectFormat };
  const received = join(folder, 'received.git');
  const checked = join(folder, 'checked.git');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  bareBeside(received, beside, null);
  bareBeside(checked, beside, null);
  const ref = `refs/heads/mesh/${given.task}`;
  const fetch = (from: string, refspec: string): string[] => [
    'fetch',
    '--quiet',
    '--no-tags',
    '--no-write-fetch-head',
    '--no-auto-gc',
    '--no-recurse-submodules',
    from,
    refspec,
  ];
  try {
    await gitIn(received, env, signal)(fetch(bundle, `${sent.name}:${ref}`));
    await gitIn(checked, env, signal)(fetch(received, `${ref}:${ref}`));
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    throw refused(thrown.message, 'a bundle whose objects pass git fsck', thrown);
  }
  return { path: checked, ref };
}

async function headerOf(bundle: string): Promise<ReturnType<typeof parseBundleHeader>> {
  const file = await open(bundle, 'r');
  try {
    const buffer = Buffer.alloc(bundleHeaderBytesMax + 64);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return parseBundleHeader(buffer.subarray(0, bytesRead));
  } catch (thrown) {
    throw refused(thrown instanceof Error ? thrown.message : String(thrown), 'a bundle with one ref', thrown);
  } finally {
    await file.close();
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
