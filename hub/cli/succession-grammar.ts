import type { Grammar } from '../../node/cli/parse.ts';
import { usageError } from '../../node/cli/usage-errors.ts';
import * as v from '../../node/cli/values.ts';

/** How a mesh goes on with another founder. */
export type SuccessionCommand =
  | { verb: 'handover'; node: string }
  | { verb: 'promote'; recoveryKey: string; force: boolean; user: string | null };

/** Adds the commands to the grammar of `mesh-hub`. */
export function addSuccessionGrammar<C>(grammar: Grammar<C | SuccessionCommand>): void {
  grammar.leaf(null, {
    usage: 'handover <node>',
    summary: 'make a replica the founder, and this machine a member',
    about:
      'Makes a replica that follows the log the founder of the mesh, and this machine a member and replica of it. Tasks ' +
      'that run on other machines go on; nothing is given out for a moment. Until the log says so, nothing is changed.',
    examples: ['mesh-hub handover lab-02'],
    read: ({ operands }) => ({ verb: 'handover', node: v.nodeName('the replica')(operands[0] ?? '') }),
  });
  grammar.leaf(null, {
    usage: 'promote',
    summary: 'the founder is lost: make this replica the founder, by the recovery key',
    about:
      'Makes the replica in this data folder the founder, by the recovery key that "mesh-hub init" wrote. The machine must ' +
      'be stopped. Looks for the other members first: a founder that answers stays one, and what another replica holds ' +
      'more is taken from it.',
    options: [
      v.option('--recovery-key <file>', 'the recovery key of the mesh', v.text('--recovery-key')),
      v.option('--force', 'also where the founder answers: it is pushed aside'),
      v.option('--user <account>', 'run as root: the account to run as', v.nodeName('--user')),
    ],
    examples: ['mesh-hub promote --recovery-key superfleet-recovery.key'],
    read: ({ options }) => ({
      verb: 'promote',
      recoveryKey: needed(options.recoveryKey),
      force: options.force === true,
      user: (options.user as string | undefined) ?? null,
    }),
  });
}

function needed(value: unknown): string {
  if (typeof value === 'string') return value;
  throw usageError('promote needs --recovery-key FILE', { expected: '--recovery-key FILE', got: 'nothing' });
}
