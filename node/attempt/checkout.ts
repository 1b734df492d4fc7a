import { createWriteStream } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { RepositoryBundle, RepositoryInput } from '../../protocol/task.ts';
import { AttemptRepository, type BundleFile } from '../git/attempt-repository.ts';
import { checkBundle } from '../git/bundle-header.ts';
import type { Change } from '../git/changes.ts';
import { GitFault } from '../git/fault.ts';
import type { Mount } from '../sandbox/types.ts';
import type { AttemptContext } from './context.ts';

/** Where the steps of an attempt run. */
export interface Place {
  path: string;
  /** What a step of the task sees. */
  mounts: Mount[];
  /** Null: the task has no repository. */
  repository: AttemptRepository | null;
}

/** The workspace of an attempt, checked out or empty. */
export interface Checkout extends Place {
  rawCommit: Buffer | null;
  changes: Change[];
  /** The commit that the workspace begins with; null: the base. */
  start: string | null;
}

/** For a verifier: the commit to check out instead of the base. */
export interface ResultToCheck {
  commit: string;
  bundle: BundleFile;
}

/** Its bundle as it is announced: fetched with what else is missing, and looked at when it is here. */
export interface ResultBundle {
  blob: string;
  look(): Promise<ResultToCheck>;
}

/** An empty workspace; for tasks without a repository. */
export async function emptyWorkspace(work: string): Promise<Checkout> {
  const path = join(work, 'workspace');
  await mkdir(path, { recursive: true });
  const mounts = [{ from: path, to: '/workspace', writable: true }];
  return { path, mounts, repository: null, rawCommit: null, changes: [], start: null };
}

/**
 * Fetches what the cache lacks, unpacks it, checks out. Where a checkout fails that rests on the cache, everything
 * is fetched once more, so that a damaged cache heals itself and never costs a task. `meanwhile` is called while git is
 * at work, with the place that the steps will see.
 */
export async function checkOut(
  context: AttemptContext,
  input: RepositoryInput,
  result: ResultBundle | null,
  meanwhile: (checkout: Place) => void,
): Promise<Checkout> {
  const { assignment, cache, work } = context;
  const blobs = assignment.bundles.map((bundle) => bundle.bundle);
  const attempt = async (folder: string, fresh: boolean): Promise<Checkout & { usedCache: boolean }> => {
    const path = join(folder, 'workspace');
    await mkdir(path, { recursive: true });
    const repository = new AttemptRepository(context.sandbox, folder, path, assignment.task, input.base);
    const linked = fresh ? [] : blobs;
    const make = async (missing: readonly string[]): Promise<Checkout & { usedCache: boolean }> => {
      const place: Place = { path, mounts: repository.taskMounts, repository };
      const prepared = await prepare(context, repository, input, missing, result, () => meanwhile(place));
      return {
        ...place,
        ...prepared,
        start: null,
        usedCache: missing.length < blobs.length,
      };
    };
    const missing = await repository.open(cache, input.id, linked);
    const wanted = fresh ? blobs : missing;
    if (wanted.length === 0) return make(wanted);
    return cache.inTurn(input.id, async () => {
      context.signal.throwIfAborted();
      return make(fresh ? wanted : await repository.open(cache, input.id, linked));
    });
  };
  try {
    return await attempt(join(work, 'first'), false);
  } catch (error) {
    const mayBeTheCache = error instanceof GitFault && blobs.length > 0;
    if (!mayBeTheCache || !(await anyHeld(context, input, blobs))) throw error;
    return attempt(join(work, 'again'), true);
  }
}

/** Does the cache hold any of these bundles from before? */
async function anyHeld(
  context: AttemptContext,
  input: RepositoryInput,
  blobs: readonly string[],
): Promise<boolean> {
  const folder = join(context.work, 'held', 'pack');
  await mkdir(folder, { recursive: true });
  for (const blob of blobs) if (await context.cache.linkInto(input.id, blob, folder)) return true;
  return false;
}

async function prepare(
  context: AttemptContext,
  repository: AttemptRepository,
  input: RepositoryInput,
  missing: readonly string[],
  resultBundle: ResultBundle | null,
  meanwhile: () => void,
): Promise<{ rawCommit: Buffer | null; changes: Change[] }> {
  const { assignment, cache, hooks, signal } = context;
  const last = assignment.bundles.at(-1)?.bundle ?? null;
  const known = last === null ? null : await cache.size(input.id, last, input.base);
  const announced = assignment.bundles.filter((bundle) => missing.includes(bundle.bundle));
  // Once the cache has them, or nothing came of it, nobody here needs the bundles themselves.
  for (const blob of missing) context.blobs.hold(blob);
  try {
    await fetchBlobs(context, resultBundle === null ? missing : [...missing, resultBundle.blob]);
    const result = resultBundle === null ? null : await resultBundle.look();
    const files = await Promise.all(announced.map((bundle) => inputFile(context, bundle)));
    hooks.progress('prepare', context.log.bytes);
    const { size, rawCommit, changes } = await repository.prepare(
      files,
      known,
      result,
      assignment.spec.limits.workspaceBytes,
      (blob, packs) => cache.add(input.id, blob, packs),
      meanwhile,
      signal,
    );
    if (size !== null && size.commit === input.base && last !== null) {
      await cache.setSize(input.id, last, size);
    }
    return { rawCommit, changes };
  } finally {
    for (const blob of missing) context.blobs.release(blob);
  }
}

/** Asks for those blobs that this member's store has not; rejects with the signal's reason once that is aborted. */
export async function fetchBlobs(context: AttemptContext, blobs: readonly string[]): Promise<void> {
  const { hooks, signal } = context;
  hooks.progress('fetch', context.log.bytes);
  await context.blobs.settled();
  const held = await Promise.all(blobs.map((blob) => context.blobs.store.has(blob)));
  const lacking = blobs.filter((_, index) => held[index] !== true);
  if (lacking.length > 0) await unlessAborted(hooks.fetch(lacking, signal), signal);
  signal.throwIfAborted();
}

async function inputFile(context: AttemptContext, bundle: RepositoryBundle): Promise<BundleFile> {
  const file = await blobFile(context, bundle.bundle);
  await checkBundle(file.path, { commit: bundle.commit, prerequisites: bundle.prerequisites, ref: null });
  return file;
}

/** A blob as a file that a sandbox can read. */
export async function blobFile(context: AttemptContext, blob: string): Promise<BundleFile> {
  const path = await context.blobs.store.path(blob);
  if (path !== null) return { blob, path, bytes: (await stat(path)).size };
  const folder = join(context.work, 'in');
  await mkdir(folder, { recursive: true });
  const copy = join(folder, blob);
  await pipeline(context.blobs.store.read(blob), createWriteStream(copy));
  return { blob, path: copy, bytes: (await stat(copy)).size };
}

/** What `work` gives, or the signal's reason as soon as it is aborted, however long `work` goes on. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
    aborted.catch(() => {});
    work.catch(() => {});
  }
}
