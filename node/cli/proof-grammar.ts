import type { Grammar } from './parse.ts';
import { usageError } from './usage-errors.ts';
import * as v from './values.ts';

/** What a proof is asked for of. */
export type ProveSubject = { task: string } | { index: number } | { since: string };

export type ProofCommand =
  | { verb: 'ledger prove'; of: ProveSubject; output: string | null }
  | { verb: 'proof verify'; file: string; mesh: string | null; since: string | null };

const or = <T>(value: unknown): T | null => (value as T | undefined) ?? null;
const indexOf = v.integer('the index', 0, Number.MAX_SAFE_INTEGER);
const TASK = /^[a-z2-7]{12}$/;

/** Adds `ledger prove` to the group `ledger`, and `proof verify`. */
export function addProofGrammar<C>(grammar: Grammar<C | ProofCommand>, bin: string): void {
  grammar.leaf('ledger', {
    usage: 'prove [id]',
    summary: 'write a proof that an entry is in the log, or with --since that the log only grew',
    about:
      'Writes a proof that needs nothing but the mesh id to be checked. ID is a task or the index of an entry. Of a task ' +
      'it proves the newest entry that names its receipt, which the file then carries. With --since it proves ' +
      'that the log only grew since a checkpoint that somebody kept.',
    options: [
      v.option('--output <file>', 'write it there', v.text('--output')),
      v.option('--since <file>', 'a kept checkpoint or proof file, or the size it names', v.text('--since')),
    ],
    examples: [
      `${bin} ledger prove abcdefghijkl --output proof.json`,
      `${bin} ledger prove 0 --output genesis.json`,
      `${bin} ledger prove --since genesis.json --output growth.json`,
    ],
    read: ({ operands, options }) => ({
      verb: 'ledger prove',
      of: subjectOf(operands[0] ?? null, or<string>(options.since), bin),
      output: or(options.output),
    }),
  });
  grammar.group('proof', 'check what "ledger prove" wrote, anywhere');
  grammar.leaf('proof', {
    usage: 'verify <file>',
    summary: 'check a proof file, offline. With --mesh the last line begins "proved:" or "not proved:"',
    options: [
      v.option('--mesh <id>', 'the mesh it must come from', v.mesh),
      v.option(
        '--since <file>',
        'the checkpoint or proof file you kept, for a proof of growth',
        v.text('--since'),
      ),
    ],
    examples: [
      `${bin} proof verify proof.json --mesh $MESH`,
      `${bin} proof verify growth.json --since genesis.json --mesh $MESH`,
    ],
    read: ({ operands, options }) => ({
      verb: 'proof verify',
      file: v.text('the file')(operands[0] ?? ''),
      mesh: or(options.mesh),
      since: or(options.since),
    }),
  });
}

function subjectOf(id: string | null, since: string | null, bin: string): ProveSubject {
  if ((id === null) === (since === null)) {
    throw usageError('ledger prove takes either an id or --since', {
      expected: 'a task, the index of an entry, or --since',
      got: id === null ? 'neither' : 'both',
      hint: `${bin} ledger prove --help`,
    });
  }
  if (since !== null) return { since };
  const text = id ?? '';
  // Twelve digits from 2 to 7 are a task: no log is that long.
  if (TASK.test(text)) return { task: text };
  if (/^\d+$/.test(text)) return { index: indexOf(text) };
  throw usageError('the id is not of the form asked for', {
    expected: 'a task id (12 characters a–z 2–7) or the index of an entry',
    got: text,
    hint: '"task list" names tasks, "mesh-hub ledger tail" entries',
  });
}
