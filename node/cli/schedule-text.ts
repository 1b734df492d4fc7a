import { formatDuration } from '../../protocol/duration.ts';
import type { MachineNeeds, Schedule, Spreading } from '../../protocol/schedule.ts';
import { formatSize } from '../../protocol/size.ts';

/** When and where a task may run, a field each in the words of the flags; none where nothing was asked. */
export function scheduleFields(asked: Schedule | null | undefined): [string, string][] {
  if (asked == null) return [];
  const { priority, deadlineMs, queueMs, after, group, spread, needs, replicas, key } = asked;
  const fields: [string, string | null][] = [
    ['priority', priority === undefined ? null : String(priority)],
    ['deadline', deadlineMs === undefined ? null : `${formatDuration(deadlineMs)} after it was submitted`],
    ['queue timeout', queueMs === undefined ? null : formatDuration(queueMs)],
    ['after', after === undefined ? null : after.join(', ')],
    ['group', group === undefined ? null : `${group.name}, at most ${group.limit} at one time`],
    [spread?.strict === true ? 'apart' : 'spread', spread === undefined ? null : spreadText(spread)],
    ['needs', needs === undefined ? null : needsText(needs)],
    ['replicas', replicas === undefined ? null : `${replicas}, which must make the same`],
    ['key', key ?? null],
  ];
  return fields.filter((field): field is [string, string] => field[1] !== null && field[1] !== '');
}

const spreadText = ({ name, over }: Spreading): string =>
  over === null ? `${name}, over machines` : `${name}, over the label ${over}`;

function needsText({ cpus, memoryBytes, diskBytes, strictLimits }: MachineNeeds): string {
  return [
    ...(cpus === undefined ? [] : [`cpus=${cpus}`]),
    ...(memoryBytes === undefined ? [] : [`memory=${formatSize(memoryBytes)}`]),
    ...(diskBytes === undefined ? [] : [`disk=${formatSize(diskBytes)}`]),
    ...(strictLimits === true ? ['strict-limits'] : []),
  ].join(', ');
}
