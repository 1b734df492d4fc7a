import { createReadStream, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { blobBytesMax } from '../../protocol/limits.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import type { RepositoryBundle, RepositoryInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import { mark } from '../timing.ts';
import { GitFailed, gitWith } from './git.ts';
import { type Repository, resolveRef } from './repository.ts';
import { bareBeside, TemporaryFolder } from './temporary.ts';

/** Recent commits the founder is asked about. */
export const candidatesMax = 256;
/** Commits a bundle may rest on (the log's bound); past it the bundle is whole. */
const prerequisitesMax = 64;

/** Told how far it is: objects that were bundled, or bytes that were sent, of so many. */
export type OnProgress = (step: 'bundling' | 'sending', done: number, total: number) => void;

/** A bundle on this disk, not yet sent. Its bytes are `header`, then the file. */
export interface MadeBundle {
  path: string;
  header: Buffer;
  bytes: number;
  commit: string;
  prerequisites: string[];
}

/** What a task says about its repository: where it stands and which it is. */
export async function describeInput(repository: Repository, ref: string): Promise<RepositoryInput> {
  return inputAt(repository, ref, await recentCommits(repository, ref));
}

/** As `describeInput`, for a `ref` whose recent commits are these. */
export async function inputAt(
  repository: Repository,
  ref: string,
  recent: Recent[],
): Promise<RepositoryInput> {
  const base = recent[0]!.commit;
  const here = recent.length < candidatesMax ? recent.find(({ parents }) => parents.length === 0) : undefined;
  const roots = here?.commit ?? (await repository.git(['rev-list', '--max-parents=0', base]));
  return { id: roots.split('\n')[0] ?? '', name: repository.name, ref, base };
}

/**
 * Writes a bundle of `base` and what `prerequisites` do not reach, into `folder`; without any it is whole. The ref
 * inside is `refs/heads/base`. The repository itself is only read.
 */
export async function makeBundle(
  repository: Repository,
  base: string,
  prerequisites: string[],
  folder: string,
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
  onProgress?: OnProgress,
): Promise<MadeBundle> {
  const beside = join(folder, 'beside.git');
  const path = join(folder, 'base.pack');
  bareBeside(beside, repository, base);
  const revisions = [base, ...prerequisites.map((commit) => `^${commit}`), ''].join('\n');
  const pack = await open(path, 'wx', 0o600);
  try {
    // What `git bundle create` does, with the header below: its own names the boundary it finds. Where branches were
    // merged that has commits the mesh knows only as ancestors of what it was sent; whoever has those it knows has them.
    const talk = onProgress === undefined ? '--quiet' : '--all-progress';
    const args = ['pack-objects', talk, '--revs', '--thin', '--stdout', '--delta-base-offset'];
    const onSaid = (words: string): void => {
      const said = [...words.matchAll(/Writing objects: +\d+% \((\d+)\/(\d+)\)/g)].at(-1);
      if (said !== undefined) onProgress?.('bundling', Number(said[1]), Number(said[2]));
    };
    await gitWith({ stdin: revisions, stdout: pack.fd, onSaid }, beside, args, env, signal);
  } catch (thrown) {
    if (!(thrown instanceof GitFailed)) throw thrown;
    throw new SuperfleetError('SF_REPOSITORY', 'git could not bundle the repository', {
      expected: 'a repository with all objects of its history',
      got: thrown.message,
      hint: 'git fsck says what is missing; a partial clone gets the rest by: git fetch --refetch --no-filter',
      cause: thrown,
    });
  } finally {
    await pack.close();
  }
  const header = headerOf(repository.objectFormat, base, prerequisites);
  const size = header.length + statSync(path).size;
  if (size > blobBytesMax) {
    throw new SuperfleetError('SF_REPOSITORY', 'the repository is too large to be sent', {
      expected: `a bundle of at most ${blobBytesMax} bytes`,
      got: `${size} bytes`,
    });
  }
  return { path, header, bytes: size, commit: base, prerequisites };
}

/** What stands before the pack (gitformat-bundle), the empty line included. */
function headerOf(format: 'sha1' | 'sha256', base: string, prerequisites: string[]): Buffer {
  const head = format === 'sha1' ? ['# v2 git bundle'] : ['# v3 git bundle', '@object-format=sha256'];
  const lines = [...head, ...prerequisites.map((commit) => `-${commit} `), `${base} refs/heads/base`, '', ''];
  return Buffer.from(lines.join('\n'), 'latin1');
}

/** The bundle's bytes as they are sent. */
export async function* bundleBytes(made: MadeBundle, onProgress?: OnProgress): AsyncGenerator<Uint8Array> {
  yield made.header;
  let sent = made.header.length;
  for await (const chunk of createReadStream(made.path, { highWaterMark: 1024 * 1024 })) {
    yield chunk as Uint8Array;
    sent += (chunk as Uint8Array).byteLength;
    onProgress?.('sending', sent, made.bytes);
  }
}

/** A recent commit and what it was made on. */
export interface Recent {
  commit: string;
  parents: string[];
}

/** The commit a person means by `ref`, and after it the newest that it is made of. Errors as of `resolveRef`. */
export async function recentCommits(repository: Repository, ref: string): Promise<Recent[]> {
  const list = (commit: string): Promise<string> =>
    repository.git(['rev-list', '--parents', `--max-count=${candidatesMax}`, commit]);
  // One command does for a plain name that is there; all else, and the words about what is not, are `resolveRef`'s.
  const plain = /^[A-Za-z0-9_@][A-Za-z0-9_@{}/.-]{0,255}$/.test(ref) && !ref.includes('..');
  const found = plain ? await list(`${ref}^{commit}`).catch(() => '') : '';
  const text = found === '' ? await list(await resolveRef(repository, ref)) : found;
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [commit = '', ...parents] = line.split(' ');
      return { commit, parents };
    });
}

