import { goalCharactersMax } from '../../protocol/limits.ts';
import type { CodeSpecInput } from '../../protocol/task.ts';
import { type Axis, matrixAxis } from './matrix-grammar.ts';
import type { Grammar } from './parse.ts';
import { agreeOptions, type ScheduleWishes, scheduleOf, scheduleOptions } from './schedule-grammar.ts';
import { usageError } from './usage-errors.ts';
import * as v from './values.ts';

/** What follows a task to its end, and where its result goes. */
export interface Delivery {
  /** As typed; null: the repository around the current folder; false: none. */
  repo: string | null | false;
  output: string | null;
  force: boolean;
}

/** What a submitter may say about a task; null or empty where the founder's defaults hold. */
export interface TaskWishes {
  /** Null: those of the repository's manifest. */
  checks: string[] | null;
  checkFiles: string[] | null;
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

/** What holds for all that is sent at once. */
export interface Shared extends Delivery {
  ref: string | null;
  includeDirty: boolean;
  wait: boolean;
  allowWaiting: boolean;
  correlation: string | null;
}

/** What both ways to send work are told. */
interface Sending extends Shared, ScheduleWishes {
  follow: boolean;
  /** Every combination is a task; none: it is one. */
  matrix: Axis[];
}
export type SubmitCommand = { verb: 'task submit'; file: string } & Shared;
export type SendCommand =
  | ({ verb: 'task run'; wishes: TaskWishes & { argv: string[] } } & Sending)
  | ({ verb: 'task code'; wishes: TaskWishes & { code: CodeSpecInput['code'] } } & Sending);

export const repoOption = () =>
  v.option('--repo <path>', 'the repository (default: the one around this folder)', v.text('--repo'));
export const deliveryOptions = () => [
  repoOption(),
  v.option('--no-repo', 'no repository: an empty workspace, no branch placed'),
  v.option('--output <dir>', 'folder for artifacts (default: ./mesh-ID)', v.text('--output')),
  v.option('--force', 'write over artifacts and over branch mesh/ID'),
];
export const waitOptions = () => [
  v.option('--wait', 'wait for the end, place branch mesh/ID, exit 0 or 1 by the result'),
  v.option('--follow', 'like --wait, with the live output on stderr'),
];

export type Options = Record<string, unknown>;
export const or = <T>(value: unknown): T | null => (value as T | undefined) ?? null;
const list = (value: unknown): string[] => (value as string[] | undefined) ?? [];
export const flag = (value: unknown): boolean => value === true;
const map = (value: unknown): Record<string, string> => (value as Record<string, string> | undefined) ?? {};
const repoOf = (options: Options): string | null | false =>
  options.repo === false ? false : or<string>(options.repo);
export const delivery = (options: Options): Delivery => ({
  repo: repoOf(options),
  output: or(options.output),
  force: flag(options.force),
});

/** Options of every way to send work; `what` is what the time limit ends. */
const sendOptions = (what: string) => [
  ...deliveryOptions(),
  v.option('--ref <rev>', 'commit, branch or tag to run on (default: HEAD)', v.text('--ref')),
  v.option('--include-dirty', 'send the files as they are: uncommitted and untracked ones, not ignored ones'),
  v.option(
    '--check <line>',
    'shell line that must exit 0 afterwards; repeatable (default: `checks` of .superfleet.yaml)',
    v.checkLine,
  ),
  v.option('--no-check', 'no checks, whatever .superfleet.yaml says'),
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
  v.option('--timeout <duration>', `end ${what} after this (default: 30m)`, v.duration('--timeout')),
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
  v.option('--artifact <glob>', 'files to bring back besides the commit; repeatable', v.globOf('--artifact')),
  v.option('--memory <size>', 'memory of the whole task (default: 4GiB)', v.size('--memory')),
  v.option('--processes <n>', 'processes of the task (default: 512)', v.integer('--processes', 1, 65_536)),
  v.option('--disk <size>', 'bytes of its workspace (default: 8GiB)', v.size('--disk')),
  v.option('--require-verified', 'wait for a verifier rather than end unverified'),
  ...scheduleOptions(),
  v.option(
    '--matrix <name=a,b>',
    'a task for every combination; {name} in command, goal, --env, --label and --check; repeatable',
    matrixAxis,
  ),
  ...waitOptions(),
  v.option('--correlation <id>', 'an id of yours, carried everywhere', v.correlation),
];

function sending(options: Options): { shared: TaskWishes; sent: Sending } {
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
  const matrix = (options.matrix as Axis[] | undefined) ?? [];
  const single = flag(options.follow) ? '--follow' : options.key === undefined ? null : '--key';
  if (matrix.length > 0 && single !== null) {
    throw usageError(`--matrix and ${single} exclude each other`, {
      expected: 'one of them',
      got: 'both',
      hint: single === '--key' ? 'a key names one task' : '--wait waits for all; task logs -f follows one',
    });
  }
  return {
    shared: {
      checks: options.check === false ? [] : or(options.check),
      checkFiles: or(options.checkFile),
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
    sent: {
      ref: or(options.ref),
      includeDirty,
      wait: flag(options.wait) || flag(options.follow),
      follow: flag(options.follow),
      correlation: or(options.correlation),
      matrix,
      ...scheduleOf(options),
      ...delivery(options),
    },
  };
}

/** Adds `task run` and `task code`. */
export function addSendGrammar<C>(grammar: Grammar<C | SendCommand>, bin: string): void {
  grammar.leaf('task', {
    usage: 'run',
    summary: 'send a command to run on another machine; prints the id of the task',
    about:
      'Sends a command to run on another machine. What follows -- is argv, run without a shell in a copy of the ' +
      'repository at --ref; uncommitted changes are sent only by --include-dirty. ' +
      'Prints the id of the task.',
    takesArgv: true,
    options: [...sendOptions('the command'), ...agreeOptions()],
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
      const { shared, sent } = sending(options);
      return { verb: 'task run', wishes: { argv, ...shared }, ...sent };
    },
  });
  grammar.leaf('task', {
    usage: 'code <goal>',
    summary: 'send a goal that a model pursues on another machine until the checks are green',
    about:
      'Sends a goal in words. A machine that offers a model works on it in a copy of the repository at --ref, with tools in a sandbox, ' +
      'until the model says that it is done and every --check is green; another machine then verifies it. ' +
      'Prints the id of the task.',
    options: [
      ...sendOptions('the work of the model'),
      v.option(
        '--brain <name>',
        'only this: ollama, openai, or an agent of a machine (default: any model)',
        v.brain,
      ),
      v.option(
        '--persona <name>',
        'whom the model speaks as; benjamin and lucas write, all others read (default: benjamin)',
        v.persona,
      ),
      v.option('--turns <n>', 'answers of the model at most (default: 40)', v.integer('--turns', 1, 1000)),
      v.option(
        '--tokens <n>',
        'tokens of prompts and answers at most (default: 2000000)',
        v.integer('--tokens', 1, 2 ** 40),
      ),
      v.option(
        '--heals <n>',
        'times a red check is shown to the model to be mended (default: 3)',
        v.integer('--heals', 0, 20),
      ),
      v.option(
        '--tag <word>',
        'what kind of work it is: docs, formatting, testing, automated and review get short instructions and answers, complex a plan; again for more',
        v.tag,
      ),
      v.option(
        '--cloud',
        'a cloud may be asked, where no other model answers and a budget of money has room',
      ),
      v.option('--single-turn', 'one answer of the model, for a goal that needs no looking around'),
    ],
    examples: [
      `${bin} task code 'mend parseDate' --check 'npm test' --follow`,
      `${bin} task code 'mend the typo in README' --single-turn`,
      `${bin} task code 'say in docs/ how to install it' --tag docs`,
    ],
    read: ({ options, operands }) => {
      const goal = (operands[0] ?? '').trim();
      if (goal === '' || goal.length > goalCharactersMax) {
        throw usageError('the goal is not of the form asked for', {
          expected: `1 to ${goalCharactersMax} characters`,
          got: `${goal.length} characters`,
          hint: 'what is long belongs into a file of the repository that the goal names',
        });
      }
      const code: CodeSpecInput['code'] = { goal };
      if (options.brain !== undefined) code.brain = options.brain as string;
      if (options.persona !== undefined) code.persona = options.persona as string;
      if (options.turns !== undefined) code.turns = options.turns as number;
      if (options.tokens !== undefined) code.tokens = options.tokens as number;
      if (options.heals !== undefined) code.heals = options.heals as number;
      if (options.tag !== undefined) code.tags = options.tag as string[];
      if (flag(options.cloud)) code.cloud = true;
      if (flag(options.singleTurn)) code.mode = 'single';
      const { shared, sent } = sending(options);
      return { verb: 'task code', wishes: { code, ...shared }, ...sent };
    },
  });
}
