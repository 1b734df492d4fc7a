import type { Grammar } from '../../node/cli/parse.ts';
import { usageError } from '../../node/cli/usage-errors.ts';
import * as v from '../../node/cli/values.ts';
import { capacityMax } from '../../protocol/limits.ts';

/** What the operator says of the work of the whole mesh: whether there is any, how much, and when. */
export type SuperviseCommand =
  | { verb: 'pause'; drain: boolean }
  | { verb: 'resume' }
  | { verb: 'capacity show' }
  | { verb: 'capacity set'; ring: number | null; elastic: number | null }
  /** Absent: show it; null: none. */
  | { verb: 'policy default'; policy?: string | null };

export function addSuperviseGrammar<C>(grammar: Grammar<C | SuperviseCommand>): void {
  grammar.leaf(null, {
    usage: 'pause',
    summary: 'stop everything on all machines within a second; survives restarts',
    about:
      'Nothing is given out, verified or delivered until mesh-hub resume. The answer names the members that have not said ' +
      'that they stopped: they stop by themselves when their lease ends.',
    options: [v.option('--drain', 'let what runs finish, and give out nothing more')],
    examples: ['mesh-hub pause', 'mesh-hub pause --drain'],
    read: ({ options }) => ({ verb: 'pause', drain: options.drain === true }),
  });
  grammar.leaf(null, {
    usage: 'resume',
    summary: 'give out work again',
    examples: ['mesh-hub resume'],
    read: () => ({ verb: 'resume' }),
  });
  grammar.group('capacity', 'how many attempts the whole mesh may run');
  grammar.leaf('capacity', {
    usage: 'show',
    summary: 'the bounds, what runs, and what idles because of them',
    examples: ['mesh-hub capacity show'],
    read: () => ({ verb: 'capacity show' }),
  });
  grammar.leaf('capacity', {
    usage: 'set',
    summary: 'set the bounds; logged in the mesh',
    options: [
      v.option('--ring <n>', 'attempts at any time (36)', v.integer('--ring', 1, capacityMax)),
      v.option(
        '--elastic <n>',
        'attempts while tasks wait that a free slot could take (64; never below the ring)',
        v.integer('--elastic', 1, capacityMax),
      ),
    ],
    examples: ['mesh-hub capacity set --elastic 200', 'mesh-hub capacity set --ring 100 --elastic 400'],
    read: ({ options }) => {
      const { ring = null, elastic = null } = options as { ring?: number; elastic?: number };
      if (ring === null && elastic === null) {
        throw usageError('nothing to set', { expected: '--ring N, --elastic N or both', got: 'neither' });
      }
      return { verb: 'capacity set', ring, elastic };
    },
  });
  grammar.group('policy', 'when machines work at most, whatever their owners say');
  grammar.leaf('policy', {
    usage: 'default [policy]',
    summary: 'a policy that holds on every machine besides its own; show or set it, "none": there is none',
    about:
      'It only ever takes away: a machine works where its own policy, that of its invite and this one hold all together. ' +
      'Logged in the mesh; members hear of it at once.',
    examples: ['mesh-hub policy default', 'mesh-hub policy default idle,hours=18:00-08:00@mon-fri'],
    read: ({ operands: [asked = 'show'] }) => {
      if (asked === 'show') return { verb: 'policy default' };
      return { verb: 'policy default', policy: asked === 'none' ? null : v.policy(asked) };
    },
  });
}
