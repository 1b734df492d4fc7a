import { parseDocument } from 'yaml';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { batchMax } from '../../protocol/limits.ts';
import { Grammar } from './parse.ts';
import { addSendGrammar, type SendCommand } from './send-grammar.ts';
import { usageError } from './usage-errors.ts';

/** One task of a file. */
export interface BatchTask {
  name?: string;
  /** Names of others of the file, or ids. */
  after?: string[];
  command: SendCommand;
}

/** What is said once, for all of them. */
const SHARED: ReadonlySet<string> = new Set(
  'repo no-repo ref include-dirty wait follow output force correlation dry-run allow-waiting matrix after dir json help'.split(
    ' ',
  ),
);
const aliasesMax = 64;

/**
 * The tasks of a YAML or JSON list. Each is a map of `run` (argv) or `code` (a goal), `name`, `after`, and the flags of `task run`
 * and `task code` without their dashes: a list stands for a flag that is said again, a map for one of `K=V`. Throws `SF_USAGE`
 * naming the task.
 */
export function batchOf(text: string): BatchTask[] {
  const document = parseDocument(text, { uniqueKeys: true });
  const [fault] = document.errors;
  if (fault !== undefined) throw wrong('is no YAML', 'a list of tasks in YAML or JSON', fault.message);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: aliasesMax });
  } catch (cause) {
    throw wrong('is no YAML', `at most ${aliasesMax} aliases`, asSuperfleetError(cause).message);
  }
  if (!Array.isArray(value) || value.length === 0 || value.length > batchMax) {
    const got = Array.isArray(value) ? `${value.length} tasks` : value === null ? 'nothing' : typeof value;
    throw wrong('is no list of tasks', `1 to ${batchMax} tasks, each behind a dash`, got);
  }
  const grammar = sendGrammar();
  return value.map((item: unknown, at) => {
    try {
      return taskOf(grammar, item);
    } catch (thrown) {
      const { message, expected, got, hint } = asSuperfleetError(thrown);
      const named = (item as { name?: unknown } | null)?.name;
      const which = typeof named === 'string' ? named : `task ${at + 1} of the file`;
      throw usageError(`${which}: ${message}`, { expected, got, hint });
    }
  });
}

function sendGrammar(): Grammar<SendCommand> {
  const nothing = { sections: [], text: '' };
  const grammar = new Grammar<SendCommand>('a task', '0', '', nothing, { bin: '', words: [], where: '' });
  grammar.group('task', '');
  addSendGrammar(grammar, 'mesh-hub');
  return grammar;
}

function taskOf(grammar: Grammar<SendCommand>, item: unknown): BatchTask {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) {
    throw usageError('a task is a map', { expected: 'run: [make, test]', got: JSON.stringify(item) });
  }
  const { run, code, name, after, ...flags } = item as Record<string, unknown>;
  if ((run === undefined) === (code === undefined)) {
    throw usageError('a task says what to do', {
      expected: 'run: [COMMAND, ARGUMENT…], or code: GOAL',
      got: run === undefined ? 'neither' : 'both',
    });
  }
  const verb = run === undefined ? 'code' : 'run';
  const known = new Set(grammar.options('task', verb).map((flag) => flag.replace(/^--/, '')));
  const typed: string[] = [];
  for (const [key, value] of Object.entries(flags)) {
    if (!known.has(key) || SHARED.has(key)) {
      throw usageError(`${key} is said ${SHARED.has(key) ? 'once, for the whole file' : 'nowhere'}`, {
        expected: `a flag of task ${verb}, such as check, label or priority`,
        got: key,
        hint: SHARED.has(key) ? `mesh-hub task submit FILE --${key}` : null,
      });
    }
    typed.push(...flagOf(key, value));
  }
  const words =
    verb === 'run' ? [...typed, '--', ...texts('run', run)] : [...typed, ...texts('code', [code])];
  const parsed = grammar.parse(['task', verb, ...words]);
  if (parsed.kind !== 'command')
    throw usageError('a task is no question', { expected: 'flags', got: 'help' });
  return {
    ...(name === undefined ? {} : { name: texts('name', [name])[0]! }),
    ...(after === undefined ? {} : { after: texts('after', Array.isArray(after) ? after : [after]) }),
    command: parsed.command,
  };
}

function flagOf(key: string, value: unknown): string[] {
  if (value === true) return [`--${key}`];
  if (value === false) return [];
  if (Array.isArray(value)) return value.flatMap((one) => flagOf(key, one));
  if (typeof value === 'object' && value !== null)
    return Object.entries(value).map(([name, one]) => `--${key}=${name}=${texts(key, [one])[0]}`);
  return [`--${key}=${texts(key, [value])[0]}`];
}

function texts(key: string, values: unknown): string[] {
  const all = Array.isArray(values) ? (values as unknown[]) : null;
  if (all === null || all.some((one) => typeof one !== 'string' && typeof one !== 'number')) {
    throw usageError(`${key} is not of the form asked for`, {
      expected: key === 'run' ? 'a list of words' : 'words or numbers',
      got: JSON.stringify(values),
      hint: 'what YAML takes for something else is put in quotes',
    });
  }
  return all.map(String);
}

const wrong = (what: string, expected: string, got: string): Error =>
  usageError(`the file ${what}`, {
    expected,
    got,
    hint: '- {run: [make, test], label: {os: linux}}',
  });
