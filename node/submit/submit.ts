import { asSuperfleetError } from '../../protocol/errors.ts';
import type { RepositoryBundle, RepositoryInput, TaskSpecInput } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { TaskObject } from '../api/objects.ts';
import { type Change, type Repository, uncommitted } from './repository.ts';
import { inputAt, recentCommits, sendBase } from './send.ts';

export interface Submission {
  client: Client;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
  /** Told what the task will run on, and what of the work tree does not go with it. */
  onInput?(input: RepositoryInput, dirty: Change[]): void;
}

/**
 * Submits a task that runs on `repository` at `ref`: sends what the mesh lacks of it, and then the task. Looking at the
 * repository and sending go on at the same time; the task is acknowledged when this resolves.
 */
export async function submit(
  repository: Repository,
  ref: string,
  spec: Omit<TaskSpecInput, 'repository'>,
  { client, env, signal, onInput }: Submission,
): Promise<TaskObject> {
  const dirty = uncommitted(repository);
  dirty.catch(() => {});
  const recent = await recentCommits(repository, ref);
  const send = (full: boolean): Promise<RepositoryBundle | null> =>
    sendBase(client, repository, recent, { full, env, ...(signal === undefined ? {} : { signal }) });
  const looked = Promise.all([inputAt(repository, ref, recent), dirty]).then((found) => {
    onInput?.(...found);
    return found;
  });
  // Whatever fails, nothing goes on behind the caller's back.
  const [sent, seen] = await Promise.allSettled([send(false), looked]);
  if (seen.status === 'rejected') throw seen.reason;
  if (sent.status === 'rejected') throw sent.reason;
  const bundle = sent.value;
  const [input] = seen.value;
  const post = (given: RepositoryBundle | null): Promise<TaskObject> =>
    client.post<TaskObject>('/v1/tasks', { spec: { ...spec, repository: input }, bundle: given });
  try {
    return await post(bundle);
  } catch (thrown) {
    // The chain of bundles that leads here has grown too long, or is gone: one that rests on nothing starts it anew.
    const whole = bundle !== null && bundle.prerequisites.length === 0;
    if (asSuperfleetError(thrown).code !== 'SF_REPOSITORY' || whole) throw thrown;
    return post(await send(true));
  }
}
