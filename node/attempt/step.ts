import type { TaskSpec } from '../../protocol/task.ts';
import { offlineVariables } from '../environment/network-variables.ts';
import { printable } from '../git/fault.ts';
import type { Mount, Sandbox, SandboxEnd, SandboxRun } from '../sandbox/types.ts';
import { AttemptFailure } from './failure.ts';
import type { AttemptLog } from './log.ts';

/** One command of a task in the sandbox: the task's own, or one of its checks. */
export interface Step {
  /** How the log and the words for people call it: `the command`, `check 1 of 2`. */
  name: string;
  /** What is shown of it. */
  line: string;
  argv: string[];
  env: Record<string, string>;
  timeoutMs: number;
}

/** What a step needs of the attempt's log; who wants the output too puts itself before it. */
export type StepLog = Pick<AttemptLog, 'say' | 'write' | 'masked'>;

/** Last bytes of stderr, for naming what was missing. */
const complaintBytesMax = 4096;

/** The sandbox of a step, which has no network. */
export const stepInSandbox = (
  step: Step,
  mounts: Mount[],
  workspace: string,
  limits: TaskSpec['limits'],
): SandboxRun => ({
  argv: step.argv,
  env: { ...offlineVariables, ...step.env },
  mounts,
  cwd: '/workspace',
  limits: {
    memoryBytes: limits.memoryBytes,
    processes: limits.processes,
    diskBytes: limits.workspaceBytes,
    watchBytesIn: workspace,
    wallMs: step.timeoutMs,
  },
  stdin: null,
});

/**
 * Runs a step to its end, output into the log and, as it comes, to `tap`. Resolves with its exit code; throws an `AttemptFailure` where a limit
 * or the clock ended it, or where it could not start here: that is this machine's lack, neither red nor green.
 */
export async function runStep(
  sandbox: Sandbox,
  step: Step,
  mounts: Mount[],
  workspace: string,
  limits: TaskSpec['limits'],
  log: StepLog,
  member: string,
  signal: AbortSignal,
  tap: (chunk: Buffer) => void = () => {},
): Promise<number> {
  signal.throwIfAborted();
  await log.say(`${step.name}: ${step.line}`);
  const started = sandbox.start(stepInSandbox(step, mounts, workspace, limits), signal);
  let complaint = Buffer.alloc(0);
  const copy = async (stream: AsyncIterable<Buffer>, complains: boolean): Promise<void> => {
    try {
      for await (const chunk of stream) {
        if (complains) complaint = Buffer.concat([complaint, chunk]).subarray(-complaintBytesMax);
        tap(chunk);
        await log.write(chunk);
      }
    } catch {
      // The pipe broke with the sandbox; how that ended is what counts.
    }
  };
  const copied = Promise.all([copy(started.stdout, false), copy(started.stderr, true)]);
  const end = await started.ended;
  await copied;
  signal.throwIfAborted();
  const said = lastLine(log.masked(complaint.toString('utf8')));
  return judge(end, step, limits, said, log, member);
}

async function judge(
  end: SandboxEnd,
  step: Step,
  limits: TaskSpec['limits'],
  said: string,
  log: StepLog,
  member: string,
): Promise<number> {
  const failure = failureOf(end, step, limits, said, member);
  await log.say(failure === null ? `${step.name}: exit ${end.exitCode}` : failure.message);
  if (failure !== null) throw failure;
  return end.exitCode ?? -1;
}

function failureOf(
  end: SandboxEnd,
  step: Step,
  limits: TaskSpec['limits'],
  said: string,
  member: string,
): AttemptFailure | null {
  switch (end.killedBy) {
    case 'timeout':
      return new AttemptFailure('timeout', 'task', `${step.name} was ended after its ${step.timeoutMs} ms`);
    case 'memory':
      return killed(step, `memory limit of ${limits.memoryBytes} bytes`);
    case 'processes':
      return killed(step, `limit of ${limits.processes} processes`);
    case 'disk':
      return killed(step, `workspace limit of ${limits.workspaceBytes} bytes`);
    case 'stopped':
      return new AttemptFailure('environment', 'machine', `${step.name} was stopped on ${member}`);
    case null:
      break;
    default:
      end.killedBy satisfies never;
  }
  if (end.exitCode === null) {
    return new AttemptFailure(
      'environment',
      'machine',
      `the sandbox of ${step.name} was ended by ${end.signal} on ${member}`,
    );
  }
  if (end.exitCode !== 126 && end.exitCode !== 127) return null;
  const tool = missingTool(said) ?? firstWord(step);
  const words = said === '' ? '' : `: ${said}`;
  return new AttemptFailure(
    'environment',
    'machine',
    `${step.name} could not start ${tool} on ${member} (exit ${end.exitCode}${words}). Install ${tool} there, or send the task to a member that has it (--on, --label).`,
    end.exitCode,
  );
}

const killed = (step: Step, limit: string): AttemptFailure =>
  new AttemptFailure('signal', 'task', `${step.name} was killed at its ${limit}`);

/** The name in `sh: 1: foo: not found`, `bash: line 1: foo: command not found`, `prlimit: failed to execute foo: …`. */
function missingTool(said: string): string | null {
  const match =
    /failed to execute (.+?): /.exec(said) ??
    /(?:^|: )([^:]+): (?:command not found|not found|Permission denied|No such file or directory)/.exec(said);
  return match?.[1]?.trim().slice(0, 128) ?? null;
}

const firstWord = (step: Step): string => printable(step.line.trim().split(/\s+/)[0] ?? 'it').slice(0, 128);

function lastLine(text: string): string {
  const last = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .at(-1);
  return printable(last ?? '').slice(0, 400);
}
