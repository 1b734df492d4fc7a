import type { Grammar } from './parse.ts';
import * as v from './values.ts';

export type PolicyCommand =
  | { verb: 'policy show' }
  /** Null: none of the owner's own. */
  | { verb: 'policy set'; policy: string | null }
  /** Absent: the one there is. */
  | { verb: 'policy test'; policy?: string };

export function addPolicyGrammar<C>(grammar: Grammar<C | PolicyCommand>): void {
  grammar.group('policy', 'when this machine works, and what it takes');
  grammar.leaf('policy', {
    usage: 'show',
    isDefault: true,
    summary: 'the policy in force, who said so, and whether it holds now; policy alone is the same',
    examples: ['mesh-node policy show'],
    read: () => ({ verb: 'policy show' }),
  });
  grammar.leaf('policy', {
    usage: 'set <policy>',
    summary:
      'another one from now on; what does not hold under it yields at once. "none": as the invite says, or the default',
    examples: ['mesh-node policy set idle,hours=18:00-08:00', 'mesh-node policy set none'],
    read: ({ operands }) => ({
      verb: 'policy set',
      policy: operands[0] === 'none' ? null : v.policy(operands[0] ?? ''),
    }),
  });
  grammar.leaf('policy', {
    usage: 'test [policy]',
    summary: 'what would hold now, condition by condition, with what each sign says; changes nothing',
    examples: ['mesh-node policy test', 'mesh-node policy test idle=10m,on-mains,load=50%'],
    read: ({ operands }) => ({
      verb: 'policy test',
      ...(operands[0] === undefined ? {} : { policy: v.policy(operands[0]) }),
    }),
  });
}
