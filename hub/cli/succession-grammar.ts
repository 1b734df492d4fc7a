import type { Grammar } from '../../node/cli/parse.ts';
import * as v from '../../node/cli/values.ts';

/** How a mesh goes on with another founder. */
export type SuccessionCommand = { verb: 'handover'; node: string };

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
}
