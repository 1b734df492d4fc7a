import { channel } from 'node:diagnostics_channel';

/** The channel that `mark` publishes on: `{ task, step }`, at the moment it happens. */
export const TIMING_CHANNEL = 'superfleet:timing';

const timing = channel(TIMING_CHANNEL);

/** Says that a step of a task (`''`: of one that has no id yet) was reached, to whoever measures this process. With nobody listening it is one look at a flag. */
export function mark(task: string, step: string): void {
  if (timing.hasSubscribers) timing.publish({ task, step });
}

/** Somebody in this process measures. */
export const isTimed = (): boolean => timing.hasSubscribers;
