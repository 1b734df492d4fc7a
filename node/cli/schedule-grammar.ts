import {
  afterMax,
  deadlineMsMax,
  groupLimitMax,
  priorityDefault,
  priorityMax,
  replicasMax,
} from '../../protocol/limits.ts';
import type { MachineNeeds, Schedule, Spreading } from '../../protocol/schedule.ts';
import { usageError } from './usage-errors.ts';
import * as v from './values.ts';

/** What a submitter says about when and where a task runs, and how it is sent. */
export interface ScheduleWishes {
  /** Only what was asked for; null: nothing was. */
  schedule: Schedule | null;
  /** Refused where the same task is open already. */
  once: boolean;
  /** Queued also where no machine of the mesh can ever take it. */
  allowWaiting: boolean;
  /** Nothing is sent; what would come of it is told. */
  dryRun: boolean;
}

const nameForm = /^[A-Za-z0-9]([A-Za-z0-9._/-]{0,62}[A-Za-z0-9])?$/;
const labelForm = /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/;
const nameWords = '1–64 letters, digits, . _ / -';

const wrong = (what: string, expected: string, got: string, hint: string | null = null): Error =>
  usageError(`${what} is not of the form asked for`, { expected, got, hint });

const after = (text: string, before: string[] = []): string[] => {
  const id = v.matching(
    '--after',
    /^[a-z2-7]{12}$/,
    'a task id: 12 characters a–z 2–7',
    '"task list" names them',
  )(text);
  if (before.includes(id)) return before;
  if (before.length >= afterMax) throw wrong('--after', `at most ${afterMax} tasks`, `${afterMax + 1}`);
  return [...before, id];
};

/** `NAME` or `NAME=N`. */
const group = (text: string): NonNullable<Schedule['group']> => {
  const at = text.indexOf('=');
  const name = at === -1 ? text : text.slice(0, at);
  if (!nameForm.test(name)) throw wrong('--group', `NAME or NAME=N, NAME being ${nameWords}`, text);
  const limit = at === -1 ? 1 : v.integer('--group', 1, groupLimitMax)(text.slice(at + 1));
  return { name, limit };
};

/** `NAME` or `NAME:LABEL`. */
const apart =
  (flag: string, strict: boolean) =>
  (text: string): Spreading => {
    const [name = '', ...rest] = text.split(':');
    const over = rest.length === 0 ? null : rest.join(':');
    if (!nameForm.test(name) || (over !== null && !labelForm.test(over)))
      throw wrong(flag, `NAME or NAME:LABEL, NAME being ${nameWords}, LABEL the key of a label`, text);
    return { name, over, strict };
  };

const machineForm = 'cpus=N, memory=SIZE, disk=SIZE or strict-limits, by comma';

/** `cpus=4,memory=16GiB`, gathered. */
const needs = (text: string, before: MachineNeeds = {}): MachineNeeds => {
  const gathered = { ...before };
  const take = <K extends keyof MachineNeeds>(key: K, word: string, value: MachineNeeds[K]): void => {
    if (gathered[key] !== undefined && gathered[key] !== value)
      throw usageError(`--need ${word} was said twice`, {
        expected: 'one value',
        got: text,
        hint: 'the larger of the two is the one that is needed',
      });
    gathered[key] = value;
  };
  for (const word of text.split(',')) {
    const [key = '', value] = word.split(/=(.*)/s);
    if (word === 'strict-limits') take('strictLimits', word, true);
    else if (value === undefined) throw wrong('--need', machineForm, text);
    else if (key === 'cpus') take('cpus', key, v.integer('--need cpus', 1, 65_536)(value));
    else if (key === 'memory' || key === 'disk')
      take(key === 'memory' ? 'memoryBytes' : 'diskBytes', key, someBytes(`--need ${key}`, value));
    else throw wrong('--need', machineForm, text);
  }
  return gathered;
};

