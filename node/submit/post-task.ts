import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import type { RepositoryBundle } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { Page, TaskObject } from '../api/objects.ts';

/** What is asked of the founder besides the work itself. */
export interface Asked {
  schedule?: Schedule;
  /** Refused where the same task is open already. */
  once?: true;
  /** What is said where no machine fits; `refuse`: refused where none ever can. A founder of an older release queues it. */
  unmet?: 'refuse' | 'say';
}

/** The task as the founder took it. */
export type Submitted = TaskObject & {
  /** Another open task of the same submitter that says the same. */
  twin?: string;
  /** What it waits for that is no matter of time, in words. */
  waits?: string | null;
};

/** Sends a task. What a founder of an older release does not know is named as the person typed it. */
export async function postTask(
  client: Client,
  task: { spec: object; bundle: RepositoryBundle | null },
  asked: Asked,
): Promise<Submitted> {
  const { unmet, ...besides } = asked;
  const path = unmet === undefined ? '/v1/tasks' : `/v1/tasks?unmet=${unmet}`;
  try {
    return await client.post<Submitted>(path, { ...task, ...besides });
  } catch (thrown) {
    throw Object.keys(besides).length === 0 ? thrown : unknownThere(thrown, flagsOf(asked));
  }
}

/** The same error; where the founder has no such route, `SF_VERSION` naming what asked for it. */
export function noRouteThere(thrown: unknown, flag: string): unknown {
  const error = asSuperfleetError(thrown);
  if (error.code !== 'SF_NOT_FOUND' || error.message !== 'there is no such route') return thrown;
  return olderFounder(flag, error);
}

/** The same error; where the founder refused a field because it never heard of it, `SF_VERSION` naming the flags. */
export function unknownThere(thrown: unknown, flags: readonly string[]): unknown {
  const error = asSuperfleetError(thrown);
  if (error.code !== 'SF_USAGE' || !/^(the request|schedule): Unrecognized key/.test(error.message))
    return thrown;
  return olderFounder(flags.join(', '), error);
}

const olderFounder = (what: string, error: SuperfleetError): SuperfleetError =>
  new SuperfleetError('SF_VERSION', `the founder runs an older release, which does not know ${what}`, {
    expected: 'a founder of this release',
    got: error.message,
    hint: 'install this release on the machine of the founder, or leave that out; nothing was sent',
    cause: error,
  });

const FLAGS: Record<keyof Schedule, string> = {
  priority: '--priority',
  deadlineMs: '--deadline',
  queueMs: '--queue-timeout',
  after: '--after',
  group: '--group',
  spread: '--spread and --apart',
  needs: '--need',
  replicas: '--replicas',
  key: '--key',
};

export function flagsOf({ schedule = {}, once }: Asked): string[] {
  const flags = (Object.keys(schedule) as (keyof Schedule)[]).map((key) => FLAGS[key]);
  return once === true ? [...flags, '--once'] : flags;
}

/** Several tasks at once. */
export interface BatchPart {
  spec: object;
  asked: Asked;
  /** By which others of the batch name it. */
  name?: string | undefined;
  /** Names of others of the batch, or ids of tasks. */
  after?: string[] | undefined;
}

/** Sends them all, or none. */
export async function postBatch(
  client: Client,
  parts: readonly BatchPart[],
  bundle: RepositoryBundle | null,
  unmet: 'refuse' | 'say',
): Promise<TaskObject[]> {
  const items = parts.map(({ asked: { unmet: _, ...asked }, ...part }) => ({ ...part, ...asked, bundle }));
  try {
    const made = await client.post<Page<TaskObject>>(`/v1/batches?unmet=${unmet}`, { items });
    return made.items;
  } catch (thrown) {
    throw noRouteThere(thrown, 'several tasks at once');
  }
}
