import type { Grammar } from '../../node/cli/parse.ts';
import * as v from '../../node/cli/values.ts';

export type TrustCommand =
  | { verb: 'trust show' }
  | { verb: 'trust sampling'; on: boolean }
  | { verb: 'node trust'; node: string; vouch: boolean };

/** Adds `trust …` and `node trust` to the grammar of `mesh-hub`. */
export function addTrustGrammar<C>(grammar: Grammar<C | TrustCommand>): void {
  grammar.group('trust', 'whose results are believed, and how often they are verified');
  grammar.leaf('trust', {
    usage: 'show',
    summary: 'valid results in a row of each machine, and which are in quarantine',
    examples: ['mesh-hub trust show'],
    read: () => ({ verb: 'trust show' }),
  });
  grammar.leaf('trust', {
    usage: 'sampling <on|off>',
    summary:
      'verify results of machines with a long valid record by sample only; off unless you switch it on',
    about:
      'Off: every result with checks is verified by another machine. On: of a machine with 10 valid results in a row ever fewer are, ' +
      'down to one in ten, drawn by lot. One that is not drawn is delivered unverified, as a branch to look at. ' +
      'Tasks sent with --require-verified are always verified.',
    examples: ['mesh-hub trust sampling on'],
    read: ({ operands }) => ({
      verb: 'trust sampling',
      on: v.oneOf('sampling', ['on', 'off'] as const)(operands[0] ?? '') === 'on',
    }),
  });
  grammar.leaf('node', {
    usage: 'trust <node>',
    summary: 'end its quarantine: it may work again',
    options: [v.option('--vouch', 'it counts as a machine with a long valid record: you vouch for it')],
    examples: ['mesh-hub node trust laptop-3'],
    read: ({ operands, options }) => ({
      verb: 'node trust',
      node: v.nodeName('the node')(operands[0] ?? ''),
      vouch: (options as { vouch?: boolean }).vouch === true,
    }),
  });
}
