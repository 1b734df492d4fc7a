import { asSuperfleetError } from '../../protocol/errors.ts';
import type { RepositoryBundle, RepositoryInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import { manifestAt, type SpecToSend, withManifest } from './from-manifest.ts';
import { type Asked, postTask, type Submitted } from './post-task.ts';
import { type Change, type Repository, uncommitted } from './repository.ts';
import { inputAt, type OnProgress, recentCommits, sendBase } from './send.ts';
import { isBrought, makeSnapshot } from './snapshot.ts';
import { type StaysBehind, staysBehind } from './stays-behind.ts';

/** What a person wants to know of a submission before it runs. */
export interface Told extends StaysBehind {
  /** What of the work tree does not go along. */
  dirty: Change[];
  /** Its base is a snapshot made of this commit (null: before the first one); undefined: it is the person's commit. */
  snapshotOf?: string | null;
  /** Untracked repositories inside the work tree, which stay behind. */
  nested: string[];
  /** The clone is shallow, so that its files go without their history. */
  withoutHistory: boolean;
  /** The checks that the task is sent with. */
  checks: readonly string[];
  /** Fields of the base's `.superfleet.yaml` that hold for it, as nothing else was said. */
  fromManifest: readonly string[];
}

export interface Submission {
  client: Client;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
  /** Send the work tree as it is, by a snapshot of it; `ref` must be HEAD. @default false */
  includeDirty?: boolean;
  /** False: nothing of the repository is sent, as nothing is to run. @default true */
  upload?: boolean;
  /** Told what the task will run on, and what does not go with it. */
  onInput?(input: RepositoryInput, told: Told): void;
  onProgress?: OnProgress | undefined;
}

/** Submits one task: see `submitAll`. */
export const submit = (
  repository: Repository,
  ref: string,
  spec: SpecToSend,
  submission: Submission & { asked?: Asked },
): Promise<Submitted> =>
  submitAll(repository, ref, [spec], submission, ([only], bundle) =>
    postTask(submission.client, { spec: only!, bundle }, submission.asked ?? {}),
  );

/**
 * Submits tasks that run on `repository` at `ref`, by `post`: sends what the mesh lacks of it, and then the task, with checks and limits
 * of the base's `.superfleet.yaml` where `spec` names none. Looking at the
 * repository and sending go on at the same time; the tasks are acknowledged when this resolves. The repository is only
 * read.
 */
export async function submitAll<T>(
  repository: Repository,
  ref: string,
  specs: readonly SpecToSend[],
  submission: Submission,
  post: (
    specs: (SpecToSend & { repository: RepositoryInput })[],
    bundle: RepositoryBundle | null,
  ) => Promise<T>,
): Promise<T> {
  const { client, env, signal, includeDirty = false, upload = true, onInput, onProgress } = submission;
  const dirty = includeDirty ? Promise.resolve([]) : uncommitted(repository, 'folders');
  dirty.catch(() => {});
  // A shallow clone has the files and lacks the history that a bundle would have to carry.
  const asSnapshot = includeDirty || repository.shallow;
  using snapshot = asSnapshot ? await makeSnapshot(repository, ref, includeDirty, env, signal) : null;
  const from = snapshot?.repository ?? repository;
  const at = snapshot?.commit ?? ref;
  const recent = await recentCommits(from, at);
  const send = (full: boolean): Promise<RepositoryBundle | null> =>
    sendBase(client, from, recent, { full, env, onProgress, ...(signal && { signal }) });
  const base = recent[0]!.commit;
  const looked = Promise.all([
    inputAt(from, ref, recent),
    dirty,
    staysBehind(from, base, env, signal),
    manifestAt(from, base, env, signal),
  ]).then(([input, changes, behind, manifest]) => {
    const whole = specs.map((spec) => withManifest(spec, manifest));
    const [first] = whole;
    onInput?.(input, {
      ...behind,
      checks: first?.spec.checks ?? [],
      fromManifest: first?.taken ?? [],
      // The artifacts that earlier tasks brought are no work of anybody's.
      dirty: changes.filter((change) => !isBrought(change)),
      nested: snapshot?.nested ?? [],
      withoutHistory: repository.shallow,
      ...(snapshot && { snapshotOf: snapshot.of }),
    });
    return whole.map(({ spec }) => ({ ...spec, repository: input }));
  });
  // Whatever fails, nothing goes on behind the caller's back.
  const [sent, seen] = await Promise.allSettled([upload ? send(false) : null, looked]);
  if (seen.status === 'rejected') throw seen.reason;
  if (sent.status === 'rejected') throw sent.reason;
  const bundle = sent.value;
  try {
    return await post(seen.value, bundle);
  } catch (thrown) {
    // The chain of bundles that leads here has grown too long, or is gone: one that rests on nothing starts it anew.
    const whole = bundle !== null && bundle.prerequisites.length === 0;
    if (asSuperfleetError(thrown).code !== 'SF_REPOSITORY' || whole || !upload) throw thrown;
    return post(seen.value, await send(true));
  }
}
