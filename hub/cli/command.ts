import { readStart, readStop, type StartWishes, startOptions, stopOption } from '../../node/cli/command.ts';
import type { CommonCommand } from '../../node/cli/common.ts';
import { addCompletionGrammar } from '../../node/cli/completion-grammar.ts';
import { addDoctorGrammar } from '../../node/cli/doctor-grammar.ts';
import { type Closing, exitCodesText } from '../../node/cli/help.ts';
import { addMemoryGrammar } from '../../node/cli/memory-grammar.ts';
import { Grammar, type Parsed } from '../../node/cli/parse.ts';
import { addProofGrammar } from '../../node/cli/proof-grammar.ts';
import { addServiceGrammar, type ServiceCommand } from '../../node/cli/service-grammar.ts';
import { addTaskGrammar } from '../../node/cli/task-grammar.ts';
import { usageError } from '../../node/cli/usage-errors.ts';
import * as v from '../../node/cli/values.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { addBudgetGrammar, type BudgetCommand } from './budget-grammar.ts';
import { addFailuresGrammar, type FailuresCommand } from './failures-grammar.ts';
import { addRecoveryGrammar, type RecoveryCommand } from './recovery-grammar.ts';
import { addSuccessionGrammar, type SuccessionCommand } from './succession-grammar.ts';
import { addSuperviseGrammar, type SuperviseCommand } from './supervise-grammar.ts';
import { addTrustGrammar, type TrustCommand } from './trust-grammar.ts';

export type HubCommand =
  | {
      verb: 'init';
      name: string | null;
      owner: string | null;
      port: number | null;
      user: string | null;
      /** As typed; null: the default in the current folder. */
      recoveryKey: string | null;
    }
  | ({ verb: 'start'; acceptLoss: { recoveryKeyFile: string } | null } & StartWishes)
  | { verb: 'status'; watch: boolean }
  | {
      verb: 'invite';
      uses: number | null;
      lifetimeMs: number | null;
      roles: string[] | null;
      labels: Record<string, string>;
      owner: string | null;
      policy: string | null;
      replace: string | null;
    }
  | { verb: 'demo'; stop: boolean }
  | SuperviseCommand
  | { verb: 'durability'; replicas: number | null }
  | SuccessionCommand
  | { verb: 'node approve'; code: string; name: string | null; owner: string | null; roles: string[] | null }
  | { verb: 'node reject'; code: string }
  | { verb: 'node drain'; node: string; deadlineMs: number | null }
  | { verb: 'node eligible'; node: string }
  | { verb: 'node rename'; node: string; name: string }
  | { verb: 'node revoke'; node: string; reason: string | null }
  | { verb: 'ledger verify' }
  | { verb: 'ledger tail'; from: number | null; follow: boolean }
  | { verb: 'ledger export'; output: string | null }
  | { verb: 'secret set'; name: string }
  | { verb: 'secret list' }
  | { verb: 'secret remove'; name: string }
  | BudgetCommand
  | FailuresCommand
  | TrustCommand
  | RecoveryCommand
  | ServiceCommand
  | CommonCommand;

const CLOSING: Closing = {
  sections: [
    {
      title: 'A mesh in three steps:',
      rows: [
        ['mesh-hub init', 'makes the mesh; keep the recovery key it names somewhere else'],
        ['mesh-hub start --detach', 'this machine is the founder from now on'],
        ['mesh-hub invite', 'prints a token; on another machine: mesh-node join TOKEN'],
      ],
    },
    {
      title: 'Then send it work, from inside a git repository:',
      rows: [["mesh-hub task run --check 'make test' --wait -- make format", '']],
    },
  ],
  text: exitCodesText('mesh-hub'),
};

const or = <T>(value: unknown): T | null => (value as T | undefined) ?? null;

