import {
  memoryIdPattern,
  noteCharactersMax,
  notePathPattern,
  noteTopicPattern,
} from '../../protocol/limits.ts';
import type { Grammar } from './parse.ts';
import { or, repoOption } from './send-grammar.ts';
import * as v from './values.ts';

/** What is remembered of goals, in both bins. */
export type MemoryCommand =
  /** `repo` as typed; null: of all repositories. */
  | { verb: 'memory list'; repo: string | null; cursor: string | null; limit: number }
  | { verb: 'memory show'; record: string }
  | { verb: 'memory search'; words: string; limit: number }
  | {
      verb: 'memory note';
      text: string;
      /** As typed; null: the repository around the current folder; false: of none. */
      repo: string | null | false;
      file: string | null;
      topic: string | null;
    }
  | { verb: 'memory forget'; record: string };

/** Adds `memory …` to a grammar. */
export function addMemoryGrammar<C>(grammar: Grammar<C | MemoryCommand>, bin: string): void {
  grammar.group('memory', 'what goals and notes taught; goals of the same submitter are told');
  const limit = (most: string) => v.option('--limit <n>', most, v.integer('--limit', 1, 1000));
  grammar.leaf('memory', {
    usage: 'list',
    summary: 'what is remembered, newest first',
    options: [
      v.option('--repo <path>', 'of this repository only', v.text('--repo')),
      v.option(
        '--cursor <cursor>',
        'go on where the last page ended',
        v.integer('--cursor', 0, Number.MAX_SAFE_INTEGER),
      ),
      limit('records on a page (default: 100)'),
    ],
    examples: [`${bin} memory list --repo .`],
    read: ({ options }) => ({
      verb: 'memory list',
      repo: or(options.repo),
      cursor: or<number>(options.cursor)?.toString() ?? null,
      limit: or<number>(options.limit) ?? 100,
    }),
  });
  grammar.leaf('memory', {
    usage: 'show <record>',
    summary: 'one record: what it says, of what, and how often it was sent',
    examples: [`${bin} memory show n1042`],
    read: ({ operands }) => ({ verb: 'memory show', record: recordOf(operands) }),
  });
  grammar.leaf('memory', {
    usage: 'search <words>',
    summary: 'what is remembered with these words, the best first',
    options: [limit('records at most (default: 20)')],
    examples: [`${bin} memory search 'leap years'`],
    read: ({ operands, options }) => ({
      verb: 'memory search',
      words: v
        .text('the words')(operands[0] ?? '')
        .slice(0, 1_000),
      limit: or<number>(options.limit) ?? 20,
    }),
  });
  grammar.leaf('memory', {
    usage: 'note <text>',
    summary: 'leave a note that models are told with your next goals, as quoted data',
    options: [
      repoOption(),
      v.option('--no-repo', 'about any work of yours'),
      v.option(
        '--file <path>',
        'about this file, named from the root of the repository',
        v.matching('--file', notePathPattern, 'a path inside the repository, without ..'),
      ),
      v.option(
        '--topic <topic>',
        'what it is about, such as tests',
        v.matching('--topic', noteTopicPattern, '1–64 letters and digits'),
      ),
    ],
    examples: [`${bin} memory note 'run make first' --topic tests`],
    read: ({ operands, options }) => ({
      verb: 'memory note',
      text: noteOf(operands[0] ?? ''),
      repo: options.repo === false ? false : or(options.repo),
      file: or(options.file),
      topic: or(options.topic),
    }),
  });
  grammar.leaf('memory', {
    usage: 'forget <record>',
    summary: 'send it to no model any more: your own, or as operator any; the log keeps what it says',
    examples: [`${bin} memory forget n1042`],
    read: ({ operands }) => ({ verb: 'memory forget', record: recordOf(operands) }),
  });
}

const recordOf = (operands: string[]): string =>
  v.matching(
    'the record',
    memoryIdPattern,
    'the id of a goal, or of a note such as n1042',
    '"memory list" names them',
  )(operands[0] ?? '');
const noteOf = v.matching(
  'the note',
  new RegExp(`^(?=[^]*\\S)[^\\0]{1,${noteCharactersMax}}$`),
  `1–${noteCharactersMax} characters`,
);
