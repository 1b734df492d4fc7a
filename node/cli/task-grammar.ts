import type { TaskState } from '../../protocol/task.ts';
import type { Grammar } from './parse.ts';
import { usageError } from './usage-errors.ts';
import * as v from './values.ts';

const TASK_STATES = [
  'proposed',
  'queued',
  'assigned',
  'running',
  'executed',
  'verified',
  'delivered',
  'failed',
  'cancelled',
  'rejected',
] as const satisfies readonly TaskState[];

/** What follows a task to its end, and where its result goes. */
export interface Delivery {
  /** As typed; null: the repository around the current folder; false: none. */
  repo: string | null | false;
  output: string | null;
  force: boolean;
}

/** What a submitter may say about a task; null or empty where the founder's defaults hold. */
export interface TaskWishes {
  argv: string[];
  checks: string[];
  checkFiles: string[];
  labels: Record<string, string>;
  model: string | null;
  /** Tool → versions; `*` for any. */
  tools: Record<string, string>;
  on: string | null;
  timeoutMs: number | null;
  checkTimeoutMs: number | null;
  retries: number | null;
  env: Record<string, string>;
  secrets: string[];
  artifacts: string[];
  memoryBytes: number | null;
  processes: number | null;
  workspaceBytes: number | null;
  requireVerified: boolean;
}

/** The verbs both bins have. */
export type TaskCommand =
  | ({
      verb: 'task run';
      wishes: TaskWishes;
      ref: string | null;
      includeDirty: boolean;
      wait: boolean;
      follow: boolean;
      correlation: string | null;
    } & Delivery)
  | { verb: 'task list'; states: string[] | null; cursor: string | null; limit: number }
  | { verb: 'task describe'; task: string }
  | { verb: 'task logs'; task: string; follow: boolean }
  | { verb: 'task stop'; task: string }
  | ({ verb: 'task rerun'; task: string; wait: boolean; follow: boolean } & Delivery)
  | { verb: 'task history'; task: string }
  | { verb: 'task why'; task: string }
  | { verb: 'task diff'; task: string; repo: string | null }
  | {
      verb: 'task apply';
      task: string;
      repo: string | null;
      /** null: what suits the result. */
      how: 'merge' | 'cherry-pick' | 'checkout' | null;
      force: boolean;
    }
  | ({ verb: 'task get'; task: string } & Delivery)
  | { verb: 'receipt show'; task: string; output: string | null }
  | {
      verb: 'receipt verify';
      /** null: the receipts in the note of `commit`. */
      file: string | null;
      mesh: string | null;
      repo: string | null;
      commit: string | null;
    };

const repoOption = () =>
  v.option('--repo <path>', 'the repository (default: the one around this folder)', v.text('--repo'));
const deliveryOptions = () => [
  repoOption(),
  v.option('--no-repo', 'no repository: an empty workspace, no branch placed'),
  v.option('--output <dir>', 'folder for artifacts (default: ./mesh-ID)', v.text('--output')),
  v.option('--force', 'write over artifacts and over branch mesh/ID'),
];
const waitOptions = () => [
  v.option('--wait', 'wait for the end, place branch mesh/ID, exit 0 or 1 by the result'),
  v.option('--follow', 'like --wait, with the live output on stderr'),
];

type Options = Record<string, unknown>;
const or = <T>(value: unknown): T | null => (value as T | undefined) ?? null;
const list = (value: unknown): string[] => (value as string[] | undefined) ?? [];
const flag = (value: unknown): boolean => value === true;
const map = (value: unknown): Record<string, string> => (value as Record<string, string> | undefined) ?? {};
const repoOf = (options: Options): string | null | false =>
  options.repo === false ? false : or<string>(options.repo);
const delivery = (options: Options): Delivery => ({
  repo: repoOf(options),
  output: or(options.output),
  force: flag(options.force),
});

