import {
  failurePatternCharactersMax,
  type Lesson,
  lessonFailuresMax,
  lessonFilesMax,
  lessonPathCharactersMax,
} from '../../protocol/memory.ts';
import type { Change } from '../git/changes.ts';
import { printable } from '../git/fault.ts';
import type { CheckRun } from './checks.ts';

/** A line that says what went wrong, in most test runners, compilers and shells. */
const TELLING =
  /\b(error|fail(ed|ure)?|expected|assert\w*|exception|panic(ked)?|not ok|undefined|cannot|no such)\b/i;
/** Of the end of what a check printed; no line is looked for before it. */
const LOOKED_AT_CHARACTERS = 16_384;

/** What an attempt is remembered by: `before` ran on the base, `after` is the check that was red in the end. */
export function lessonOf(
  changes: readonly Change[],
  before: readonly CheckRun[],
  after: CheckRun | null,
  checks: readonly string[],
): Lesson {
  const failure = (run: CheckRun, isBefore: boolean): Lesson['failures'][number] => ({
    check: Math.max(0, checks.indexOf(run.line)),
    before: isBefore,
    pattern: failurePattern(run.output),
  });
  const red = before.filter(({ exitCode }) => exitCode !== 0).map((run) => failure(run, true));
  const left = after === null ? [] : [failure(after, false)];
  return {
    files: changes
      .slice(0, lessonFilesMax)
      .map(({ path }) => bounded(path.toString('utf8'), lessonPathCharactersMax)),
    failures: [...left, ...red].slice(0, lessonFailuresMax),
  };
}

/**
 * One line that stands for a failure: the first that tells of one near the end of the output, else the last. What differs from run to
 * run (places, numbers, addresses, times) is taken out, so that the same failure gives the same line elsewhere.
 */
export function failurePattern(output: string): string {
  const lines = output
    .slice(-LOOKED_AT_CHARACTERS)
    .replace(/\x1b\[[0-9;]*[A-Za-z]/g, '')
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const line = lines.find((one) => TELLING.test(one)) ?? lines.at(-1) ?? '';
  const steady = line
    .slice(0, 4 * failurePatternCharactersMax)
    .replace(/[a-z]+:\/\/\S+/gi, 'URL')
    .replace(/(?:~|\.{1,2}|[A-Za-z]:)?(?:[\\/][\w@%+.-]+){2,}[\\/]?/g, 'PATH')
    .replace(/\b(?:\d{1,3}\.){3}\d{1,3}\b/g, 'ADDRESS')
    .replace(/\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*\d)[0-9a-f]{7,}\b/gi, 'ADDRESS')
    .replace(/\d+(?:[.:,]\d+)*/g, 'N')
    .replace(/\s+/g, ' ');
  return bounded(steady.trim(), failurePatternCharactersMax);
}

/** Printable, whole characters, and no longer than this. */
const bounded = (text: string, max: number): string =>
  printable(text.toWellFormed())
    .slice(0, max)
    .replace(/[\ud800-\udbff]$/, '');
