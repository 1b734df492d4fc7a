import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import type { RepositoryBundle } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { TaskObject } from '../api/objects.ts';

/** What is asked of the founder besides the work itself. */
export interface Asked {
  schedule?: Schedule;
  /** Refused where the same task is open already. */
  once?: true;
}

/** The task as the founder took it. */
export type Submitted = TaskObject & {
  /** Another open task of the same submitter that says the same. */
  twin?: string;
};

/** Sends a task. What a founder of an older release does not know is named as the person typed it. */
export async function postTask(
  client: Client,
  task: { spec: object; bundle: RepositoryBundle | null },
  asked: Asked,
): Promise<Submitted> {
  try {
    return await client.post<Submitted>('/v1/tasks', { ...task, ...asked });
  } catch (thrown) {
    throw Object.keys(asked).length === 0 ? thrown : unknownThere(thrown, flagsOf(asked));
  }
}

/** The same error; where the founder refused a field because it never heard of it, `SF_VERSION` naming the flags. */
export function unknownThere(thrown: unknown, flags: readonly string[]): unknown {
  const error = asSuperfleetError(thrown);
  if (error.code !== 'SF_USAGE' || !/^the request: Unrecognized key/.test(error.message)) return thrown;
  return new SuperfleetError(
    'SF_VERSION',
    `the founder runs an older release, which does not know ${flags.join(', ')}`,
    {
      expected: 'a founder of this release',
      got: error.message,
      hint: 'install this release on the machine of the founder, or leave that out; nothing was sent',
      cause: error,
    },
  );
}

const FLAGS: Record<keyof Schedule, string> = {
  priority: '--priority',
  deadlineMs: '--deadline',
  queueMs: '--queue-timeout',
  after: '--after',
  group: '--group',
  spread: '--spread and --apart',
  needs: '--need',
  key: '--key',
};

function flagsOf({ schedule = {}, once }: Asked): string[] {
  const flags = (Object.keys(schedule) as (keyof Schedule)[]).map((key) => FLAGS[key]);
  return once === true ? [...flags, '--once'] : flags;
}
