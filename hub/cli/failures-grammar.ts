import type { Grammar } from '../../node/cli/parse.ts';
import * as v from '../../node/cli/values.ts';

export type FailuresCommand = { verb: 'failures list' } | { verb: 'failures thaw'; class: string };

/** Adds `failures …` to the grammar of `mesh-hub`. */
export function addFailuresGrammar<C>(grammar: Grammar<C | FailuresCommand>): void {
  grammar.group('failures', 'what failed attempts have in common, and tasks that wait because of it');
  grammar.leaf('failures', {
    usage: 'list',
    summary: 'patterns of failures, last seen first; "mesh-hub failures" means it',
    isDefault: true,
    examples: ['mesh-hub failures list'],
    read: () => ({ verb: 'failures list' }),
  });
  grammar.leaf('failures', {
    usage: 'thaw <class>',
    summary: 'let new tasks go of a class that failed again and again',
    examples: ['mesh-hub failures thaw 3f9a1c2b7d'],
    read: ({ operands }) => ({
      verb: 'failures thaw',
      class: v.matching(
        'the class',
        /^[0-9a-f]{10}$/,
        '10 hex digits, as mesh-hub failures shows them',
      )(operands[0] ?? ''),
    }),
  });
}
