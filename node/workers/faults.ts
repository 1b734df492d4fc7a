import { isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import { BrainError, type BrainFault } from '../brain/types.ts';
import { PrepareFailure } from '../environment/prepare.ts';
import type { SandboxEnd } from '../sandbox/types.ts';

/** An error as it crosses between a node and its worker: those that code looks at keep what it looks at. */
export type Fault =
  | { kind: 'superfleet'; error: ReturnType<SuperfleetError['toJSON']> }
  | { kind: 'brain'; fault: BrainFault; message: string; begun: boolean }
  | {
      kind: 'prepare';
      line: string;
      message: string;
      exitCode: number | null;
      killedBy: SandboxEnd['killedBy'];
      refusals: string[];
    }
  | { kind: 'other'; name: string; message: string };

export function faultOf(thrown: unknown): Fault {
  if (thrown instanceof SuperfleetError) return { kind: 'superfleet', error: thrown.toJSON() };
  if (thrown instanceof BrainError) {
    const { fault, message, begun } = thrown;
    return { kind: 'brain', fault, message, begun };
  }
  if (thrown instanceof PrepareFailure) {
    const { line, message, exitCode, killedBy, refusals } = thrown;
    return { kind: 'prepare', line, message, exitCode, killedBy, refusals };
  }
  // A `DOMException` of an aborted signal is no `Error` everywhere.
  const { name = 'Error', message = String(thrown) } = (thrown ?? {}) as Partial<Error>;
  return { kind: 'other', name: String(name), message: String(message) };
}

export function errorOf(fault: Fault): Error {
  switch (fault.kind) {
    case 'superfleet': {
      const { code, message, ...detail } = fault.error;
      return new SuperfleetError(isErrorCode(code) ? code : 'SF_INTERNAL', message, detail);
    }
    case 'brain':
      return new BrainError(fault.fault, fault.message, { begun: fault.begun });
    case 'prepare': {
      const { line, exitCode, killedBy, refusals, message } = fault;
      const failure = new PrepareFailure(line, { exitCode, killedBy, signal: null }, refusals);
      failure.message = message;
      return failure;
    }
    case 'other':
      return fault.name === 'TimeoutError'
        ? new DOMException(fault.message, 'TimeoutError')
        : new Error(fault.message);
    default:
      throw new SuperfleetError('SF_FRAME', 'an error of no known kind', {
        got: String(fault satisfies never),
      });
  }
}
