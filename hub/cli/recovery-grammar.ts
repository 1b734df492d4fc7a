import type { Grammar } from '../../node/cli/parse.ts';
import { usageError } from '../../node/cli/usage-errors.ts';
import * as v from '../../node/cli/values.ts';

/** What brings a log or a whole data folder back, or somewhere else. */
export type RecoveryCommand =
  | { verb: 'ledger repair'; from: string; acceptLoss: boolean; user: string | null }
  | { verb: 'ledger scrub' }
  | { verb: 'backup'; file: string; withSecrets: boolean; withoutBlobs: boolean }
  | { verb: 'fork'; name: string | null; recoveryKey: string | null; user: string | null }
  | { verb: 'restore'; file: string; user: string | null }
  | { verb: 'ledger import'; file: string; mesh: string | null; user: string | null };

const or = <T>(value: unknown): T | null => (value as T | undefined) ?? null;

/** Adds the commands to the grammar of `mesh-hub`, which has the group `ledger`. */
export function addRecoveryGrammar<C>(grammar: Grammar<C | RecoveryCommand>): void {
  const user = v.option('--user <name>', 'account to drop to when run as root', v.text('--user'));
  grammar.leaf(null, {
    usage: 'backup <file>',
    summary: 'write config, keys, log and blobs to one file, also while the founder runs',
    about:
      'Writes config, keys, log and the blobs it names to one tar file, mode 0600, and verifies it. The founder may run ' +
      'meanwhile. Whoever has the file can be this founder.',
    options: [
      v.option('--with-secrets', 'the values of secrets, too'),
      v.option('--without-blobs', 'leave out bundles, logs and artifacts of tasks'),
    ],
    examples: ['mesh-hub backup home.tar'],
    read: ({ operands, options }) => ({
      verb: 'backup',
      file: v.text('the file')(operands[0] ?? ''),
      withSecrets: options.withSecrets === true,
      withoutBlobs: options.withoutBlobs === true,
    }),
  });
  grammar.leaf(null, {
    usage: 'restore <file>',
    summary: 'make a data folder of a backup, all of it verified',
    options: [user],
    examples: ['mesh-hub restore home.tar'],
    read: ({ operands, options }) => ({
      verb: 'restore',
      file: v.text('the file')(operands[0] ?? ''),
      user: or(options.user),
    }),
  });
  grammar.leaf(null, {
    usage: 'fork',
    summary: 'make a mesh of its own of a copy of a data folder',
    about:
      'Makes a mesh of its own of a copy (--dir): new mesh id, keys and recovery key, begun at the checkpoint of the ' +
      'copy, which its first entry names. Members and tasks stay with the old mesh.',
    options: [
      v.option('--name <name>', 'name of the new mesh (default: the old one’s)', v.nodeName('--name')),
      v.option('--recovery-key <file>', 'where its recovery key is written', v.text('--recovery-key')),
      user,
    ],
    examples: ['mesh-hub fork --dir copy --name lab'],
    read: ({ options }) => ({
      verb: 'fork',
      name: or(options.name),
      recoveryKey: or(options.recoveryKey),
      user: or(options.user),
    }),
  });
  grammar.leaf('ledger', {
    usage: 'scrub',
    summary: 'have the running founder read its whole log anew; where it is damaged the founder stops',
    examples: ['mesh-hub ledger scrub'],
    read: () => ({ verb: 'ledger scrub' }),
  });
  grammar.leaf('ledger', {
    usage: 'repair',
    summary: 'mend a damaged log from a replica, an export or another copy, with the founder stopped',
    about:
      'Keeps what holds of the log, takes the rest from a replica (its peer id, or /ip4/ADDRESS/tcp/PORT/p2p/PEER), an export ' +
      'or another data folder, verifies all of it, and keeps the damaged log beside it. The founder must be stopped.',
    options: [
      v.option(
        '--from <source>',
        'a replica, an export, or another data folder of this mesh',
        v.text('--from'),
      ),
      v.option('--accept-loss', 'also where the result ends before what the damaged log still proves'),
      user,
    ],
    examples: ['mesh-hub ledger repair --from mesh.jsonl'],
    read: ({ options }) => ({
      verb: 'ledger repair',
      from: needed(options.from, 'ledger repair', '--from PEER|FILE'),
      acceptLoss: options.acceptLoss === true,
      user: or(options.user),
    }),
  });
  grammar.leaf('ledger', {
    usage: 'import <file>',
    summary: 'make a new data folder that holds the log of an export, all of it verified',
    about:
      'Makes a new data folder (--dir) whose log is that of an export. It can be verified, read and exported there; ' +
      'without the keys of its founder it cannot be started as one.',
    options: [v.option('--mesh <id>', 'the mesh that it must be of', v.mesh), user],
    examples: ['mesh-hub ledger import mesh.jsonl --dir copy'],
    read: ({ operands, options }) => ({
      verb: 'ledger import',
      file: v.text('the file')(operands[0] ?? ''),
      mesh: or(options.mesh),
      user: or(options.user),
    }),
  });
}

function needed(value: unknown, command: string, expected: string): string {
  if (typeof value === 'string') return value;
  throw usageError(`${command} needs ${expected}`, { expected, got: 'nothing' });
}