/** The grammar of `mesh-hub`. */
export function hubGrammar(version: string): Grammar<HubCommand> {
  const grammar = new Grammar<HubCommand>('mesh-hub', version, 'Runs a mesh of donated machines.', CLOSING, {
    bin: 'mesh-node',
    words: ['join', 'leave', 'mesh', 'models', 'endpoint'],
    where: 'on a machine that works for the mesh',
  });
  addMeshGrammar(grammar);
  addDoctorGrammar(grammar, 'mesh-hub');
  addNodeGrammar(grammar);
  addServiceGrammar(grammar, 'mesh-hub');
  addTaskGrammar(grammar, 'mesh-hub');
  addMemoryGrammar(grammar, 'mesh-hub');
  addLedgerGrammar(grammar);
  addRecoveryGrammar<HubCommand>(grammar);
  addProofGrammar(grammar, 'mesh-hub');
  addSuccessionGrammar<HubCommand>(grammar);
  addSecretGrammar(grammar);
  addBudgetGrammar<HubCommand>(grammar);
  addFailuresGrammar<HubCommand>(grammar);
  addTrustGrammar<HubCommand>(grammar);
  addCompletionGrammar(grammar, 'mesh-hub');
  return grammar;
}

/** What a `mesh-hub` command line means; pure. */
export function parseHub(args: readonly string[], version: string, columns?: number): Parsed<HubCommand> {
  return hubGrammar(version).parse(args, columns);
}

function addMeshGrammar(grammar: Grammar<HubCommand>): void {
  const [name, port, user] = startOptions();
  grammar.leaf(null, {
    usage: 'init',
    summary: 'make a mesh: its keys, its log, and a recovery key to be kept off this machine',
    options: [
      name!,
      port!,
      user!,
      v.option('--owner <name>', 'whose machine this is (default: the user)', v.owner),
      v.option('--recovery-key <file>', 'where the recovery key is written', v.text('--recovery-key')),
    ],
    examples: ['mesh-hub init --name home'],
    read: ({ options }) => ({
      verb: 'init',
      name: or(options.name),
      owner: or(options.owner),
      port: or(options.port),
      user: or(options.user),
      recoveryKey: or(options.recoveryKey),
    }),
  });
  grammar.leaf(null, {
    usage: 'start',
    summary: 'run the founder, in the foreground or with --detach in the background',
    options: [
      ...startOptions(),
      v.option('--accept-loss', 'go on in a new epoch without what nobody holds any more'),
      v.option(
        '--recovery-key <file>',
        'with --accept-loss: the key that init wrote',
        v.text('--recovery-key'),
      ),
    ],
    examples: ['mesh-hub start --detach'],
    read: ({ options }) => ({
      verb: 'start',
      acceptLoss: lossOf(options.acceptLoss === true, options.recoveryKey),
      ...readStart(options),
    }),
  });
  grammar.leaf(null, {
    usage: 'stop',
    summary: 'stop the founder; returns when the process is gone',
    options: [stopOption()],
    examples: ['mesh-hub stop'],
    read: ({ options }) => readStop(options),
  });
  grammar.leaf(null, {
    usage: 'status',
    summary: 'the mesh at a glance, with warnings',
    examples: ['mesh-hub status'],
    options: [v.option('-w, --watch', 'show it anew whenever it changes, until Ctrl-C')],
    read: ({ options }) => ({ verb: 'status', watch: options.watch === true }),
  });
  grammar.leaf(null, {
    usage: 'invite',
    summary: 'print a token with which a machine joins',
    options: [
      v.option('--uses <n>', 'machines that may use it (default: 1)', v.integer('--uses', 1, 4096)),
      v.option('--expires <duration>', 'good for this long (default: 24h)', v.duration('--expires')),
      v.option('--role <role>', 'worker, replica, submitter, viewer, operator; repeatable', v.role),
      v.option('--label <k=v>', 'labels the machine gets; repeatable', v.label),
      v.option('--owner <name>', 'whose machine it will be', v.owner),
      v.option(
        '--policy <policy>',
        'when the machines work: always, idle, hours=18:00-08:00@mon-fri; their owners may be stricter',
        v.policy,
      ),
      v.option(
        '--replace <node>',
        'for a machine that takes the place of this one, wiped or broken: its name, labels, roles and owner',
        v.nodeName('--replace'),
      ),
    ],
    examples: [
      'mesh-hub invite --uses 10 --expires 2h',
      'mesh-hub invite --role replica --role worker',
      'mesh-hub invite --replace lab-07',
    ],
    read: ({ options }) => ({
      verb: 'invite',
      replace: replaceAlone(options),
      uses: or(options.uses),
      lifetimeMs: or(options.expires),
      roles: or(options.role),
      labels: or<Record<string, string>>(options.label) ?? {},
      owner: or(options.owner),
      policy: or(options.policy),
    }),
  });
  addSuperviseGrammar(grammar);
  grammar.leaf(null, {
    usage: 'durability [replicas]',
    summary:
      'how many replicas must hold what is acknowledged, besides the founder (0: none); show or set it',
    examples: ['mesh-hub durability', 'mesh-hub durability 1'],
    read: ({ operands }) => ({
      verb: 'durability',
      replicas: operands[0] === undefined ? null : v.integer('the number of replicas', 0, 16)(operands[0]),
    }),
  });
  grammar.leaf(null, {
    usage: 'demo',
    summary: 'fill the mesh with small real tasks, so that one can look around',
    about:
      'Fills a running mesh with a dozen small real tasks of every kind, on a repository of its own beside the data ' +
      'folder, and says what to look at.',
    options: [v.option('--stop', 'end the tasks of the demo, and take its repository away')],
    examples: ['mesh-hub demo', 'mesh-hub demo --stop'],
    read: ({ options }) => ({ verb: 'demo', stop: options.stop === true }),
  });
}

