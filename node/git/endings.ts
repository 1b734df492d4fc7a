import { GitFault, type GitFaultOf, printable } from './fault.ts';
import type { GitEnd } from './sandboxed-git.ts';
import { STEP } from './scripts.ts';

/** Files one workspace may begin with. More than any honest repository; fewer than would fill a disk with inodes. */
export const workspaceFilesMax = 1_000_000;

/** Whose fault it is that a checkout could not be made. */
export function prepareFault(
  end: GitEnd,
  { base, verifying, bytesMax }: { base: string; verifying: boolean; bytesMax: number },
): GitFault {
  const said = lastLine(end.complaint);
  const { exitCode, killedBy } = end.end;
  if (killedBy !== null) {
    return new GitFault(verifying ? 'result' : 'input', `unpacking it was ended: ${boundWords(killedBy)}`);
  }
  switch (exitCode) {
    case STEP.inputBundle:
      return new GitFault('input', `the bundle of the repository does not unpack: ${said}`);
    case STEP.inputBase:
      return new GitFault('input', `the bundles do not lead to the commit ${base}: ${said}`);
    case STEP.inputSize:
    case STEP.resultSize: {
      const of: GitFaultOf = exitCode === STEP.inputSize ? 'input' : 'result';
      return new GitFault(
        of,
        `its tree unpacks to more than fits: at most ${workspaceFilesMax} files and ${bytesMax} bytes are taken`,
      );
    }
    case STEP.inputCheckout:
      return new GitFault('input', `the commit ${base} cannot be checked out: ${said}`);
    case STEP.resultBundle:
      return new GitFault('result', `the bundle of the result does not unpack: ${said}`);
    case STEP.resultCommit:
      return new GitFault('result', `the bundle of the result does not hold its commit: ${said}`);
    case STEP.resultCheckout:
      return new GitFault('result', `the result cannot be checked out: ${said}`);
    default:
      return new GitFault('machine', `git ended with ${exitCode ?? end.end.signal}: ${said}`);
  }
}

/** How git ended, unless that was by the signal or by what this machine lacks. */
export function ended(end: GitEnd, signal: AbortSignal): GitEnd {
  signal.throwIfAborted();
  if (/No space left on device|Disk quota exceeded/.test(end.complaint)) {
    throw new GitFault('machine', `the disk is full: ${lastLine(end.complaint)}`);
  }
  if (end.end.exitCode === 126 || end.end.exitCode === 127) {
    throw new GitFault('machine', `git could not start in its sandbox: ${lastLine(end.complaint)}`);
  }
  return end;
}

/** Whose fault it is that what a task left could not be made a commit. */
export function takeFault({ end, complaint }: GitEnd): GitFault {
  if (end.killedBy !== null)
    return new GitFault('work', `making the commit was ended: ${boundWords(end.killedBy)}`);
  const said = firstError(complaint);
  switch (end.exitCode) {
    case STEP.add:
    case STEP.tree:
      return new GitFault('work', `git refuses what the task left in the workspace: ${said}`);
    case STEP.commit:
    case STEP.pack:
      return new GitFault('machine', `the commit could not be made: ${said}`);
    default:
      return new GitFault('machine', `git ended with ${end.exitCode ?? end.signal}: ${said}`);
  }
}

const boundWords = (killedBy: string): string =>
  ({
    memory: 'it needed too much memory',
    processes: 'it needed too many processes',
    disk: 'it took too much of the disk',
    timeout: 'it took too long',
    stopped: 'it was stopped',
  })[killedBy] ?? killedBy;

const lines = (text: string): string[] => text.split('\n').filter((line) => line.trim() !== '');
/** The last thing git said: the outermost reason. */
export const lastLine = (text: string): string =>
  printable(lines(text).at(-1) ?? 'it said nothing').slice(0, 512);
/** The first error git said: the one that names the path. */
const firstError = (text: string): string =>
  printable(
    lines(text).find((line) => line.startsWith('error:')) ?? lines(text).at(-1) ?? 'it said nothing',
  ).slice(0, 512);
