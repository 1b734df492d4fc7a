import type { Assignment } from '../../protocol/session.ts';
import type { CodeSpec } from '../../protocol/task.ts';
import type { CheckRun } from '../attempt/checks.ts';
import { shortened } from './conversation.ts';

/** Of what one check printed. */
const outputCharactersMax = 4_000;

/** The goal as a model is given it: what is asked, what was answered about it, how it is judged, and what of that is red now. */
export function goalText(
  spec: CodeSpec,
  before: readonly CheckRun[],
  { answers = [], start }: Pick<Assignment, 'answers' | 'start'> = {},
): string {
  const parts = [`The goal:\n${spec.code.goal.trim()}`];
  if (start !== undefined) {
    parts.push(
      `A part of it is done: the workspace holds the changes of an attempt before this one. At its end it said what is left:\n<left>\n${start.left.trim()}\n</left>\nGo on from there.`,
    );
  }
  for (const { question, answer } of answers) {
    parts.push(`It was asked:\n${question.trim()}\nThe person who set the goal answers:\n${answer.trim()}`);
  }
  if (spec.checks.length > 0) {
    const lines = spec.checks.map((line) => `    ${line}`).join('\n');
    parts.push(
      `It is judged by these commands, run in the root of the repository; all must exit 0:\n${lines}`,
    );
  } else parts.push('There is no check: a person will look at what you changed.');
  for (const run of before) {
    parts.push(
      run.exitCode === 0
        ? `Before your work \`${run.line}\` is green. Keep it so.`
        : `Before your work \`${run.line}\` is red (exit ${run.exitCode}).\n${quoted(run.output)}`,
    );
  }
  return parts.join('\n\n');
}

/** What a model is told of a check that is red with what it did. */
export const redText = (red: CheckRun): string =>
  `With your changes the check \`${red.line}\` is red (exit ${red.exitCode}); files of tests were put back as they were before it ran.\n${quoted(red.output)}\nYour changes are still there. Find out why, mend it, and call finish.`;

/** What a model is told that begins again. */
export const otherWayText = (red: CheckRun): string =>
  `An attempt before this one did not reach the goal, and its changes are gone: at its end \`${red.line}\` was red (exit ${red.exitCode}).\n${quoted(red.output)}\nGo another way.`;

/** Output of a command, marked as what it is. */
const quoted = (output: string): string =>
  output.trim() === ''
    ? 'It printed nothing.'
    : `The end of what it printed:\n<output>\n${shortened(output.trimEnd(), outputCharactersMax)}\n</output>`;