/** Who takes another's place is what that one was: anything else said beside it would be passed over. */
function replaceAlone(options: Record<string, unknown>): string | null {
  const replace = or<string>(options.replace);
  const besides = ['uses', 'role', 'label', 'owner', 'policy'].filter((name) => options[name] !== undefined);
  if (replace === null || besides.length === 0) return replace;
  throw usageError('--replace stands alone, or with --expires', {
    expected: 'roles, labels, owner and policy of the machine that is replaced',
    got: besides.map((name) => `--${name}`).join(' '),
  });
}

function addNodeGrammar(grammar: Grammar<HubCommand>): void {
  const nodeOf = (operands: string[]): string => v.nodeName('the node')(operands[0] ?? '');
  const codeOf = (operands: string[]): string => v.code(operands[0] ?? '');
  grammar.group('node', 'the machines: see them, let them in, send them away');
  grammar.leaf('node', {
    usage: 'list',
    summary: 'all machines, and those waiting to be let in with their codes',
    examples: ['mesh-hub node list'],
    read: () => ({ verb: 'node list' }),
  });
  grammar.leaf('node', {
    usage: 'describe <node>',
    summary: 'one machine: what it offers and what it does',
    examples: ['mesh-hub node describe laptop-3'],
    read: ({ operands }) => ({ verb: 'node describe', node: nodeOf(operands) }),
  });
  grammar.leaf('node', {
    usage: 'approve <code>',
    summary: 'let in the machine that shows this code',
    options: [
      v.option('--name <name>', 'name it shall have', v.nodeName('--name')),
      v.option('--owner <name>', 'whose machine it is', v.owner),
      v.option('--role <role>', 'worker, replica, submitter, viewer, operator; repeatable', v.role),
    ],
    examples: ['mesh-hub node approve 123-456-789'],
    read: ({ operands, options }) => ({
      verb: 'node approve',
      code: codeOf(operands),
      name: or(options.name),
      owner: or(options.owner),
      roles: or(options.role),
    }),
  });
  grammar.leaf('node', {
    usage: 'reject <code>',
    summary: 'send away the machine that shows this code',
    examples: ['mesh-hub node reject 123-456-789'],
    read: ({ operands }) => ({ verb: 'node reject', code: codeOf(operands) }),
  });
  grammar.leaf('node', {
    usage: 'drain <node>',
    summary: 'give it nothing new; what runs goes on, with --deadline so long at most',
    options: [
      v.option('--deadline <duration>', 'what runs after that goes elsewhere', v.duration('--deadline')),
    ],
    examples: ['mesh-hub node drain laptop-3', 'mesh-hub node drain laptop-3 --deadline 10m'],
    read: ({ operands, options }) => ({
      verb: 'node drain',
      node: nodeOf(operands),
      deadlineMs: or(options.deadline),
    }),
  });
  grammar.leaf('node', {
    usage: 'eligible <node>',
    summary: 'give it work again',
    examples: ['mesh-hub node eligible laptop-3'],
    read: ({ operands }) => ({ verb: 'node eligible', node: nodeOf(operands) }),
  });
  grammar.leaf('node', {
    usage: 'rename <node> <name>',
    summary: 'give it another name; the machine learns it by itself',
    examples: ['mesh-hub node rename debian-2 lab-07'],
    read: ({ operands }) => ({
      verb: 'node rename',
      node: nodeOf(operands),
      name: v.nodeName('the new name')(operands[1] ?? ''),
    }),
  });
  grammar.leaf('node', {
    usage: 'revoke <node>',
    summary: 'shut it out for good: its key is refused from now on',
    options: [
      v.option(
        '--reason <text>',
        'kept in the log',
        v.matching('--reason', /^[^\p{C}]{1,512}$/u, '1–512 printable characters'),
      ),
    ],
    examples: ["mesh-hub node revoke laptop-3 --reason 'sold'"],
    read: ({ operands, options }) => ({
      verb: 'node revoke',
      node: nodeOf(operands),
      reason: or(options.reason),
    }),
  });
}

