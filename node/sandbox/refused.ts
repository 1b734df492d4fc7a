import { Readable } from 'node:stream';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { noSandbox } from './host.ts';
import type { SandboxProcess, SandboxRun } from './types.ts';

/** The sandbox that was never made. */
export function failedStart(thrown: unknown): SandboxProcess {
  const error = asSuperfleetError(thrown);
  const cause =
    error.code === 'SF_NO_SANDBOX'
      ? error
      : noSandbox(`the sandbox could not be started: ${error.message}`, 'run `mesh-node doctor`', thrown);
  const ended = Promise.reject(cause);
  ended.catch(() => {}); // Whoever awaits it is told; a caller that was aborted before is not a crash.
  return { stdout: Readable.from([]), stderr: Readable.from([]), stdin: null, ended, ...endless };
}

/** Bytes of argv and environment, and names in it: under what execve and bwrap take, with room for the wrapper. */
const WORDS_BYTES_MAX = 1024 * 1024;
const NAMES_MAX = 2048;
const EXIT_NOT_RUN = 126;

/** What no kernel would run is the task's fault: it ends as a shell would have ended it, with a word on stderr. */
export function refusal(run: SandboxRun): SandboxProcess | null {
  const words = [...run.argv, ...Object.entries(run.env).flat()];
  const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0);
  const why =
    bytes > WORDS_BYTES_MAX || Object.keys(run.env).length > NAMES_MAX
      ? 'argument list or environment too long'
      : words.some((word) => word.includes('\0'))
        ? 'an argument or a variable holds a zero byte'
        : null;
  if (why === null) return null;
  return {
    stdout: Readable.from([]),
    stderr: Readable.from([Buffer.from(`${why}\n`)]),
    stdin: null,
    ended: Promise.resolve({ exitCode: EXIT_NOT_RUN, killedBy: null, signal: null, wallMs: 0 }),
    ...endless,
  };
}

/** There is nothing that could be ended or suspended. */
const endless = { kill: () => {}, suspend: () => {}, resume: () => {} };