/**
 * Those commits the mesh holds that no other held one reaches: all the bundle has to rest on. Told from the recent ones
 * alone; what is reached by older ones only is named besides, which costs nothing.
 */
function newestHeld(recent: Recent[], held: ReadonlySet<unknown>): string[] {
  const parentsOf = new Map(recent.map(({ commit, parents }) => [commit, parents]));
  const reached = new Set<string>();
  for (const { commit } of recent) {
    if (!held.has(commit) || reached.has(commit)) continue;
    const waiting = [...(parentsOf.get(commit) ?? [])];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (reached.has(next)) continue;
      reached.add(next);
      waiting.push(...(parentsOf.get(next) ?? []));
    }
  }
  const newest = recent
    .map(({ commit }) => commit)
    .filter((commit) => held.has(commit) && !reached.has(commit));
  return newest.length > prerequisitesMax ? [] : newest;
}

/** Sends what the mesh lacks of the first of `recent`, and says how it got there; null: it has it already. */
export async function sendBase(
  client: Client,
  repository: Repository,
  recent: Recent[],
  options: {
    full: boolean;
    env: Record<string, string | undefined>;
    signal?: AbortSignal;
    onProgress?: OnProgress | undefined;
  },
): Promise<RepositoryBundle | null> {
  const { env, signal, onProgress } = options;
  const base = recent[0]!.commit;
  let known: string[] = [];
  if (!options.full) {
    const commits = recent.map(({ commit }) => commit);
    const answer = await client.post<{ commits?: unknown }>('/v1/repositories/known', { commits });
    const held = new Set<unknown>(Array.isArray(answer.commits) ? answer.commits : []);
    if (held.has(base)) return null;
    known = newestHeld(recent, held);
  }
  using folder = new TemporaryFolder();
  const made = await makeBundle(repository, base, known, folder.path, env, signal, onProgress);
  mark('', 'submit.bundled');
  const sent = await client.upload<ResultBlob>('POST', '/v1/blobs', bundleBytes(made, onProgress), signal);
  mark('', 'submit.uploaded');
  return { commit: base, bundle: sent.blob, prerequisites: made.prerequisites };
}