function addLedgerGrammar(grammar: Grammar<HubCommand>): void {
  grammar.group('ledger', 'the log: everything that happened, provable');
  grammar.leaf('ledger', {
    usage: 'verify',
    summary: 'recompute every hash and signature of the log',
    examples: ['mesh-hub ledger verify'],
    read: () => ({ verb: 'ledger verify' }),
  });
  grammar.leaf('ledger', {
    usage: 'tail',
    summary: 'print entries, one a line',
    options: [
      v.option(
        '--from <index>',
        'from this index on (default: the last 20)',
        v.integer('--from', 0, Number.MAX_SAFE_INTEGER),
      ),
      v.option('-f, --follow', 'go on with new entries as they come'),
    ],
    examples: ['mesh-hub ledger tail -f'],
    read: ({ options }) => ({ verb: 'ledger tail', from: or(options.from), follow: options.follow === true }),
  });
  grammar.leaf('ledger', {
    usage: 'export',
    summary: 'print the log as it stands, checkpoints included',
    options: [v.option('--output <file>', 'write it there', v.text('--output'))],
    examples: ['mesh-hub ledger export --output mesh.jsonl'],
    read: ({ options }) => ({ verb: 'ledger export', output: or(options.output) }),
  });
}

function addSecretGrammar(grammar: Grammar<HubCommand>): void {
  const nameOf = (operands: string[]): string => v.secret('the name')(operands[0] ?? '');
  grammar.group('secret', 'values tasks may be given, never logged');
  grammar.leaf('secret', {
    usage: 'set <name>',
    summary: 'keep a secret; the value is read from stdin',
    examples: ['mesh-hub secret set NPM_TOKEN < token.txt'],
    read: ({ operands }) => ({ verb: 'secret set', name: nameOf(operands) }),
  });
  grammar.leaf('secret', {
    usage: 'list',
    summary: 'the names',
    examples: ['mesh-hub secret list'],
    read: () => ({ verb: 'secret list' }),
  });
  grammar.leaf('secret', {
    usage: 'remove <name>',
    summary: 'forget a secret',
    examples: ['mesh-hub secret remove NPM_TOKEN'],
    read: ({ operands }) => ({ verb: 'secret remove', name: nameOf(operands) }),
  });
}

/** Giving up what is lost takes the key that was kept offline for it. */
function lossOf(accepted: boolean, file: unknown): { recoveryKeyFile: string } | null {
  if (!accepted && file === undefined) return null;
  if (accepted && typeof file === 'string') return { recoveryKeyFile: file };
  throw new SuperfleetError('SF_USAGE', '--accept-loss and --recovery-key go together', {
    expected: 'mesh-hub start --accept-loss --recovery-key FILE',
    got: accepted ? '--accept-loss alone' : '--recovery-key alone',
  });
}
