import { z } from 'zod';
import { AttemptFailure } from '../../attempt/failure.ts';
import { runStep, type StepLog } from '../../attempt/step.ts';
import { HeadAndTail } from './output.ts';
import { defineTool, ToolFault } from './tool.ts';

const headBytes = 4_000;
/** What went wrong is mostly said last. */
const tailBytes = 10_000;
const defaultSeconds = 120;

export const run = defineTool({
  name: 'run',
  description:
    'Runs a command line by sh -c in /workspace, in a sandbox without network. Nothing goes on running after it. Gives the exit code and what it printed.',
  needs: 'run',
  parameters: z.strictObject({
    command: z
      .string()
      .min(1)
      .max(8192)
      .refine((line) => !line.includes('\0'), 'a command line has no NUL in it'),
    seconds: z.int().min(1).max(3600).default(defaultSeconds).describe('It is ended after these'),
  }),
  async run({ command, seconds }, context, signal) {
    const { sandbox, place, limits, env, secrets, log, member } = context;
    const timeoutMs = Math.floor(Math.min(seconds * 1000, context.remainingMs()));
    if (timeoutMs < 1) throw new ToolFault('the time of the task is up; nothing more is run.');
    const output = new HeadAndTail(secrets, headBytes, tailBytes);
    const both: StepLog = {
      say: (line) => log.say(line),
      masked: (text) => log.masked(text),
      write: (chunk) => {
        output.push(chunk);
        return log.write(chunk);
      },
    };
    const step = {
      name: 'run',
      line: command,
      argv: ['sh', '-c', command],
      env: { ...env, ...secrets },
      timeoutMs,
    };
    let words: string;
    let failed = true;
    try {
      const exitCode = await runStep(sandbox, step, place.mounts, place.path, limits, both, member, signal);
      words = `exit ${exitCode}`;
      failed = exitCode !== 0;
    } catch (error) {
      signal.throwIfAborted();
      words = wordsFor(error);
    }
    const printed = output.text('print less, or into a file and read that').replace(/\n+$/, '');
    return { content: `${words}\n${printed === '' ? '(it printed nothing)' : printed}`, failed };
  },
});

/** A bound that ended the command, or a program that is not there, is the model's to know; what else failed is this machine. */
function wordsFor(error: unknown): string {
  if (!(error instanceof AttemptFailure)) throw error;
  if (error.exitCode !== null) {
    const why = error.exitCode === 126 ? 'may not be executed' : 'is not on this machine';
    return `exit ${error.exitCode}: a program that it needs ${why}`;
  }
  if (error.reason === 'environment') throw error;
  return error.message;
}
