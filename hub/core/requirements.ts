import coerce from 'semver/functions/coerce.js';
import { REQUIREMENTS_FEATURE } from '../../protocol/session.ts';
import type { TaskSpec } from '../../protocol/task.ts';
import type { LiveMember } from './context.ts';

/** What a task asks of a machine besides labels: a model it offers, tools it has. */
export interface Requirements {
  model: string | null;
  /** Tool → range of versions, `*` for any. */
  tools: Record<string, string>;
}

export const requirementsOf = ({ model, tools }: Pick<TaskSpec, 'model' | 'tools'>): Requirements => ({
  model: model ?? null,
  tools: tools ?? {},
});

/** Names of what a machine has that are told to who asks why it does not fit. */
const NAMED_MAX = 3;

/**
 * The first of the requirements that this member does not meet, with what it has instead; null: it meets all, or has not
 * said yet what it has. Pure.
 */
export function lacking({ model, tools }: Requirements, live: LiveMember | undefined): string | null {
  const wanted = Object.entries(tools);
  const capacity = live?.capacity ?? null;
  if (capacity === null || (model === null && wanted.length === 0)) return null;
  if (!live?.features.includes(REQUIREMENTS_FEATURE)) {
    return 'runs an older release, which does not know --model and --tool';
  }
  if (model !== null && !capacity.models.some((one) => one === model || one === `${model}:latest`)) {
    return capacity.models.length === 0
      ? `offers no model (asked: ${model})`
      : `does not offer the model ${model}, but ${some(capacity.models)}`;
  }
  for (const [tool, range] of wanted) {
    const version = Object.hasOwn(capacity.tools, tool) ? capacity.tools[tool]! : null;
    if (version === null) return `has no ${tool}`;
    if (!meets(version, range)) return `has ${tool} ${version}, not ${tool}${range}`;
  }
  return null;
}

/** Whether a version, as a tool printed it, lies in a range; its first three numbers count, of which a comparison looks at as many as it names. Pure. */
export function meets(version: string, range: string): boolean {
  if (range === '*') return true;
  const numbers = versionOf(version);
  return numbers !== null && comparisonsOf(range).every((one) => holds(numbers, one));
}

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

/** Read once: every queued task is held against every member whenever one of them changes. */
const READ_MAX = 4096;
const versionOf = remembered((text: string): number[] | null => {
  const found = coerce(text, { rtl: false });
  return found === null ? null : [found.major, found.minor, found.patch];
});
const comparisonsOf = remembered((range: string): Comparison[] =>
  range.split(' ').map((word) => {
    const sign = /^[<>=]+/.exec(word)?.[0] ?? '=';
    return { sign, numbers: word.slice(sign.length).split('.').map(Number) };
  }),
);

function remembered<T>(read: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    let value = known.get(text);
    if (value === undefined) {
      if (known.size >= READ_MAX) known.clear();
      value = read(text);
      known.set(text, value);
    }
    return value;
  };
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, NAMED_MAX).join(', ');
  return names.length <= NAMED_MAX ? shown : `${shown} and ${names.length - NAMED_MAX} more`;
}
