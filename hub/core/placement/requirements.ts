import coerce from 'semver/functions/coerce.js';
import {
  type Capacity,
  CLOUD_BRAIN,
  CONTINUES_FEATURE,
  GOALS_FEATURE,
  MODELS_FEATURE,
  REQUIREMENTS_FEATURE,
} from '../../../protocol/session.ts';
import type { TaskSpec } from '../../../protocol/task.ts';
import type { LiveMember } from '../members/live-member.ts';

/** What a task asks of a machine besides labels: that it knows its kind, a model it offers, tools it has. */
export interface Requirements {
  /** A goal is to be pursued, or verified; false: a command. */
  goal: boolean;
  /** The goal begins with what an earlier task did of it. @default false */
  continues?: boolean;
  /** What is to work on the goal; null: anything. */
  brain: string | null;
  /** A name; `*`: any. */
  model: string | null;
  /** Tool → range of versions, `*` for any. */
  tools: Record<string, string>;
  /** A machine that may ask a cloud needs no model of its own. @default false */
  cloud?: boolean;
}

/** One for all tasks that ask for none: what is kept by it is not kept for each of them. */
const NO_TOOLS: Record<string, string> = {};

export const requirementsOf = (spec: TaskSpec): Requirements => ({
  goal: spec.kind === 'code',
  brain: spec.kind === 'code' ? (spec.code.brain ?? null) : null,
  model: spec.model ?? (spec.kind === 'code' ? '*' : null),
  tools: spec.tools ?? NO_TOOLS,
  ...(spec.kind === 'code' && spec.code.cloud === true ? { cloud: true } : {}),
});

/** Names of what a machine has that are told to who asks why it does not fit. */
const NAMED_MAX = 3;

/** Whether the machine offers the model that is asked for itself. Pure. */
export const offersModel = ({ model }: Pick<Requirements, 'model'>, { models }: Capacity): boolean =>
  model === null ||
  (model === '*' ? models.length > 0 : models.some((one) => one === model || one === `${model}:latest`));

/**
 * The first of the requirements that this member does not meet, with what it has instead; null: it meets all, or has not
 * said yet what it has. A goal that names no brain may be pursued with a model that others lend: `lent` says whether they
 * do. A command or an agent runs beside its model. Pure.
 */
export function lacking(
  { goal, continues = false, brain, model, tools, cloud = false }: Requirements,
  live: LiveMember | undefined,
  lent: (model: string) => boolean = () => false,
): string | null {
  const capacity = live?.capacity ?? null;
  if (capacity === null) return null;
  if (goal && !live?.features.includes(GOALS_FEATURE)) return 'runs an older release, which pursues no goals';
  if (continues && !live?.features.includes(CONTINUES_FEATURE))
    return 'runs an older release, which continues no goals';
  if (brain !== null && !capacity.brains?.includes(brain)) return `does not offer ${brain}`;
  const wanted = tools === NO_TOOLS ? NO_RANGES : rangesOf(tools);
  if (model === null && wanted.size === 0) return null;
  if (!live?.features.includes(REQUIREMENTS_FEATURE)) {
    return 'runs an older release, which does not know --model and --tool';
  }
  const borrows = goal && brain === null && live.features.includes(MODELS_FEATURE);
  const pays = cloud && capacity.brains?.includes(CLOUD_BRAIN) === true;
  if (model !== null && !offersModel({ model }, capacity) && !(borrows && lent(model)) && !pays) {
    if (model === '*') return 'offers no model';
    return capacity.models.length === 0
      ? `offers no model (asked: ${model})`
      : `does not offer the model ${model}, but ${some(capacity.models)}`;
  }
  for (const [tool, range] of wanted) {
    const version = Object.hasOwn(capacity.tools, tool) ? capacity.tools[tool]! : null;
    if (version === null) return `has no ${tool}`;
    if (!isIn(version, range)) return `has ${tool} ${version}, not ${tool}${tools[tool]}`;
  }
  return null;
}

/** Whether a version, as a tool printed it, lies in a range; its first three numbers count, of which a comparison looks at as many as it names. Pure. */
export function meets(version: string, range: string): boolean {
  return isIn(version, rangeOf(range));
}

function isIn(version: string, { any, comparisons, said }: Range): boolean {
  if (any) return true;
  const numbers = versionOf(version);
  if (numbers === null) return false;
  let inside = said.get(numbers);
  if (inside === undefined) {
    if (said.size >= SAID_MAX) said.clear();
    inside = comparisons.every((one) => holds(numbers, one));
    said.set(numbers, inside);
  }
  return inside;
}

interface Range {
  any: boolean;
  comparisons: Comparison[];
  /** What came of versions held against it, as they were read. */
  said: Map<readonly number[], boolean>;
}
/** Versions of one tool in a mesh; there are few. */
const SAID_MAX = 16;

/** One comparison of a range, such as `>=20.1`. */
interface Comparison {
  sign: string;
  numbers: number[];
}

function holds(version: readonly number[], { sign, numbers }: Comparison): boolean {
  const at = numbers.findIndex((number, place) => version[place] !== number);
  const side = at === -1 ? 0 : version[at]! - numbers[at]!;
  if (side === 0) return sign.endsWith('=');
  return sign.startsWith(side < 0 ? '<' : '>');
}

/** Read once for as long as the task waits: it is held against every member whenever one of them changes. */
const NO_RANGES: ReadonlyMap<string, Range> = new Map();
const rangesRead = new WeakMap<object, Map<string, Range>>();
function rangesOf(tools: Record<string, string>): Map<string, Range> {
  let ranges = rangesRead.get(tools);
  if (ranges === undefined) {
    ranges = new Map(Object.entries(tools).map(([tool, range]) => [tool, rangeOf(range)]));
    rangesRead.set(tools, ranges);
  }
  return ranges;
}

function rangeOf(range: string): Range {
  const any = range === '*';
  const comparisons = (any ? [] : range.split(' ')).map((word) => {
    const sign = /^[<>=]+/.exec(word)?.[0] ?? '=';
    return { sign, numbers: word.slice(sign.length).split('.').map(Number) };
  });
  return { any, comparisons, said: new Map() };
}

/** Versions of tools in the whole mesh, read; past so many they are read anew. */
const VERSIONS_MAX = 4096;
const versionsRead = new Map<string, number[] | null>();
function versionOf(text: string): number[] | null {
  let version = versionsRead.get(text);
  if (version === undefined) {
    if (versionsRead.size >= VERSIONS_MAX) versionsRead.clear();
    const found = coerce(text, { rtl: false });
    version = found === null ? null : [found.major, found.minor, found.patch];
    versionsRead.set(text, version);
  }
  return version;
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, NAMED_MAX).join(', ');
  return names.length <= NAMED_MAX ? shown : `${shown} and ${names.length - NAMED_MAX} more`;
}
