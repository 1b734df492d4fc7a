import { SuperfleetError } from '../../protocol/errors.ts';
import type { FailureReason, Fault } from '../../protocol/task.ts';
import { GitFault } from '../git/fault.ts';
import { ArtifactFault } from './artifacts.ts';

/** Why an attempt ended without success, and whose fault it is; the message is for a person. */
export class AttemptFailure extends Error {
  readonly reason: FailureReason;
  readonly fault: Fault;
  /** Exit code of the step that failed, where it had one. */
  readonly exitCode: number | null;
  /** Models that let it down, where that is why. */
  failedModels: readonly string[] = [];

  constructor(reason: FailureReason, fault: Fault, detail: string, exitCode: number | null = null) {
    super(detail);
    this.exitCode = exitCode;
    this.name = 'AttemptFailure';
    this.reason = reason;
    this.fault = fault;
  }
}

/** Every error as a failure: what nobody foresaw is the machine's fault and costs the task nothing. */
export function asFailure(error: unknown, member: string): AttemptFailure {
  if (error instanceof AttemptFailure) return error;
  if (error instanceof ArtifactFault) return new AttemptFailure('task', 'task', error.message);
  if (error instanceof GitFault) {
    switch (error.of) {
      case 'input':
        return new AttemptFailure('refused', 'task', error.message);
      case 'work':
        return new AttemptFailure('task', 'task', error.message);
      case 'result':
        return new AttemptFailure('check', 'task', error.message);
      case 'machine':
        return new AttemptFailure('environment', 'machine', `${member}: ${error.message}`);
      default:
        return error.of satisfies never;
    }
  }
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof SuperfleetError && error.hint !== null ? `; ${error.hint}` : '';
  return new AttemptFailure('environment', 'machine', `${member}: ${message}${hint}`);
}
