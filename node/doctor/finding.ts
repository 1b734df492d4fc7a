import type { ErrorCode } from '../../protocol/errors.ts';
import type { Facts } from './facts.ts';

/** One thing the doctor looked at, and what it makes of it. The fields are part of the outside contract. */
export interface Finding {
  /** What was looked at: `sandbox`, `disk`, … */
  check: string;
  /** Stable id of what was found, such as `sandbox/bubblewrap-missing`; `CHECK/ok` where nothing lacks. */
  finding: string;
  /** `fail`: tasks or joining do not work until it is mended. `warn`: something works less well, or is absent by choice. */
  status: 'ok' | 'warn' | 'fail';
  /** What is there, in a few words. */
  what: string;
  /** What it is needed for. */
  why: string;
  /** What a person types or does about it; null: nothing to do. */
  how: string | null;
  /** What does not work before it is mended; null: everything works. */
  stops: 'tasks' | 'joining' | null;
  /** The error that a join ends with where this stops joining. */
  code: ErrorCode | null;
}

/** A lack that a check may find. */
export interface Lack<T> {
  finding: string;
  status: 'warn' | 'fail';
  stops?: 'tasks' | 'joining';
  code?: ErrorCode;
  when(part: T, facts: Facts): boolean;
  what(part: T, facts: Facts): string;
  how(part: T, facts: Facts): string | null;
}

/** One row of the table: a check, over its part of the facts. */
export interface Check {
  check: string;
  why: string;
  /** Ids of all that it may find amiss. */
  lacks: string[];
  find(facts: Facts): Finding[];
}

/** A check whose part of the facts may be null: then it was not looked at and finds nothing. Pure. */
export function checkOf<T>(
  check: string,
  why: string,
  part: (facts: Facts) => T | null,
  ok: (part: T, facts: Facts) => string,
  lacks: Lack<T>[],
): Check {
  return {
    check,
    why,
    lacks: lacks.map(({ finding }) => finding),
    find: (facts) => {
      const of = part(facts);
      if (of === null) return [];
      const found = lacks
        .filter((lack) => lack.when(of, facts))
        .map(({ finding, status, stops = null, code = null, what, how }) => ({
          check,
          finding,
          status,
          what: what(of, facts),
          why,
          how: how(of, facts),
          stops,
          code,
        }));
      if (found.length > 0) return found;
      const none = { how: null, stops: null, code: null };
      return [{ check, finding: `${check}/ok`, status: 'ok', what: ok(of, facts), why, ...none }];
    },
  };
}

/** Tasks can run here. */
export const isAble = (findings: readonly Finding[]): boolean =>
  findings.every(({ stops }) => stops === null);

/** The first lack that keeps joining from working. */
export const obstacle = (findings: readonly Finding[]): Finding | null =>
  findings.find(({ stops }) => stops === 'joining') ?? null;

const MARK = { ok: 'ok  ', warn: 'note', fail: 'FAIL' } as const;

/** Pure: what a person reads. One line a check, and under those with a lack what it is for and what to do. */
export function renderFindings(findings: readonly Finding[]): string {
  const width = Math.max(0, ...findings.map(({ check }) => check.length));
  return findings.flatMap((finding) => lines(finding, width)).join('\n');
}

/** Pure: one sentence about the machine as a whole. */
export function verdict(findings: readonly Finding[]): string {
  if (obstacle(findings) !== null) return 'This machine cannot work for a mesh yet.';
  return isAble(findings)
    ? 'This machine can run tasks.'
    : 'This machine cannot run tasks yet; it may join as a replica and lend its models.';
}

/** Pure: all that is fine in one line, then what lacks as the doctor tells it. */
export function renderBriefly(findings: readonly Finding[]): string {
  const fine = findings.filter(({ status }) => status === 'ok').map(({ check }) => check);
  const lacking = findings.filter(({ status }) => status !== 'ok');
  const head = fine.length === 0 ? [] : [`looked at this machine; fine: ${fine.join(', ')}`];
  return [...head, ...(lacking.length === 0 ? [] : [renderFindings(lacking)])].join('\n');
}

function lines({ check, status, what, why, how }: Finding, width: number): string[] {
  const head = `${MARK[status]}  ${check.padEnd(width)}  ${what}`;
  if (status === 'ok') return [head];
  return [head, indent('why: ', why, width), ...(how === null ? [] : [indent('how: ', how, width)])];
}

const indent = (label: string, text: string, width: number): string =>
  text
    .split('\n')
    .map((line, n) => `${' '.repeat(width + 8)}${n === 0 ? label : ' '.repeat(label.length)}${line}`)
    .join('\n');
