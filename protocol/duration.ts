import { SuperfleetError } from './errors.ts';

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const;

/** Milliseconds from `500ms`, `30s`, `5m`, `2h`, `1d`: a whole number and a unit. `SF_USAGE` names what came. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,16})(ms|s|m|h|d)$/.exec(text);
  const unit = UNITS.find(([name]) => name === match?.[2]);
  const ms = Number(match?.[1]) * (unit?.[1] ?? Number.NaN);
  if (Number.isSafeInteger(ms)) return ms;
  throw new SuperfleetError('SF_USAGE', `not a duration: ${JSON.stringify(text.slice(0, 64))}`, {
    expected: 'a whole number and a unit, such as 500ms, 30s, 5m, 2h or 1d',
    got: text.slice(0, 64),
    hint: 'units are ms, s, m, h and d',
  });
}

/** The shortest exact form that `parseDuration` reads back to the same number. */
export function formatDuration(ms: number): string {
  const [name, factor] = UNITS.find(([, each]) => ms >= each && ms % each === 0) ?? (['ms', 1] as const);
  return `${ms / factor}${name}`;
}
