import { type AttemptRecord, findAttempt, type TaskRecord } from '../../../ledger/state/task-record.ts';
import { type AboutReceipt, OtherTask } from '../../../protocol/acceptance.ts';
import { asSuperfleetError } from '../../../protocol/errors.ts';
import { artifactBytesMax, artifactsTotalBytesMax, logBytesMax } from '../../../protocol/limits.ts';
import type { AttemptResult } from '../../../protocol/session.ts';
import { logWordsBytesMax } from '../config.ts';
import type { CheckedResult, FounderContext } from '../context.ts';

/** Why a result is not accepted. `lie`: its member signed what is not so, or signed it with another key. */
export interface Refusal {
  refused: string;
  lie: boolean;
}

/** The envelope's facts where every one is as expected, else what is not. */
export function checkResult(
  ctx: FounderContext,
  task: TaskRecord,
  attempt: AttemptRecord,
  result: AttemptResult,
): CheckedResult | Refusal {
  const { id, spec } = task;
  const expected = {
    mesh: ctx.mesh,
    member: ctx.member(attempt.member)?.peer ?? null,
    assignment: { task: id, attempt: attempt.number, epoch: attempt.epoch, nonce: attempt.nonce, spec },
    result,
  };
  const tooMuch = excess(spec, result);
  if (tooMuch !== null) return { refused: tooMuch, lie: false };
  try {
    if (attempt.role === 'execute') return { role: 'execute', result, ...ctx.checks.receipt(expected) };
    const about = aboutAccepted(task);
    if (about === null)
      return { refused: 'what it verifies is not the accepted result any more', lie: false };
    return { role: 'verify', result, ...ctx.checks.verification(expected, about) };
  } catch (error) {
    const { code, message } = asSuperfleetError(error);
    if (code !== 'SF_NOT_PROVED') throw error;
    return { refused: message, lie: expected.member !== null && !(error instanceof OtherTask) };
  }
}

/** What the log keeps of the accepted receipt, for a verification to be held against. */
function aboutAccepted(task: TaskRecord): AboutReceipt | null {
  const { accepted } = task;
  const attempt = accepted === null ? null : findAttempt(task, accepted.attempt);
  if (accepted === null || attempt === null) return null;
  return {
    digest: accepted.receipt,
    facts: {
      task: task.id,
      attempt: accepted.attempt,
      epoch: attempt.epoch,
      nonce: attempt.nonce,
      executor: accepted.member,
      commit: accepted.commit,
      spec: { checks: task.spec.checks },
    },
  };
}

/** What no attempt returns: it would only fill this founder's disk. Null where there is nothing of that kind. */
function excess(spec: TaskRecord['spec'], { artifacts, log }: AttemptResult): string | null {
  if (spec.artifacts.length === 0 && artifacts.length > 0) return 'it brings artifacts that nobody asked for';
  const large = artifacts.find(({ bytes }) => bytes > artifactBytesMax);
  if (large !== undefined) return `an artifact has ${large.bytes} bytes, more than ${artifactBytesMax}`;
  const all = artifacts.reduce((sum, { bytes }) => sum + bytes, 0);
  if (all > artifactsTotalBytesMax)
    return `the artifacts have ${all} bytes, more than ${artifactsTotalBytesMax}`;
  const logMax = logBytesMax + logWordsBytesMax;
  return log !== null && log.bytes > logMax ? `the log has ${log.bytes} bytes, more than ${logMax}` : null;
}

/** A receipt that keeps quiet about what the result does to its own checks is no ground to call it verified. */
export function hiddenChange(task: TaskRecord, seen: readonly string[]): string | null {
  if (seen.length === 0 || task.accepted!.checksChanged.length > 0) return null;
  return `the result changes the files that check it, and the receipt does not say so: ${seen.slice(0, 8).join(', ')}`;
}