/** Adds `task …` and `receipt …` to a grammar. */
export function addTaskGrammar<C>(grammar: Grammar<C | TaskCommand>, bin: string): void {
  grammar.group('task', 'send work, see it, take the result');
  grammar.leaf('task', {
    usage: 'run',
    summary: 'send a command to run on another machine; prints the id of the task',
    about:
      'Sends a command to run on another machine. What follows -- is argv, run without a shell in a copy of the ' +
      'repository at --ref; uncommitted changes are sent only by --include-dirty. ' +
      'Prints the id of the task.',
    takesArgv: true,
    options: [
      ...deliveryOptions(),
      v.option('--ref <rev>', 'commit, branch or tag to run on (default: HEAD)', v.text('--ref')),
      v.option(
        '--include-dirty',
        'send the files as they are: uncommitted and untracked ones, not ignored ones',
      ),
      v.option('--check <line>', 'shell line that must exit 0 afterwards; repeatable', v.checkLine),
      v.option(
        '--check-file <glob>',
        'files restored from the base before checks; repeatable',
        v.globOf('--check-file'),
      ),
      v.option('--label <k=v>', 'only machines with this label; repeatable', v.label),
      v.option('--model <name>', 'only machines that offer this model', v.model),
      v.option(
        '--tool <name[op version]>',
        "only machines with this tool: python3, go@1.22, 'node>=20'; repeatable",
        v.tool,
      ),
      v.option('--on <node>', 'only this machine: its name or peer id', v.nodeName('--on')),
      v.option('--timeout <duration>', 'end the command after this (default: 30m)', v.duration('--timeout')),
      v.option(
        '--check-timeout <duration>',
        'end a check after this (default: 30m)',
        v.duration('--check-timeout'),
      ),
      v.option(
        '--retries <n>',
        'further attempts after a failure of the task (default: 0)',
        v.integer('--retries', 0, 20),
      ),
      v.option('--env <K=V>', 'environment; public: logged and signed; repeatable', v.environment),
      v.option('--secret <name>', 'give the task a secret the founder keeps; repeatable', v.secrets),
      v.option(
        '--artifact <glob>',
        'files to bring back besides the commit; repeatable',
        v.globOf('--artifact'),
      ),
      v.option('--memory <size>', 'memory of the whole task (default: 4GiB)', v.size('--memory')),
      v.option(
        '--processes <n>',
        'processes of the task (default: 512)',
        v.integer('--processes', 1, 65_536),
      ),
      v.option('--disk <size>', 'bytes of its workspace (default: 8GiB)', v.size('--disk')),
      v.option('--require-verified', 'wait for a verifier rather than end unverified'),
      ...waitOptions(),
      v.option('--correlation <id>', 'an id of yours, carried everywhere', v.correlation),
    ],
    examples: [
      `${bin} task run --check 'make test' --wait -- make format`,
      `${bin} task run --ref main --artifact 'dist/*.tar.gz' --wait -- make dist`,
      `${bin} task run --no-repo --wait -- python3 -c 'print(6 * 7)'`,
    ],
    read: ({ options, argv }) => {
      if (argv === null || argv.length === 0) {
        throw usageError('task run needs a command', {
          expected: '-- COMMAND [ARGUMENT...]',
          got: argv === null ? 'no --' : 'nothing behind --',
          hint: `${bin} task run --wait -- make test`,
        });
      }
      const repo = repoOf(options);
      if (repo === false && options.ref !== undefined) {
        throw usageError('--no-repo and --ref exclude each other', { expected: 'one of them', got: 'both' });
      }
      const includeDirty = flag(options.includeDirty);
      const other = repo === false ? '--no-repo' : options.ref === undefined ? null : '--ref';
      if (includeDirty && other !== null) {
        throw usageError(`${other} and --include-dirty exclude each other`, {
          expected: 'one of them',
          got: 'both',
          hint: '--include-dirty sends the files that lie here now',
        });
      }
      return {
        verb: 'task run',
        wishes: {
          argv,
          checks: list(options.check),
          checkFiles: list(options.checkFile),
          labels: map(options.label),
          model: or(options.model),
          tools: map(options.tool),
          on: or(options.on),
          timeoutMs: or(options.timeout),
          checkTimeoutMs: or(options.checkTimeout),
          retries: or(options.retries),
          env: map(options.env),
          secrets: list(options.secret),
          artifacts: list(options.artifact),
          memoryBytes: or(options.memory),
          processes: or(options.processes),
          workspaceBytes: or(options.disk),
          requireVerified: flag(options.requireVerified),
        },
        ref: or(options.ref),
        includeDirty,
        wait: flag(options.wait) || flag(options.follow),
        follow: flag(options.follow),
        correlation: or(options.correlation),
        ...delivery(options),
      };
    },
  });
  addTaskReaders(grammar, bin);
  addReceiptGrammar(grammar, bin);
}

