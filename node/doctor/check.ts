/** One thing the doctor looked at. */
export interface DoctorCheck {
  name: string;
  /** `fail`: no tasks run here until it is mended. `warn`: something works less well, or is absent by choice. */
  status: 'ok' | 'warn' | 'fail';
  /** What is there, in a few words. */
  found: string;
  /** What it is needed for. */
  why: string;
  /** What a person types or does about it; null: nothing to do. */
  fix: string | null;
  /** `status` is `ok`. */
  ok: boolean;
  /** A lack of this keeps the machine from running tasks. */
  required: boolean;
}

type Facts = Pick<DoctorCheck, 'name' | 'status' | 'found' | 'why'> & { fix?: string | null };

export const check = ({ fix = null, ...facts }: Facts): DoctorCheck => ({
  ...facts,
  fix: facts.status === 'ok' ? null : fix,
  ok: facts.status === 'ok',
  required: facts.status === 'fail',
});

/** Tasks can run here. */
export const isAble = (checks: DoctorCheck[]): boolean => checks.every(({ status }) => status !== 'fail');

const MARK = { ok: 'ok  ', warn: 'note', fail: 'FAIL' } as const;

/** Pure: what a person reads. One line a check, and under those with a lack what it is for and what to do. */
export function renderChecks(checks: DoctorCheck[]): string {
  const width = Math.max(0, ...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, found, why, fix }) => [
    `${MARK[status]}  ${name.padEnd(width)}  ${found}`,
    ...(status === 'ok' ? [] : [indent(why, width), ...(fix === null ? [] : [indent(fix, width)])]),
  ]);
  const verdict = isAble(checks) ? 'This machine can run tasks.' : 'This machine cannot run tasks yet.';
  return [...lines, '', verdict].join('\n');
}

const indent = (text: string, width: number): string =>
  text
    .split('\n')
    .map((line) => `${' '.repeat(width + 8)}${line}`)
    .join('\n');
