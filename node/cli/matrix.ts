import { batchMax } from '../../protocol/limits.ts';
import type { SendCommand } from './send-grammar.ts';
import { usageError } from './usage-errors.ts';

/** The tasks of a matrix, one for each combination of values; the command itself where it has none. Throws `SF_USAGE`. */
export function expand(command: SendCommand): SendCommand[] {
  const { matrix } = command;
  if (matrix.length === 0) return [command];
  const many = matrix.reduce((product, { values }) => product * values.length, 1);
  if (many > batchMax) {
    throw usageError('the matrix is too large', {
      expected: `at most ${batchMax} combinations`,
      got: `${many}`,
      hint: 'send it in parts, with one --correlation',
    });
  }
  for (const { name } of matrix) {
    if (JSON.stringify(filled(command, [[name, '\u0001']])) !== JSON.stringify(command)) continue;
    throw usageError(`the matrix has ${name}, and nothing says {${name}}`, {
      expected: `{${name}} in the command, the goal, or a value of --env, --label or --check`,
      got: 'it nowhere: all of its tasks would be the same',
    });
  }
  const combinations = matrix.reduce<[string, string][][]>(
    (rows, { name, values }) =>
      rows.flatMap((row) => values.map((value): [string, string][] => [...row, [name, value]])),
    [[]],
  );
  return combinations.map((row) => filled({ ...command, matrix: [] }, row));
}

/** The command with values in the places of their names; braces around anything else stay as they are. */
function filled(command: SendCommand, row: readonly [string, string][]): SendCommand {
  const values = new Map(row);
  const fill = (text: string): string =>
    text.replace(/\{([A-Za-z][A-Za-z0-9_-]{0,31})\}/g, (whole, name: string) => values.get(name) ?? whole);
  const fillAll = (record: Record<string, string>): Record<string, string> =>
    Object.fromEntries(Object.entries(record).map(([key, value]) => [key, fill(value)]));
  const { checks, env, labels } = command.wishes;
  const shared = { checks: checks?.map(fill) ?? null, env: fillAll(env), labels: fillAll(labels) };
  if (command.verb === 'task run') {
    return { ...command, wishes: { ...command.wishes, ...shared, argv: command.wishes.argv.map(fill) } };
  }
  const { code } = command.wishes;
  return { ...command, wishes: { ...command.wishes, ...shared, code: { ...code, goal: fill(code.goal) } } };
}