function addTaskReaders<C>(grammar: Grammar<C | TaskCommand>, bin: string): void {
  const taskOf = (operands: string[]): string => v.task(operands[0] ?? '');
  grammar.leaf('task', {
    usage: 'list',
    summary: 'list tasks, newest first',
    options: [
      v.option('--state <states>', 'only these states, by comma', v.words('--state', TASK_STATES)),
      v.option('--cursor <cursor>', 'go on where the last page ended', v.text('--cursor')),
      v.option('--limit <n>', 'tasks on a page (default: 100)', v.integer('--limit', 1, 1000)),
    ],
    examples: [`${bin} task list --state queued,running`],
    read: ({ options }) => ({
      verb: 'task list',
      states: or(options.state),
      cursor: or(options.cursor),
      limit: or<number>(options.limit) ?? 100,
    }),
  });
  grammar.leaf('task', {
    usage: 'describe <task>',
    summary: 'show a task: state, who did it, who verified it',
    examples: [`${bin} task describe abcdefghijkl`],
    read: ({ operands }) => ({ verb: 'task describe', task: taskOf(operands) }),
  });
  grammar.leaf('task', {
    usage: 'logs <task>',
    summary: 'print the output of a task',
    options: [v.option('-f, --follow', 'go on until the task has ended')],
    examples: [`${bin} task logs -f abcdefghijkl`],
    read: ({ operands, options }) => ({
      verb: 'task logs',
      task: taskOf(operands),
      follow: flag(options.follow),
    }),
  });
  grammar.leaf('task', {
    usage: 'stop <task>',
    summary: 'cancel a task; it ends cancelled',
    examples: [`${bin} task stop abcdefghijkl`],
    read: ({ operands }) => ({ verb: 'task stop', task: taskOf(operands) }),
  });
  grammar.leaf('task', {
    usage: 'rerun <task>',
    summary: 'send the same task again; prints the new id',
    options: [...waitOptions(), ...deliveryOptions()],
    examples: [`${bin} task rerun abcdefghijkl --wait`],
    read: ({ operands, options }) => ({
      verb: 'task rerun',
      task: taskOf(operands),
      wait: flag(options.wait) || flag(options.follow),
      follow: flag(options.follow),
      ...delivery(options),
    }),
  });
  grammar.leaf('task', {
    usage: 'history <task>',
    summary: 'what the log says about a task, entry by entry',
    examples: [`${bin} task history abcdefghijkl`],
    read: ({ operands }) => ({ verb: 'task history', task: taskOf(operands) }),
  });
  grammar.leaf('task', {
    usage: 'why <task>',
    summary: 'why a task is waiting: one line for each machine',
    examples: [`${bin} task why abcdefghijkl`],
    read: ({ operands }) => ({ verb: 'task why', task: taskOf(operands) }),
  });
  grammar.leaf('task', {
    usage: 'diff <task>',
    summary: 'print what a task changed, as a patch',
    options: [repoOption()],
    examples: [`${bin} task diff abcdefghijkl | git apply --check`],
    read: ({ operands, options }) => ({ verb: 'task diff', task: taskOf(operands), repo: or(options.repo) }),
  });
  grammar.leaf('task', {
    usage: 'apply <task>',
    summary: 'take a result into the branch you are on; uncommitted work is never touched',
    options: [
      repoOption(),
      v.option('--merge', 'with a merge commit (default)'),
      v.option('--cherry-pick', 'as one commit on top (default for a result of --include-dirty)'),
      v.option('--checkout', 'go to branch mesh/ID instead'),
      v.option('--force', 'also where the result changes git attributes or modules'),
    ],
    examples: [`${bin} task apply abcdefghijkl --cherry-pick`],
    read: ({ operands, options }) => {
      const hows = (['merge', 'cherry-pick', 'checkout'] as const).filter(
        (how) => options[how === 'cherry-pick' ? 'cherryPick' : how] === true,
      );
      if (hows.length > 1) {
        throw usageError('task apply does one thing at a time', {
          expected: 'one of --merge, --cherry-pick, --checkout',
          got: hows.map((how) => `--${how}`).join(' '),
        });
      }
      return {
        verb: 'task apply',
        task: taskOf(operands),
        repo: or(options.repo),
        how: hows[0] ?? null,
        force: flag(options.force),
      };
    },
  });
  grammar.leaf('task', {
    usage: 'get <task>',
    summary: 'place branch mesh/ID and the artifacts of a task that has ended',
    options: deliveryOptions(),
    examples: [`${bin} task get abcdefghijkl --output dist`],
    read: ({ operands, options }) => ({ verb: 'task get', task: taskOf(operands), ...delivery(options) }),
  });
}

function addReceiptGrammar<C>(grammar: Grammar<C | TaskCommand>, bin: string): void {
  grammar.group('receipt', 'the signed proof of who ran what');
  grammar.leaf('receipt', {
    usage: 'show <task>',
    summary: 'print the receipt file of a task',
    options: [v.option('--output <file>', 'write it there', v.text('--output'))],
    examples: [`${bin} receipt show abcdefghijkl > receipt.json`],
    read: ({ operands, options }) => ({
      verb: 'receipt show',
      task: v.task(operands[0] ?? ''),
      output: or(options.output),
    }),
  });
  grammar.leaf('receipt', {
    usage: 'verify [file]',
    summary: 'check a receipt file, offline. With --mesh the last line begins "proved:" or "not proved:"',
    about:
      'Checks a receipt file, offline. With --mesh the last line begins "proved:" or "not proved:". With --repo the ' +
      'commit must be in that repository, which runs nothing; without a file the receipt is read from the note on --commit.',
    options: [
      v.option('--mesh <id>', 'the mesh it must come from', v.mesh),
      v.option('--repo <path>', 'a repository that must have the commit', v.text('--repo')),
      v.option('--commit <rev>', 'the commit it must be about (without a file: HEAD)', v.text('--commit')),
    ],
    examples: [
      `${bin} receipt verify receipt.json --mesh $MESH --repo .`,
      `${bin} receipt verify --repo . --commit main --mesh $MESH`,
    ],
    read: ({ operands, options }) => {
      const file = operands[0] === undefined ? null : v.text('the file')(operands[0]);
      const commit = or<string>(options.commit);
      const repo = or<string>(options.repo) ?? (commit === null ? null : '.');
      if (file === null && repo === null) {
        throw usageError('receipt verify needs a receipt', {
          expected: 'a file, or --repo and --commit',
          got: 'neither',
          hint: `${bin} receipt verify receipt.json --mesh MESH`,
        });
      }
      return { verb: 'receipt verify', file, mesh: or(options.mesh), repo, commit };
    },
  });
}
