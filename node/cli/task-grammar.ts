import { FAILURE_REASONS, type TaskState } from '../../protocol/task.ts';
import type { Grammar } from './parse.ts';
import type { FailedTasks } from './rerun-failed.ts';
import {
  addSendGrammar,
  type Delivery,
  delivery,
  deliveryOptions,
  flag,
  or,
  repoOption,
  type SendCommand,
  type SubmitCommand,
  waitOptions,
} from './send-grammar.ts';
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

/** The verbs both bins have. */
export type TaskCommand =
  | SendCommand
  | SubmitCommand
  | {
      verb: 'task list';
      states: string[] | null;
      ofCorrelation: string | null;
      cursor: string | null;
      limit: number;
    }
  | { verb: 'task describe'; task: string }
  | { verb: 'task logs'; task: string; follow: boolean }
  | { verb: 'task stop'; task: string }
  | { verb: 'task answer'; task: string; text: string }
  | ({ verb: 'task continue'; task: string; text: string | null; wait: boolean; follow: boolean } & Delivery)
  | ({ verb: 'task rerun'; task: string; wait: boolean; follow: boolean } & Delivery)
  | ({ verb: 'task rerun --failed' } & FailedTasks)
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

/** Adds `task …` and `receipt …` to a grammar. */
export function addTaskGrammar<C>(grammar: Grammar<C | TaskCommand>, bin: string): void {
  grammar.group('task', 'send work, see it, take the result');
  addSendGrammar(grammar, bin);
  addTaskReaders(grammar, bin);
  addReceiptGrammar(grammar, bin);
}

function addTaskReaders<C>(grammar: Grammar<C | TaskCommand>, bin: string): void {
  const taskOf = (operands: string[]): string => v.task(operands[0] ?? '');
  grammar.leaf('task', {
    usage: 'submit <file>',
    summary: 'send the tasks of a YAML or JSON list, all or none; prints an id for each',
    about:
      'Sends the tasks of a YAML or JSON list, all of them or none. Each says run: [COMMAND, ARGUMENT...] or code: GOAL, and the flags of ' +
      'task run without their dashes; name: gives it a name, and after: [NAME] lets it come after others. Prints an id for each.',
    options: [
      ...deliveryOptions(),
      v.option('--ref <rev>', 'commit, branch or tag to run on (default: HEAD)', v.text('--ref')),
      v.option(
        '--include-dirty',
        'send the files as they are: uncommitted and untracked ones, not ignored ones',
      ),
      v.option('--wait', 'wait for the end of all, place their branches, exit 1 if one failed'),
      v.option('--allow-waiting', 'queue also what no machine of the mesh can ever take'),
      v.option('--correlation <id>', 'an id of yours, carried everywhere', v.correlation),
    ],
    examples: [`${bin} task submit nightly.yaml --wait`],
    read: ({ operands, options }) => ({
      verb: 'task submit',
      file: v.text('the file')(operands[0] ?? ''),
      ref: or(options.ref),
      includeDirty: flag(options.includeDirty),
      wait: flag(options.wait),
      allowWaiting: flag(options.allowWaiting),
      correlation: or(options.correlation),
      ...delivery(options),
    }),
  });
  grammar.leaf('task', {
    usage: 'list',
    summary: 'list tasks, newest first',
    options: [
      v.option('--state <states>', 'only these states, by comma', v.words('--state', TASK_STATES)),
      v.option('--correlation <id>', 'only those sent with this id, as a matrix or batch is', v.correlation),
      v.option('--cursor <cursor>', 'go on where the last page ended', v.text('--cursor')),
      v.option('--limit <n>', 'tasks on a page (default: 100)', v.integer('--limit', 1, 1000)),
    ],
    examples: [`${bin} task list --state queued,running`],
    read: ({ options }) => ({
      verb: 'task list',
      states: or(options.state),
      ofCorrelation: or(options.correlation),
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
    usage: 'answer <task> <text>',
    summary: 'answer what the model of a task asked; the task goes on',
    examples: [`${bin} task answer abcdefghijkl 'the file in src, not that in lib'`],
    read: ({ operands }) => ({
      verb: 'task answer',
      task: taskOf(operands),
      text: v.text('the answer')(operands[1] ?? ''),
    }),
  });
  grammar.leaf('task', {
    usage: 'continue <task> [text]',
    summary: 'go on from the part that a goal left behind, with a remark; prints the new id',
    options: [...waitOptions(), ...deliveryOptions()],
    examples: [`${bin} task continue abcdefghijkl 'the tests are there now' --wait`],
    read: ({ operands, options }) => ({
      verb: 'task continue',
      task: taskOf(operands),
      text: operands[1] === undefined ? null : v.text('the remark')(operands[1]),
      wait: flag(options.wait) || flag(options.follow),
      follow: flag(options.follow),
      ...delivery(options),
    }),
  });
  grammar.leaf('task', {
    usage: 'rerun [task]',
    summary: 'send the same task again; prints the new id. With --failed: all that failed',
    options: [
      v.option('--failed', 'every failed task that was not sent again yet'),
      v.option('--since <duration>', 'with --failed: that ended in this time', v.duration('--since')),
      v.option(
        '--reason <reason>',
        'with --failed: that ended with this reason',
        v.oneOf('--reason', FAILURE_REASONS),
      ),
      ...waitOptions(),
      ...deliveryOptions(),
    ],
    examples: [
      `${bin} task rerun abcdefghijkl --wait`,
      `${bin} task rerun --failed --since 2h --reason timeout`,
    ],
    read: ({ operands, options }) => {
      const alone = ['since', 'reason'].filter((name) => options[name] !== undefined);
      if (flag(options.failed)) {
        const beside = [...operands, ...(flag(options.wait) || flag(options.follow) ? ['--wait'] : [])];
        if (beside.length === 0) {
          return { verb: 'task rerun --failed', sinceMs: or(options.since), reason: or(options.reason) };
        }
        throw usageError('--failed is about many tasks, and waits for none', {
          expected: '--failed, with --since or --reason',
          got: beside.join(' '),
        });
      }
      if (alone.length > 0 || operands[0] === undefined) {
        throw usageError('task rerun needs a task, or --failed', {
          expected: 'a task, or --failed with --since or --reason',
          got: alone.length > 0 ? alone.map((name) => `--${name}`).join(' ') : 'neither',
          hint: `${bin} task list --state failed`,
        });
      }
      return {
        verb: 'task rerun',
        task: taskOf(operands),
        wait: flag(options.wait) || flag(options.follow),
        follow: flag(options.follow),
        ...delivery(options),
      };
    },
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