function someBytes(what: string, text: string): number {
  const bytes = v.size(what)(text);
  if (bytes < 1 || bytes > 2 ** 50) throw wrong(what, 'a size from 1B to 1024TiB, such as 16GiB', text);
  return bytes;
}

/** Options of every way to send work. */
export const scheduleOptions = () => [
  v.option(
    '--priority <n>',
    `higher ones go first, 0 to ${priorityMax} (default: ${priorityDefault}; above that only the operator)`,
    v.integer('--priority', 0, priorityMax),
  ),
  v.option(
    '--deadline <duration>',
    'fail unless it is done so long from now',
    v.duration('--deadline', deadlineMsMax),
  ),
  v.option(
    '--queue-timeout <duration>',
    'fail unless a machine has begun it so long from now',
    v.duration('--queue-timeout', deadlineMsMax),
  ),
  v.option('--after <task>', 'only once this task was delivered; repeatable', after),
  v.option('--group <name[=n]>', 'at most n tasks of this group run at one time (default: 1)', group),
  v.option(
    '--spread <name[:label]>',
    'where the fewest tasks of this name run; machines with one value of the label count as one',
    apart('--spread', false),
  ),
  v.option(
    '--apart <name[:label]>',
    'like --spread, and never two of them in one place',
    apart('--apart', true),
  ),
  v.option(
    '--need <machine>',
    'only machines so large: cpus=4,memory=16GiB,disk=20GiB,strict-limits; repeatable',
    needs,
  ),
  v.option(
    '--key <name>',
    'a name for this submission: sent again with the same words it is the same task',
    v.matching('--key', nameForm, nameWords),
  ),
  v.option('--once', 'refuse it where the same task is open already'),
  v.option('--allow-waiting', 'queue it also where no machine of the mesh can ever take it'),
  v.option('--dry-run', 'send nothing; say what would come of it, a line for each machine'),
];

/** Of commands alone: a goal is pursued in another way each time. */
export const agreeOptions = () => [
  v.option(
    '--replicas <n>',
    `with --agree: so many machines run the command and must make the same (2 to ${replicasMax}), or it fails`,
    v.integer('--replicas', 2, replicasMax),
  ),
  v.option('--agree', 'deliver only what as many machines make as --replicas says'),
];

type Options = Record<string, unknown>;

/** What was asked of all this. Throws `SF_USAGE` for what contradicts itself. */
export function scheduleOf(options: Options): ScheduleWishes {
  const { priority, deadline: deadlineMs, queueTimeout: queueMs, group: ofGroup, need, key } = options;
  if (options.spread !== undefined && options.apart !== undefined) {
    throw usageError('--spread and --apart exclude each other', {
      expected: 'one of them',
      got: 'both',
      hint: '--apart also goes where the fewest of them run',
    });
  }
  if (typeof deadlineMs === 'number' && typeof queueMs === 'number' && queueMs > deadlineMs) {
    throw usageError('the deadline is over before the queue timeout', {
      expected: 'a --queue-timeout of at most the --deadline',
      got: `--queue-timeout of ${queueMs} ms, --deadline of ${deadlineMs} ms`,
      hint: 'both count from the submission: give it longer to be done than to be begun',
    });
  }
  if ((options.replicas === undefined) !== (options.agree !== true)) {
    throw usageError('--replicas and --agree go together', {
      expected: 'both, as in --replicas 2 --agree',
      got: options.replicas === undefined ? '--agree alone' : '--replicas alone',
      hint: 'several machines run the command, and only what they agree on is delivered',
    });
  }
  const asked = {
    priority,
    deadlineMs,
    queueMs,
    after: options.after,
    group: ofGroup,
    spread: options.spread ?? options.apart,
    needs: need,
    replicas: options.replicas,
    key,
  };
  const said = Object.entries(asked).filter(([, value]) => value !== undefined);
  return {
    schedule: said.length === 0 ? null : (Object.fromEntries(said) as Schedule),
    once: options.once === true,
    allowWaiting: options.allowWaiting === true,
    dryRun: options.dryRun === true,
  };
}
